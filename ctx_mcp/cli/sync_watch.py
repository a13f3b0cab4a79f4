"""`ctx-mcp sync --watch`: the same sync again and again, at the moments that call for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

import anyio
import anyio.lowlevel

from ctx_mcp.cli.sync_report import say
from ctx_mcp.domain.errors import AGBError, FolderNotAllowed, InvalidArgument, UnsupportedOperation

RETRY_S = 5.0
"""How soon a failed sync is tried again, and how often a folder is looked for that is gone."""
_OWN_PREFIX = ".ctx-mcp-"
"""How the names of a sync's temporary files begin. Source: docs/sync.md."""


class News:
    """Whether something changed since it was last asked."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def tell(self) -> None:
        self._event.set()

    async def wait(self, timeout_s: float) -> None:
        """Return when something changed, or after `timeout_s` seconds."""
        with anyio.move_on_after(timeout_s):
            await self._event.wait()
        self._event = anyio.Event()


async def watch(sync: Callable[[bool], Awaitable[None]], folder: str, every_s: float) -> None:
    """Sync now, whenever the folder changes, and every `every_s` seconds for changes of others; until cancelled.

    One sync runs at a time. A failed one is said and tried again; the same failure is said once.

    Args:
        sync: told whether to be quiet when there was nothing to do.

    Raises:
        InvalidArgument, FolderNotAllowed, UnsupportedOperation: trying again would not help.
    """
    news = News()
    async with anyio.create_task_group() as group:
        group.start_soon(_note_changes, folder, news)
        # Lets it begin, so that nothing which changes during the first sync is missed.
        await anyio.lowlevel.checkpoint()
        said: str | None = None
        is_quiet = False
        while True:
            try:
                await sync(is_quiet)
            except (InvalidArgument, FolderNotAllowed, UnsupportedOperation):
                raise
            except AGBError as error:
                failure = f"{error.message} [{error.error_code}]"
                if failure != said:
                    say(f"{failure}; trying again")
                said = failure
            else:
                if not is_quiet:
                    say("watching; interrupt to end")
                is_quiet, said = True, None
            await news.wait(every_s if said is None else min(every_s, RETRY_S))


async def _note_changes(folder: str, news: News) -> None:
    """Tell of changes in a folder; one that is taken away, and is there again, is watched anew."""
    is_back = False
    while True:
        identity = _identity(folder)
        if identity is not None:
            if is_back:
                news.tell()
            try:
                await _note_changes_while(folder, identity, news)
            except OSError as error:
                say(f"cannot watch {folder}: {error}; looking at it now and then only")
                return
        is_back = True
        await anyio.sleep(RETRY_S)


async def _note_changes_while(folder: str, identity: tuple[int, int], news: News) -> None:
    """Tell of changes in a folder as long as it is this very one."""
    # Imported here, as only a watching sync needs it. It names types of trio, which is not installed.
    from watchfiles import awatch  # pyright: ignore[reportUnknownVariableType]

    changes = awatch(folder, watch_filter=_is_news, rust_timeout=int(RETRY_S * 1000), yield_on_timeout=True)
    async with aclosing(changes):
        async for change in changes:
            if change:
                news.tell()
            if _identity(folder) != identity:
                return


def _is_news(_: object, path: str) -> bool:
    return not Path(path).name.startswith(_OWN_PREFIX)


def _identity(folder: str) -> tuple[int, int] | None:
    """Return what tells this folder from another one of the same name, None where there is none."""
    try:
        found = Path(folder).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
