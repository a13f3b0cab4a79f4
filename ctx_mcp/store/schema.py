"""The tables, as SQLAlchemy Core sees them. Normative page: docs/storage.md; migrations make the same tables.

Moments are microseconds since 1970 (`_at`), sizes are bytes. A node is what stands at a path now; a version is
what was ever written there; a content is a run of bytes that versions share by digest. A replica is a folder of this
machine that is synced with a part of a context; a base file is what both had after the last sync.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    text,
)

SCHEMA_REVISION = "0007"
"""Head of the migrations. What becomes of a store of another revision: `ctx_mcp.store.migrating`."""

INTERNAL_MARK = "\x01"
"""First character of the names of internal contexts: no name that a user gives can hold it (`normalize_name`)."""

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)

# SQLite's auto-incrementing key is INTEGER only; elsewhere it must hold more than 2**31.
_RowNumber = BigInteger().with_variant(Integer, "sqlite")

# One spelling, in the indexes and in the statements that want them used.
ACTIVE_TASK = "state IN ('working', 'input_required')"
ACTIVE_CLEAR = f"kind = 'clear' AND {ACTIVE_TASK}"
ACTIVE_SWEEP = f"kind = 'sweep' AND {ACTIVE_TASK}"
ACTIVE_SYNC = f"kind = 'sync' AND {ACTIVE_TASK}"


def _where(condition: str) -> dict[str, Any]:
    """Return what makes an index one of the rows that meet a condition, on both engines."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


# Names sort by code point everywhere, so that a page token means the same on every engine.
_Path = Text().with_variant(Text(collation="C"), "postgresql")

store_format = Table(
    "format",
    metadata,
    # One row. `revision` is that of `alembic_version`: where the two differ, nothing is known of who can read it.
    Column("revision", String(32), primary_key=True),
    Column("oldest_reader", String(32), nullable=False),
)

secrets = Table(
    "secrets",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", LargeBinary, nullable=False),
)

contexts = Table(
    "contexts",
    metadata,
    Column("context_id", String(64), primary_key=True),
    Column("account", String(255), nullable=False),
    Column("name", Text, nullable=False),
    Column("state", String(32), nullable=False),
    Column("generation", Integer, nullable=False, server_default="1"),
    Column("revision", BigInteger, nullable=False, server_default="1"),
    Column("file_count", BigInteger, nullable=False, server_default="0"),
    Column("size_bytes", BigInteger, nullable=False, server_default="0"),
    Column("created_at", BigInteger, nullable=False),
    Column("last_used_at", BigInteger, nullable=False),
    Column("deleted_at", BigInteger),
    Index("uq_contexts_account_name", "account", "name", unique=True, **_where("deleted_at IS NULL")),
    Index("ix_contexts_account_created", "account", "created_at", "context_id"),
    Index("ix_contexts_deleted_at", "deleted_at", **_where("deleted_at IS NOT NULL")),
)

contents = Table(
    "contents",
    metadata,
    Column("content_id", _RowNumber, primary_key=True, autoincrement=True),
    Column("account", String(255), nullable=False),
    Column("digest", String(64)),
    Column("size_bytes", BigInteger, nullable=False),
    Column("inline", LargeBinary),
    Column("object_key", String(128), unique=True),
    Column("created_at", BigInteger, nullable=False),
    Column("condemned_at", BigInteger),
    Index("ix_contents_account_digest", "account", "digest"),
    Index("ix_contents_condemned_at", "condemned_at", **_where("condemned_at IS NOT NULL")),
)

