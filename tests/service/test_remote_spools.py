"""Large files on their way to another service are first copied to the store here: of whatever ends, nothing stays."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import anyio
import httpx

from ctx_mcp.client.remote_side import RemoteSide
from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.domain.models import Caller, ContextRecord
from ctx_mcp.service.remote_syncs import RemoteSyncs
from ctx_mcp.service.replica_base import StoredBase
from ctx_mcp.service.session_folders import HostFolders
from ctx_mcp.service.sync_jobs import SyncRun
from ctx_mcp.store.store import open_store
from ctx_mcp.wire.operations import GetTask, StartSync
from tests.fake_cloud import FakeCloud
from tests.remote_replicas import QUICK

CONTEXT = "SdkCtx-0"
CALLER = Caller("local")
NOW = datetime(2026, 1, 2, tzinfo=UTC)


def utc_now() -> datetime:
    return datetime.now(UTC)


async def find_context(context_id: str) -> ContextRecord:
    return ContextRecord(context_id, "notes", created_at=NOW, last_used_at=NOW)


async def test_a_sync_that_fails_again_and_again_leaves_no_copies(tmp_path: Path) -> None:
    cloud = FakeCloud()

    def fail_puts() -> None:
        if cloud.asked["PUT"]:
            raise httpx.ConnectError("down")

    cloud.before = fail_puts
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in range(3):
        (folder / f"large{number}").write_bytes(b"x" * 400_000)
    store = open_store(tmp_path / "data", DEFAULT_LIMITS)
    loop = asyncio.get_running_loop()

    def open_side(run: SyncRun) -> RemoteSide:
        base = StoredBase(store, run, utc_now)
        return RemoteSide(cloud.transport, cloud.connections, CONTEXT, base, loop=loop, policy=QUICK)

    syncs = RemoteSyncs(
        store,
        HostFolders(None, data_dir=tmp_path / "data"),
        DEFAULT_LIMITS,
        find_context=find_context,
        open_side=open_side,
        has_history=False,
        clock=utc_now,
    )
    async with anyio.create_task_group() as group:
        group.start_soon(syncs.run)
        for _ in range(2):
            cloud.asked.clear()
            (task,) = (await syncs.handle(CALLER, StartSync(CONTEXT, str(folder), mode="upload"))).result.tasks
            with anyio.fail_after(30):
                while not task.is_final:
                    await anyio.sleep(0.01)
                    task = (await syncs.handle(CALLER, GetTask(task_id=task.task_id))).result
            assert (task.state, bool(cloud.asked["PUT"])) == ("failed", True)
        group.cancel_scope.cancel()
    store.close()
    assert [path for path in (tmp_path / "data").rglob("*") if path.is_file() and path.stat().st_size == 400_000] == []
