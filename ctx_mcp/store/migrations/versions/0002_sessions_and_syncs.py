"""Sessions, their bindings, replicas with their base, reports of syncs, recycle rules; mode and mtime of files."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_row_number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_path = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_active_sync = "kind = 'sync' AND state IN ('working', 'input_required')"


def upgrade() -> None:
    _extend_files()
    _extend_tasks()
    _create_sessions()
    _create_replicas()


def _extend_files() -> None:
    for table in ("nodes", "versions"):
        op.add_column(table, sa.Column("mode", sa.Integer(), nullable=True))
        op.add_column(table, sa.Column("mtime_ns", sa.BigInteger(), nullable=True))
    op.create_table(
        "recycle_rules",
        sa.Column("context_id", sa.String(length=64), nullable=False),
        sa.Column("path", _path, nullable=False),
        sa.Column("days", sa.Integer(), nullable=False),
        sa.Column("set_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["context_id"], ["contexts.context_id"], name=op.f("fk_recycle_rules_context_id")),
        sa.PrimaryKeyConstraint("context_id", "path", name=op.f("pk_recycle_rules")),
        sqlite_with_rowid=False,
    )


def _extend_tasks() -> None:
    op.add_column("tasks", sa.Column("session_id", sa.String(length=64), nullable=True))
    op.add_column("tasks", sa.Column("replica_id", _row_number, nullable=True))
    for name in ("conflict_count", "failure_count", "skipped_count"):
        op.add_column("tasks", sa.Column(name, sa.BigInteger(), server_default="0", nullable=False))
    op.create_index(
        "ix_tasks_active_sync",
        "tasks",
        ["replica_id", "created_at"],
        unique=False,
        sqlite_where=sa.text(_active_sync),
        postgresql_where=sa.text(_active_sync),
    )
    op.create_index(
        "ix_tasks_replica_id",
        "tasks",
        ["replica_id", "created_at"],
        unique=False,
        sqlite_where=sa.text("replica_id IS NOT NULL"),
        postgresql_where=sa.text("replica_id IS NOT NULL"),
    )
    op.create_index(
        "ix_tasks_session_id",
        "tasks",
        ["session_id"],
        unique=False,
        sqlite_where=sa.text("session_id IS NOT NULL"),
        postgresql_where=sa.text("session_id IS NOT NULL"),
    )
    op.create_table(
        "task_notes",
        sa.Column("task_id", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("task_id", "number", name=op.f("pk_task_notes")),
        sqlite_with_rowid=False,
    )


def _create_sessions() -> None:
    op.create_table(
        "sessions",
        sa.Column("session_id", sa.String(length=64), nullable=False),
        sa.Column("account", sa.String(length=255), nullable=False),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("labels", sa.Text(), server_default="{}", nullable=False),
        sa.Column("root", sa.Text(), nullable=False),
        sa.Column("idle_timeout_s", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("last_used_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("session_id", name=op.f("pk_sessions")),
    )
    op.create_index("ix_sessions_account_created", "sessions", ["account", "created_at", "session_id"], unique=False)
    op.create_index(
        "ix_sessions_last_used_at",
        "sessions",
        ["last_used_at"],
        unique=False,
        sqlite_where=sa.text("finished_at IS NULL"),
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.create_index(
        "ix_sessions_finished_at",
        "sessions",
        ["finished_at"],
        unique=False,
        sqlite_where=sa.text("finished_at IS NOT NULL"),
        postgresql_where=sa.text("finished_at IS NOT NULL"),
    )


def _create_replicas() -> None:
    op.create_table(
        "replicas",
        sa.Column("replica_id", _row_number, autoincrement=True, nullable=False),
        sa.Column("account", sa.String(length=255), nullable=False),
        sa.Column("context_id", sa.String(length=64), nullable=False),
        sa.Column("folder", sa.Text(), nullable=False),
        sa.Column("context_path", _path, nullable=False),
        sa.Column("mark", sa.String(length=64), server_default="", nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("synced_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["context_id"], ["contexts.context_id"], name=op.f("fk_replicas_context_id")),
        sa.PrimaryKeyConstraint("replica_id", name=op.f("pk_replicas")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "uq_replicas_account_context_id_folder",
        "replicas",
        ["account", "context_id", "folder", "context_path"],
        unique=True,
    )
    op.create_index("ix_replicas_context_id", "replicas", ["context_id"], unique=False)
    op.create_table(
        "bindings",
        sa.Column("session_id", sa.String(length=64), nullable=False),
        sa.Column("path", _path, nullable=False),
        sa.Column("account", sa.String(length=255), nullable=False),
        sa.Column("context_id", sa.String(length=64), nullable=False),
        sa.Column("replica_id", _row_number, nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("policy", sa.Text(), nullable=True),
        sa.Column("bound_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["context_id"], ["contexts.context_id"], name=op.f("fk_bindings_context_id")),
        sa.ForeignKeyConstraint(["replica_id"], ["replicas.replica_id"], name=op.f("fk_bindings_replica_id")),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.session_id"], name=op.f("fk_bindings_session_id")),
        sa.PrimaryKeyConstraint("session_id", "path", name=op.f("pk_bindings")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_bindings_context_id", "bindings", ["context_id"], unique=False)
    op.create_index("ix_bindings_replica_id", "bindings", ["replica_id"], unique=False)
    op.create_table(
        "base_files",
        sa.Column("replica_id", _row_number, autoincrement=False, nullable=False),
        sa.Column("parent", _path, nullable=False),
        sa.Column("name", _path, nullable=False),
        sa.Column("version_id", _row_number, nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("mtime_ns", sa.BigInteger(), nullable=False),
        sa.Column("ctime_ns", sa.BigInteger(), nullable=False),
        sa.Column("mode", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=True),
        sa.PrimaryKeyConstraint("replica_id", "parent", "name", name=op.f("pk_base_files")),
        sqlite_with_rowid=False,
    )
