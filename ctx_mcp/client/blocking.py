"""Methods of something async, for code that does not await: run in the thread of an open client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

from anyio.from_thread import BlockingPortal

from ctx_mcp.domain.errors import ClientNotOpen

P = ParamSpec("P")
T = TypeVar("T")


class Blocking:
    def __init__(self, portal: BlockingPortal) -> None:
        self._portal = portal

    def _run(self, method: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        async def call() -> T:
            return await method(*args, **kwargs)

        try:
            answer = self._portal.start_task_soon(call)
        except RuntimeError as error:
            # A session, say, may be held longer than its client is open.
            raise ClientNotOpen("the client is closed; use it inside `with Client() as client:`") from error
        return answer.result()
