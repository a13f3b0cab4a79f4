"""Running one command on the backend that the settings name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from ctx_mcp.client.async_service import AsyncContextService
from ctx_mcp.connect import open_transport
from ctx_mcp.domain.errors import AGBError
from ctx_mcp.settings import Settings

T = TypeVar("T")


def run_on_backend(settings: Settings, work: Callable[[AsyncContextService], Awaitable[T]]) -> T:
    """Do some work on an open backend, and close that.

    Raises:
        AGBError: why it failed.
    """

    async def run() -> T:
        async with open_transport(settings) as transport:
            return await work(AsyncContextService(transport))

    return run_alone(run)


def run_alone(work: Callable[[], Awaitable[T]]) -> T:
    """Run some work on an event loop of its own.

    Raises:
        AGBError: why it failed, also where a task of it did.
    """
    try:
        return anyio.run(work)
    except BaseExceptionGroup as group:
        matched, rest = group.split(AGBError)
        if matched is None or rest is not None:
            raise
        raise _first(matched) from None


def _first(group: BaseExceptionGroup[AGBError]) -> AGBError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
