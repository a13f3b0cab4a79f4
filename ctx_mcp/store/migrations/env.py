"""Run the migrations on the connection handed over by `ctx_mcp.store.database`; there is no other way in."""

from __future__ import annotations

from alembic import context

from ctx_mcp.store.schema import metadata

connection = context.config.attributes["connection"]
# The caller holds the transaction: the whole upgrade and the revision stamp commit together or not at all.
context.configure(connection=connection, target_metadata=metadata, transactional_ddl=False)
context.run_migrations()
