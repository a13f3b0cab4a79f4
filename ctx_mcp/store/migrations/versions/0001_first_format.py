"""The first stored format: contexts, nodes, versions, contents, tasks, secrets."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_row_number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_path = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "contents",
        sa.Column("content_id", _row_number, autoincrement=True, nullable=False),
        sa.Column("account", sa.String(length=255), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("inline", sa.LargeBinary(), nullable=True),
        sa.Column("object_key", sa.String(length=128), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("condemned_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("content_id", name=op.f("pk_contents")),
        sa.UniqueConstraint("object_key", name=op.f("uq_contents_object_key")),
    )
    op.create_index("ix_contents_account_digest", "contents", ["account", "digest"], unique=False)
    op.create_index(
        "ix_contents_condemned_at",
        "contents",
        ["condemned_at"],
        unique=False,
        sqlite_where=sa.text("condemned_at IS NOT NULL"),
        postgresql_where=sa.text("condemned_at IS NOT NULL"),
    )
    op.create_table(
        "contexts",
        sa.Column("context_id", sa.String(length=64), nullable=False),
        sa.Column("account", sa.String(length=255), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("generation", sa.Integer(), server_default="1", nullable=False),
        sa.Column("revision", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("file_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("last_used_at", sa.BigInteger(), nullable=False),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("context_id", name=op.f("pk_contexts")),
    )
    op.create_index("ix_contexts_account_created", "contexts", ["account", "created_at", "context_id"], unique=False)
    op.create_index(
        "ix_contexts_deleted_at",
        "contexts",
        ["deleted_at"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NOT NULL"),
        postgresql_where=sa.text("deleted_at IS NOT NULL"),
    )
    op.create_index(
        "uq_contexts_account_name",
        "contexts",
        ["account", "name"],
        unique=True,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "secrets",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_secrets")),
    )
    op.create_table(
        "nodes",
        sa.Column("context_id", sa.String(length=64), nullable=False),
        sa.Column("generation", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("parent", _path, nullable=False),
        sa.Column("name", _path, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("file_id", sa.String(length=64), nullable=False),
        sa.Column("version_id", _row_number, nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=True),
        sa.Column("child_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("modified_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["context_id"], ["contexts.context_id"], name=op.f("fk_nodes_context_id")),
        sa.PrimaryKeyConstraint("context_id", "generation", "parent", "name", name=op.f("pk_nodes")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "tasks",
        sa.Column("task_id", sa.String(length=64), nullable=False),
        sa.Column("account", sa.String(length=255), nullable=False),
        sa.Column("context_id", sa.String(length=64), nullable=True),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("parameters", sa.Text(), server_default="{}", nullable=False),
        sa.Column("files_done", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("files_total", sa.BigInteger(), nullable=True),
        sa.Column("bytes_done", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("bytes_total", sa.BigInteger(), nullable=True),
        sa.Column("error_code", sa.String(length=64), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("lease_owner", sa.String(length=64), nullable=True),
        sa.Column("lease_until", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["context_id"], ["contexts.context_id"], name=op.f("fk_tasks_context_id")),
        sa.PrimaryKeyConstraint("task_id", name=op.f("pk_tasks")),
    )
    op.create_index("ix_tasks_context_id", "tasks", ["context_id", "kind", "created_at"], unique=False)
    op.create_index(
        "ix_tasks_finished_at",
        "tasks",
        ["finished_at"],
        unique=False,
        sqlite_where=sa.text("finished_at IS NOT NULL"),
        postgresql_where=sa.text("finished_at IS NOT NULL"),
    )
    op.create_index(
        "ix_tasks_lease_until",
        "tasks",
        ["lease_until"],
        unique=False,
        sqlite_where=sa.text("state IN ('working', 'input_required')"),
        postgresql_where=sa.text("state IN ('working', 'input_required')"),
    )
    op.create_index(
        "uq_tasks_active_clear",
        "tasks",
        ["context_id"],
        unique=True,
        sqlite_where=sa.text("kind = 'clear' AND state IN ('working', 'input_required')"),
        postgresql_where=sa.text("kind = 'clear' AND state IN ('working', 'input_required')"),
    )
    op.create_index(
        "uq_tasks_active_sweep",
        "tasks",
        ["kind"],
        unique=True,
        sqlite_where=sa.text("kind = 'sweep' AND state IN ('working', 'input_required')"),
        postgresql_where=sa.text("kind = 'sweep' AND state IN ('working', 'input_required')"),
    )
    op.create_table(
        "versions",
        sa.Column("version_id", _row_number, autoincrement=True, nullable=False),
        sa.Column("context_id", sa.String(length=64), nullable=False),
        sa.Column("file_id", sa.String(length=64), nullable=False),
        sa.Column("path", _path, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("content_id", _row_number, nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=True),
        sa.Column("actor", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("superseded_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["content_id"], ["contents.content_id"], name=op.f("fk_versions_content_id")),
        sa.ForeignKeyConstraint(["context_id"], ["contexts.context_id"], name=op.f("fk_versions_context_id")),
        sa.PrimaryKeyConstraint("version_id", name=op.f("pk_versions")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_versions_content_id", "versions", ["content_id"], unique=False)
    op.create_index("ix_versions_context_path", "versions", ["context_id", "path", "version_id"], unique=False)
    op.create_index(
        "ix_versions_superseded_at",
        "versions",
        ["superseded_at"],
        unique=False,
        sqlite_where=sa.text("superseded_at IS NOT NULL"),
        postgresql_where=sa.text("superseded_at IS NOT NULL"),
    )
