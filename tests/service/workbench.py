"""A context service without its listener and its jobs: a test says what time it is and when work goes on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ctx_mcp import AsyncContextService
from ctx_mcp.domain.limits import Limits
from ctx_mcp.domain.models import Caller
from ctx_mcp.service.local import LocalService
from ctx_mcp.service.session_folders import HostFolders
from ctx_mcp.store.store import Store, open_store
from ctx_mcp.wire.operations import OWN_CAPABILITIES, Capabilities, Operation, R, Reply

ACCOUNT = "an account"
LIMITS = Limits(lease_s=10)
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Workbench:
    """`now` is the service's clock; `context` its client. Nothing long runs by itself."""

    def __init__(
        self,
        data_dir: Path,
        limits: Limits = LIMITS,
        account: str = ACCOUNT,
        database_url: str | None = None,
        object_store_url: str | None = None,
    ) -> None:
        self.data_dir = data_dir
        self.now = START
        self.store: Store = open_store(data_dir, limits, database_url, object_store_url)
        self.service = LocalService(
            self.store,
            base_url=_no_url,
            folders=HostFolders(None, data_dir=data_dir),
            limits=limits,
            clock=lambda: self.now,
        )
        self.caller = Caller(account, actor="a test")
        self.context = AsyncContextService(self)
        self.capabilities: Capabilities = OWN_CAPABILITIES

    def pass_time(self, *, days: float = 0, seconds: float = 0) -> None:
        self.now += timedelta(days=days, seconds=seconds)

    async def send(self, operation: Operation[R]) -> Reply[R]:
        return await self.service.handle(self.caller, operation)

    async def watch(
        self, listener: Callable[[], None], context_id: str | None = None, path: str = "/"
    ) -> Callable[[], None]:
        return await self.service.watcher(self.caller.account).watch(listener, context_id, path)

    async def new_context(self, name: str = "a context") -> str:
        return (await self.context.create(name)).context_id

    async def sweep(self) -> None:
        assert await self.service.jobs.sweep_if_due(timedelta(0))

    def objects(self) -> list[Path]:
        return [path for path in (self.data_dir / "objects").rglob("*") if path.is_file()]


async def _no_url() -> str:
    return "http://127.0.0.1:1"


@asynccontextmanager
async def open_workbench(
    data_dir: Path,
    limits: Limits = LIMITS,
    account: str = ACCOUNT,
    database_url: str | None = None,
    object_store_url: str | None = None,
) -> AsyncGenerator[Workbench]:
    bench = Workbench(data_dir, limits, account, database_url, object_store_url)
    try:
        yield bench
    finally:
        bench.store.close()
