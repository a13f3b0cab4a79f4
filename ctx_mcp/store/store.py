"""One data folder, opened: its rows and its bytes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ctx_mcp.domain.errors import StoreUnusable
from ctx_mcp.domain.limits import Limits
from ctx_mcp.store.changes import ChangeRows
from ctx_mcp.store.contexts import ContextRows
from ctx_mcp.store.database import Database
from ctx_mcp.store.files import FileRows
from ctx_mcp.store.history import HistoryRows
from ctx_mcp.store.objects import DiskObjects
from ctx_mcp.store.retention import RetentionRows
from ctx_mcp.store.search import SearchRows
from ctx_mcp.store.search_index import SearchIndex
from ctx_mcp.store.sessions import SessionRows
from ctx_mcp.store.subtrees import SubtreeRows
from ctx_mcp.store.sync import SyncRows
from ctx_mcp.store.sync_tasks import SyncTaskRows
from ctx_mcp.store.tasks import TaskRows


@dataclass(frozen=True, slots=True)
class Store:
    database: Database
    contexts: ContextRows
    files: FileRows
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
    objects: DiskObjects
    url_key: bytes
    """What presigned URLs are signed with; the same in every process on this data folder."""

    def close(self) -> None:
        self.search_index.close()
        self.index_writer.close()
        self.database.close()


def open_store(data_dir: Path, limits: Limits) -> Store:
    """Open the data folder, making it when it is missing; only its owner may read it then.

    Raises:
        StoreUnusable: the folder or its database cannot be used, with the reason.
    """
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        objects = DiskObjects(data_dir / "objects")
    except OSError as error:
        raise StoreUnusable(f"cannot use the data folder {data_dir}: {error}") from error
    database = Database(data_dir / "ctx.db")
    return Store(
        database=database,
        contexts=ContextRows(database),
        files=FileRows(database),
        subtrees=SubtreeRows(database, limits),
        history=HistoryRows(database, limits),
        search=SearchRows(database),
        search_index=SearchIndex(data_dir / "search.db"),
        index_writer=SearchIndex(data_dir / "search.db"),
        tasks=TaskRows(database, lease_s=limits.lease_s),
        sessions=SessionRows(database),
        sync=SyncRows(database, lease_s=limits.lease_s),
        sync_tasks=SyncTaskRows(database, lease_s=limits.lease_s),
        retention=RetentionRows(database),
        changes=ChangeRows(database),
        objects=objects,
        url_key=database.secret("url-signing-key"),
    )