versions = Table(
    "versions",
    metadata,
    Column("version_id", _RowNumber, primary_key=True, autoincrement=True),
    Column("context_id", String(64), ForeignKey("contexts.context_id"), nullable=False),
    Column("file_id", String(64), nullable=False),
    Column("path", _Path, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("content_id", _RowNumber, ForeignKey("contents.content_id")),
    Column("size_bytes", BigInteger, nullable=False, server_default="0"),
    Column("digest", String(64)),
    Column("mode", Integer),
    Column("mtime_ns", BigInteger),
    Column("actor", Text, nullable=False, server_default=""),
    Column("created_at", BigInteger, nullable=False),
    Column("superseded_at", BigInteger),
    Index("ix_versions_context_path", "context_id", "path", "version_id"),
    Index("ix_versions_context_created", "context_id", "created_at", "version_id"),
    Index("ix_versions_content_id", "content_id"),
    Index("ix_versions_superseded_at", "superseded_at", **_where("superseded_at IS NOT NULL")),
    sqlite_autoincrement=True,
)

nodes = Table(
    "nodes",
    metadata,
    Column("context_id", String(64), ForeignKey("contexts.context_id"), primary_key=True),
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("parent", _Path, primary_key=True),
    Column("name", _Path, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("file_id", String(64), nullable=False),
    # No foreign key: checking it would scan all nodes for every version the sweep removes.
    Column("version_id", _RowNumber),
    Column("size_bytes", BigInteger, nullable=False, server_default="0"),
    Column("digest", String(64)),
    Column("mode", Integer),
    Column("mtime_ns", BigInteger),
    Column("child_count", BigInteger, nullable=False, server_default="0"),
    Column("created_at", BigInteger, nullable=False),
    Column("modified_at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

tasks = Table(
    "tasks",
    metadata,
    Column("task_id", String(64), primary_key=True),
    Column("account", String(255), nullable=False),
    Column("context_id", String(64), ForeignKey("contexts.context_id")),
    Column("kind", String(32), nullable=False),
    Column("state", String(32), nullable=False),
    Column("session_id", String(64)),
    # No foreign key: a session's replicas go when it ends, and the reports of its syncs stay.
    Column("replica_id", _RowNumber),
    Column("parameters", Text, nullable=False, server_default="{}"),
    Column("files_done", BigInteger, nullable=False, server_default="0"),
    Column("files_total", BigInteger),
    Column("bytes_done", BigInteger, nullable=False, server_default="0"),
    Column("bytes_total", BigInteger),
    Column("conflict_count", BigInteger, nullable=False, server_default="0"),
    Column("failure_count", BigInteger, nullable=False, server_default="0"),
    Column("skipped_count", BigInteger, nullable=False, server_default="0"),
    Column("error_code", String(64)),
    Column("error_message", Text),
    Column("lease_owner", String(64)),
    Column("lease_until", BigInteger),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    # Only processes of this data folder work on it; null: any process.
    Column("home", String(64)),
    Index("ix_tasks_context_id", "context_id", "kind", "created_at"),
    Index("uq_tasks_active_clear", "context_id", unique=True, **_where(ACTIVE_CLEAR)),
    Index("uq_tasks_active_sweep", "kind", unique=True, **_where(ACTIVE_SWEEP)),
    Index("ix_tasks_lease_until", "lease_until", **_where(ACTIVE_TASK)),
    Index("ix_tasks_finished_at", "finished_at", **_where("finished_at IS NOT NULL")),
    Index("ix_tasks_active_sync", "replica_id", "created_at", **_where(ACTIVE_SYNC)),
    Index("ix_tasks_replica_id", "replica_id", "created_at", **_where("replica_id IS NOT NULL")),
    Index("ix_tasks_session_id", "session_id", **_where("session_id IS NOT NULL")),
)

task_notes = Table(
    "task_notes",
    metadata,
    # No foreign key: the sweep takes a task's notes away in steps, and the task after them.
    Column("task_id", String(64), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("kind", String(32), nullable=False),
    Column("path", Text, nullable=False),
    Column("code", String(64), nullable=False),
    Column("text", Text, nullable=False),
    sqlite_with_rowid=False,
)

sessions = Table(
    "sessions",
    metadata,
    Column("session_id", String(64), primary_key=True),
    Column("account", String(255), nullable=False),
    Column("state", String(32), nullable=False),
    Column("labels", Text, nullable=False, server_default="{}"),
    Column("root", Text, nullable=False),
    Column("idle_timeout_s", Integer),
    Column("home", String(64)),
    Column("created_at", BigInteger, nullable=False),
    Column("last_used_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    Index("ix_sessions_account_created", "account", "created_at", "session_id"),
    Index("ix_sessions_last_used_at", "last_used_at", **_where("finished_at IS NULL")),
    Index("ix_sessions_finished_at", "finished_at", **_where("finished_at IS NOT NULL")),
)

replicas = Table(
    "replicas",
    metadata,
    Column("replica_id", _RowNumber, primary_key=True, autoincrement=True),
    Column("account", String(255), nullable=False),
    Column("context_id", String(64), ForeignKey("contexts.context_id"), nullable=False),
    Column("folder", Text, nullable=False),
    Column("context_path", _Path, nullable=False),
    Column("mark", String(64), nullable=False, server_default=""),
    Column("created_at", BigInteger, nullable=False),
    Column("synced_at", BigInteger),
    Column("lineage", String(64)),
    Index("uq_replicas_account_context_id_folder", "account", "context_id", "folder", "context_path", unique=True),
    Index("ix_replicas_context_id", "context_id"),
    # A number that came again would take over what an old task or a killed sync left under it.
    sqlite_autoincrement=True,
)

bindings = Table(
    "bindings",
    metadata,
    Column("session_id", String(64), ForeignKey("sessions.session_id"), primary_key=True),
    Column("path", _Path, primary_key=True),
    Column("account", String(255), nullable=False),
    Column("context_id", String(64), ForeignKey("contexts.context_id"), nullable=False),
    Column("replica_id", _RowNumber, ForeignKey("replicas.replica_id"), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("policy", Text),
    Column("bound_at", BigInteger, nullable=False),
    Index("ix_bindings_context_id", "context_id"),
    Index("ix_bindings_replica_id", "replica_id"),
    sqlite_with_rowid=False,
)

base_files = Table(
    "base_files",
    metadata,
    # No foreign keys: a sync writes these rows by the hundred thousand.
    Column("replica_id", _RowNumber, primary_key=True, autoincrement=False),
    Column("parent", _Path, primary_key=True),
    Column("name", _Path, primary_key=True),
    Column("version_id", _RowNumber, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("mtime_ns", BigInteger, nullable=False),
    Column("ctime_ns", BigInteger, nullable=False),
    Column("mode", Integer, nullable=False),
    Column("digest", String(64)),
    sqlite_with_rowid=False,
)

recycle_rules = Table(
    "recycle_rules",
    metadata,
    Column("context_id", String(64), ForeignKey("contexts.context_id"), primary_key=True),
    Column("path", _Path, primary_key=True),
    Column("days", Integer, nullable=False),
    Column("set_at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

accounts = Table(
    "accounts",
    metadata,
    Column("account", String(255), primary_key=True),
    Column("created_at", BigInteger, nullable=False),
    Column("suspended_at", BigInteger),
    Column("max_bytes", BigInteger),
    Column("max_files", BigInteger),
    Column("max_contexts", BigInteger),
    Column("max_requests_per_s", BigInteger),
    Column("requests_granted_until", BigInteger),
)

# Apart from the accounts: these rows change with every write, and those hardly ever.
usage = Table(
    "usage",
    metadata,
    Column("account", String(255), primary_key=True),
    Column("size_bytes", BigInteger, nullable=False, server_default="0"),
    Column("file_count", BigInteger, nullable=False, server_default="0"),
    Column("context_count", BigInteger, nullable=False, server_default="0"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("key_id", String(64), primary_key=True),
    Column("account", String(255), nullable=False),
    Column("name", Text, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("scopes", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("revoked_at", BigInteger),
    Column("last_used_at", BigInteger),
    Column("rotated_from", String(64)),
    Index("uq_api_keys_digest", "digest", unique=True),
    Index("ix_api_keys_account", "account", "created_at", "key_id"),
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("entry_id", _RowNumber, primary_key=True, autoincrement=True),
    Column("recorded_at", BigInteger, nullable=False),
    # Texts of any length: what a stranger sent, or another server calls a caller, may be longer than ours.
    Column("account", Text, nullable=False),
    Column("key_id", Text),
    Column("actor", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("operation", Text, nullable=False),
    Column("context_id", Text),
    Column("path", Text),
    Column("target", Text),
    Column("outcome", Text, nullable=False),
    Index("ix_audit_log_account", "account", "entry_id"),
)

uploads = Table(
    "uploads",
    metadata,
    Column("upload_key", String(128), primary_key=True),
    Column("account", String(255), nullable=False),
    Column("context_id", String(64), ForeignKey("contexts.context_id"), nullable=False),
    Column("path", _Path, nullable=False),
    Column("issued_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("mark", Text),
    Index("ix_uploads_context_id", "context_id", "expires_at"),
    Index("ix_uploads_expires_at", "expires_at"),
    sqlite_with_rowid=False,
)

turns = Table(
    "turns",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("held_until", BigInteger, nullable=False),
)
