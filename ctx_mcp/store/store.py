"""One store, opened: its rows, in the data folder or in PostgreSQL, and its bytes, in the data folder or a bucket."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ctx_mcp.domain.errors import StoreUnusable
from ctx_mcp.domain.limits import Limits
from ctx_mcp.store.accounts import AccountRows
from ctx_mcp.store.audit import AuditRows
from ctx_mcp.store.changes import ChangeRows
from ctx_mcp.store.contexts import ContextRows
from ctx_mcp.store.database import Database
from ctx_mcp.store.files import FileRows
from ctx_mcp.store.folders import FolderRows
from ctx_mcp.store.history import HistoryRows
from ctx_mcp.store.homes import name_of_home
from ctx_mcp.store.keys import KeyRows
from ctx_mcp.store.objects import Objects, open_objects
from ctx_mcp.store.retention import RetentionRows
from ctx_mcp.store.search import SearchRows
from ctx_mcp.store.search_index import SearchIndex
from ctx_mcp.store.sessions import SessionRows
from ctx_mcp.store.sqlite import SqliteDatabase
from ctx_mcp.store.subtrees import SubtreeRows
from ctx_mcp.store.sync import SyncRows
from ctx_mcp.store.sync_tasks import SyncTaskRows
from ctx_mcp.store.tasks import TaskRows
from ctx_mcp.store.turns import TurnRows
from ctx_mcp.store.uploads import UploadRows


@dataclass(frozen=True, slots=True)
class Store:
    data_dir: Path
    database: Database
    contexts: ContextRows
    files: FileRows
    folders: FolderRows
    subtrees: SubtreeRows
    history: HistoryRows
    search: SearchRows
    search_index: SearchIndex
    index_writer: SearchIndex
    """The same index on a connection of its own, so that no search waits for its growth."""
    tasks: TaskRows
    sessions: SessionRows
    sync: SyncRows
    sync_tasks: SyncTaskRows
    retention: RetentionRows
    changes: ChangeRows
    accounts: AccountRows
    keys: KeyRows
    audit: AuditRows
    uploads: UploadRows
    turns: TurnRows
    objects: Objects
    url_key: bytes
    """What presigned URLs are signed with; the same in every process on this data folder."""

    def close(self) -> None:
        self.search_index.close()
        self.index_writer.close()
        self.database.close()


def open_store(
    data_dir: Path, limits: Limits, database_url: str | None = None, object_store_url: str | None = None
) -> Store:
    """Open the data folder, making it when it is missing; only its owner may read it then.

    Args:
        database_url: `postgresql://…` where the rows are not in the folder.
        object_store_url: `s3://…`, `gs://…` or `az://…` where the bytes are not in the folder.

    Raises:
        StoreUnusable: the folder, the database or the object store cannot be used, with the reason.
    """
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnusable(f"cannot use the data folder {data_dir}: {error}") from error
    database = open_database(data_dir, database_url)
    try:
        objects = _open_objects(data_dir, object_store_url, database)
    except BaseException:
        database.close()
        raise
    index = data_dir / "search.db" if database.has_commit_order else None
    return Store(
        data_dir=data_dir,
        database=database,
        contexts=ContextRows(database),
        files=FileRows(database),
        folders=FolderRows(database, limits),
        subtrees=SubtreeRows(database, limits),
        history=HistoryRows(database, limits),
        search=SearchRows(database),
        search_index=SearchIndex(index),
        index_writer=SearchIndex(index),
        tasks=TaskRows(database, lease_s=limits.lease_s),
        sessions=SessionRows(database),
        sync=SyncRows(database, lease_s=limits.lease_s),
        sync_tasks=SyncTaskRows(database, lease_s=limits.lease_s),
        retention=RetentionRows(database),
        changes=ChangeRows(database),
        uploads=UploadRows(database),
        turns=TurnRows(database),
        objects=objects,
        accounts=AccountRows(database),
        keys=KeyRows(database),
        audit=AuditRows(database),
        url_key=database.secret("url-signing-key"),
    )


def _open_objects(data_dir: Path, url: str | None, database: Database) -> Objects:
    try:
        return open_objects(data_dir, url, b"" if url is None else database.secret("object-store-id"))
    except OSError as error:
        raise StoreUnusable(f"cannot use the data folder {data_dir}: {error}") from error


def open_database(data_dir: Path, database_url: str | None, *, may_migrate: bool = False) -> Database:
    """Open the rows of a store: in its data folder, or in PostgreSQL.

    Args:
        may_migrate: whether older tables in PostgreSQL are brought up to date; those of a data folder always are.

    Raises:
        StoreUnusable: the database cannot be used, with the reason.
    """
    if database_url is None:
        return SqliteDatabase(data_dir / "ctx.db")
    database = _open_postgres(database_url, may_migrate=may_migrate)
    try:
        database.home = name_of_home(data_dir)
    except OSError as error:
        database.close()
        raise StoreUnusable(f"cannot use the data folder {data_dir}: {error}") from error
    return database


def _open_postgres(url: str, *, may_migrate: bool) -> Database:
    try:
        from ctx_mcp.store.postgres import PostgresDatabase
    except ImportError as error:
        raise StoreUnusable(
            f"rows in PostgreSQL need its driver ({error}); install it with: pip install 'ctx-mcp[postgres]'"
        ) from error
    return PostgresDatabase(url, may_migrate=may_migrate)
