"""The backends that one suite of client behaviour runs on: every way there is to reach a context service."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ctx_mcp import AsyncClient, AsyncContextService, Client, Context
from ctx_mcp.client.results import ContextFileEntry
from ctx_mcp.connect import ConnectedClient
from ctx_mcp.embedded import ACCOUNT, EmbeddedTransport, run_http_service
from ctx_mcp.settings import Settings
from tests.conformance.authority import trusted_authority

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.lifetimes import Lifetimes

BACKENDS = ("embedded", "embedded-sync", "http-native", "http-agb", "http-agentbay", "agb-sdk")
ON_POSTGRES = "http-postgres"
"""As `http-native`, with the service's rows in PostgreSQL."""
ON_BUCKETS = ("embedded-s3", "http-postgres-s3")
"""As `embedded` and the one before, with their bytes in S3."""
ON_AZURE = "embedded-azure"
"""As `embedded`, with its bytes in Azure, whose URLs no bare PUT can be sent to."""
COMPOSED = ("http-agb", "http-agentbay", "https-agentbay")
"""Our own clients whose changes in place are composed of URLs."""
KEYS = {"key-one": ACCOUNT, "key-two": "another"}


@dataclass(frozen=True)
class Engines:
    """Where rows and bytes are; None: in the data folder."""

    database_url: str | None = None
    object_store_url: str | None = None

    def applied_to(self, settings: Settings) -> Settings:
        """Return the settings of a service that has its rows and bytes there."""
        return replace(settings, database_url=self.database_url, object_store_url=self.object_store_url)


@dataclass(frozen=True)
class Backend:
    """`foreign` acts for another account on the same service; None where there is but one account."""

    name: str
    data_dir: Path
    context: AsyncContextService
    foreign: AsyncContextService | None = None
    engines: Engines = Engines()

    @property
    def is_sdk(self) -> bool:
        return self.name == "agb-sdk"

    @property
    def passes_bytes(self) -> bool:
        """Whether presigned URLs to download lead through the service, rather than to the object store."""
        return self.engines.object_store_url is None

    @property
    def takes_uploads(self) -> bool:
        """Whether those to upload lead through the service."""
        return self.passes_bytes or self.name == ON_AZURE


async def open_backend(name: str, hold: Lifetimes, data_dir: Path, engines: Engines = Engines()) -> Backend:
    if name in ("embedded", "embedded-s3", ON_AZURE):
        transport = EmbeddedTransport(data_dir, object_store_url=engines.object_store_url)
        return Backend(name, data_dir, AsyncContextService(await hold(transport)), engines=engines)
    if name == "embedded-sync":
        client = await hold(_in_thread(Client(data_dir=data_dir)))
        return Backend(name, data_dir, in_threads(client.context))
    tls = None
    if name.startswith("https"):
        tls = (await hold(trusted_authority(data_dir.parent / "authority"))).issue()
    settings = engines.applied_to(Settings(data_dir=data_dir, api_keys=KEYS, tls=tls))
    url = await hold(run_http_service(settings, host="127.0.0.1", port=0))
    natives = dict.fromkeys(("http-native", ON_POSTGRES, *ON_BUCKETS), _native)
    open_client = {**natives, "http-agb": _agb, "agb-sdk": _sdk}.get(name, _agentbay)
    context, foreign = [await open_client(hold, url, key) for key in KEYS]
    return Backend(name, data_dir, context, foreign, engines)


async def _native(hold: Lifetimes, url: str, key: str) -> AsyncContextService:
    return (await hold(AsyncClient(backend=url, api_key=key))).context


async def _agb(hold: Lifetimes, url: str, key: str) -> AsyncContextService:
    client: ConnectedClient[AsyncContextService] = AsyncClient(backend="agb", endpoint=url, api_key=key)
    return (await hold(client)).context


async def _agentbay(hold: Lifetimes, url: str, key: str) -> AsyncContextService:
    return (await hold(AsyncClient(backend="agentbay", endpoint=url, api_key=key))).context


async def _sdk(hold: Lifetimes, url: str, key: str) -> AsyncContextService:
    from tests.conformance.agb_sdk import open_sdk

    return in_threads(open_sdk(url, key))


class _InThreads:
    """Gives every method of a blocking service as one to be awaited, in a thread of its own."""

    def __init__(self, service: Any) -> None:
        self._service = service

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._service, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await asyncio.to_thread(partial(method, *args, **kwargs))

        return call


def in_threads(service: object) -> AsyncContextService:
    return cast("AsyncContextService", _InThreads(service))


@asynccontextmanager
async def _in_thread(client: AbstractContextManager[Client]) -> AsyncGenerator[Client]:
    opened = await asyncio.to_thread(client.__enter__)
    try:
        yield opened
    finally:
        await asyncio.to_thread(client.__exit__, None, None, None)


async def new_context(context: AsyncContextService, name: str = "a context") -> Context:
    result = await context.create(name)
    assert result.success, result.error_message
    assert result.context is not None
    return result.context


async def upload_url(context: AsyncContextService, context_id: str, path: str) -> str:
    result = await context.get_file_upload_url(context_id, path)
    assert result.success, result.error_message
    return result.url


async def download_url(context: AsyncContextService, context_id: str, path: str) -> str:
    result = await context.get_file_download_url(context_id, path)
    assert result.success, result.error_message
    return result.url


async def list_folder(context: AsyncContextService, context_id: str, folder: str = "/") -> list[ContextFileEntry]:
    result = await context.list_files(context_id, folder, 1, 10_000)
    assert result.success, result.error_message
    assert result.count == len(result.entries)
    return result.entries
