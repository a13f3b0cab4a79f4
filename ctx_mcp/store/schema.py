"""The tables, as SQLAlchemy Core sees them. Normative page: docs/storage.md; migrations make the same tables.

Moments are microseconds since 1970 (`_at`), sizes are bytes. A node is what stands at a path now; a version is
what was ever written there; a content is a run of bytes that versions share by digest. A replica is a folder of this
machine that is synced with a part of a context; a base file is what both had after the last sync.
"""

from __future__ import annotations

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

SCHEMA_REVISION = "0003"
"""Head of the migrations; a store of another revision is migrated, or refused when it is newer."""

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

# Names sort by code point everywhere, so that a page token means the same on every engine.
_Path = Text().with_variant(Text(collation="C"), "postgresql")

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
    Index(
        "uq_contexts_account_name",
        "account",
        "name",
        unique=True,
        sqlite_where=text("deleted_at IS NULL"),
        postgresql_where=text("deleted_at IS NULL"),
    ),
    Index("ix_contexts_account_created", "account", "created_at", "context_id"),
    Index("ix_contexts_deleted_at", "deleted_at", sqlite_where=text("deleted_at IS NOT NULL")),
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
    Index("ix_contents_condemned_at", "condemned_at", sqlite_where=text("condemned_at IS NOT NULL")),
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
    Index("ix_versions_superseded_at", "superseded_at", sqlite_where=text("superseded_at IS NOT NULL")),
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
    Index("ix_tasks_context_id", "context_id", "kind", "created_at"),
    Index(
        "uq_tasks_active_clear",
        "context_id",
        unique=True,
        sqlite_where=text(ACTIVE_CLEAR),
        postgresql_where=text(ACTIVE_CLEAR),
    ),
    Index(
        "uq_tasks_active_sweep",
        "kind",
        unique=True,
        sqlite_where=text(ACTIVE_SWEEP),
        postgresql_where=text(ACTIVE_SWEEP),
    ),
    Index(
        "ix_tasks_lease_until",
        "lease_until",
        sqlite_where=text(ACTIVE_TASK),
        postgresql_where=text(ACTIVE_TASK),
    ),
    Index("ix_tasks_finished_at", "finished_at", sqlite_where=text("finished_at IS NOT NULL")),
    Index(
        "ix_tasks_active_sync",
        "replica_id",
        "created_at",
        sqlite_where=text(ACTIVE_SYNC),
        postgresql_where=text(ACTIVE_SYNC),
    ),
    Index("ix_tasks_replica_id", "replica_id", "created_at", sqlite_where=text("replica_id IS NOT NULL")),
    Index("ix_tasks_session_id", "session_id", sqlite_where=text("session_id IS NOT NULL")),
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
    Column("created_at", BigInteger, nullable=False),
    Column("last_used_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    Index("ix_sessions_account_created", "account", "created_at", "session_id"),
    Index("ix_sessions_last_used_at", "last_used_at", sqlite_where=text("finished_at IS NULL")),
    Index("ix_sessions_finished_at", "finished_at", sqlite_where=text("finished_at IS NOT NULL")),
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
