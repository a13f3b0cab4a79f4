"""Waiting for what a service does by itself: looking again and again, and tasks that outlive their call."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

import anyio

from ctx_mcp.domain.errors import BackendUnavailable, ClientNotOpen

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

T = TypeVar("T")
_FIRST_PAUSE_S = 0.02
_CALLBACK_GRACE_S = 3.0
_logger = logging.getLogger(__name__)


async def look_until_seen(
    look: Callable[[], Awaitable[T | None]], *, within_s: float, longest_pause_s: float
) -> T | None:
    """Look, with pauses that double from 20 ms, until there is something to see; None when the time is over.

    Looks at least once. A look that the backend did not answer is one at which there was nothing to see.
    """
    deadline = anyio.current_time() + within_s
    pause_s = min(_FIRST_PAUSE_S, longest_pause_s)
    while True:
        try:
            seen = await look()
        except BackendUnavailable as error:
            _logger.debug("asking again: %s", error)
            seen = None
        if seen is not None:
            return seen
        left_s = deadline - anyio.current_time()
        if left_s <= 0:
            return None
        await anyio.sleep(min(pause_s, left_s))
        pause_s = min(pause_s * 2, longest_pause_s)


class Background:
    """What a client goes on doing after the call has returned. An async context manager; ends with the client.

    Leaving it cancels what still runs. Callbacks are made even then, and waited for at most `callback_grace_s` in all.
    """

    def __init__(self, *, callback_grace_s: float = _CALLBACK_GRACE_S) -> None:
        self._callback_grace_s = callback_grace_s
        self._group: TaskGroup | None = None
        self._callbacks: set[anyio.CancelScope] = set()
        self._give_up_at: float | None = None

    async def __aenter__(self) -> Self:
        self._group = anyio.create_task_group()
        self._give_up_at = None
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        group, self._group = self._group, None
        if group is None:
            return
        self._give_up_at = anyio.current_time() + self._callback_grace_s
        for scope in self._callbacks:
            scope.deadline = self._give_up_at
        group.cancel_scope.cancel()
        # Not told of the block's error, which it would wrap in a group of one.
        await group.__aexit__(None, None, None)

    def start(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do `work` from now on; an error of it is logged, since nobody waits for it.

        Raises:
            ClientNotOpen: the client is not open.
        """
        if self._group is None:
            raise ClientNotOpen("the client is not open; use it as `async with AsyncClient() as client:`")

        async def guarded() -> None:
            try:
                await work()
            except Exception:
                _logger.exception("a task in the background of a client broke off")

        self._group.start_soon(guarded)

    async def call_back(self, callback: Callable[[bool], object], outcome: bool) -> None:
        """Call `callback`, and await what it returns if that can be awaited; not stopped by cancelling."""
        with anyio.CancelScope(shield=True) as scope:
            if self._give_up_at is not None:
                scope.deadline = self._give_up_at
            self._callbacks.add(scope)
            try:
                answer = callback(outcome)
                if inspect.isawaitable(answer):
                    await answer
            finally:
                self._callbacks.discard(scope)
