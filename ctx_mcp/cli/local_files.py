"""Files of this machine that `ctx-mcp put` reads and `ctx-mcp get` writes."""

from __future__ import annotations

import re
import secrets
import sys
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import anyio
import anyio.to_thread

from ctx_mcp.domain.errors import InvalidArgument

_CHUNK_BYTES = 256 * 1024
_MAX_SPOOLED_BYTES = 32 * 1024 * 1024
_UNSAFE_ON_WINDOWS = re.compile(
    r"""[\\/:*?"<>|\x00-\x1f]          # separators, drives, streams, and what no name may hold
    | [. ]\Z                          # dropped by the system, so that another file is meant
    | \A(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*(\.|\Z)  # devices
    """,
    re.VERBOSE | re.IGNORECASE,
)


def local_name(path: str, *, on_windows: bool = sys.platform == "win32") -> str:
    """Return the last part of a context's path as the name of a file in one local folder.

    Raises:
        InvalidArgument: as a local name it would lead elsewhere, or be no file.
    """
    name = path.rpartition("/")[2]
    if name in ("", ".", "..") or (on_windows and _UNSAFE_ON_WINDOWS.search(name)):
        raise InvalidArgument(f"{name!r} is no safe file name here; say where to: ctx-mcp get CONTEXT PATH LOCAL")
    return name


async def read(local: str) -> AsyncIterator[bytes]:
    """Yield a file, or standard input for `-`.

    Raises:
        InvalidArgument: it cannot be read.
    """
    try:
        async for chunk in _chunks(local):
            yield chunk
    except OSError as error:
        raise InvalidArgument(f"cannot read {local}: {error.strerror}") from error


@asynccontextmanager
async def spooled_input() -> AsyncGenerator[tuple[Callable[[], AsyncIterator[bytes]], int]]:
    """Give standard input, once it has ended, with its size: S3 and Azure take no upload of unknown size.

    Up to 32 MiB stay in memory, more goes to a file without a name.
    """
    async with anyio.SpooledTemporaryFile(_MAX_SPOOLED_BYTES) as spool:
        async for chunk in read("-"):
            await spool.write(chunk)

        async def content() -> AsyncIterator[bytes]:
            await spool.seek(0)
            while chunk := await spool.read(_CHUNK_BYTES):
                yield chunk

        yield content, await spool.tell()


async def _chunks(local: str) -> AsyncIterator[bytes]:
    if local == "-":
        next_chunk: Callable[[], Awaitable[bytes]] = partial(
            anyio.to_thread.run_sync, partial(sys.stdin.buffer.read, _CHUNK_BYTES)
        )
        while chunk := await next_chunk():
            yield chunk
        return
    async with await anyio.open_file(local, "rb") as file:
        while chunk := await file.read(_CHUNK_BYTES):
            yield chunk


async def write(target: anyio.Path, chunks: AsyncIterable[bytes]) -> None:
    """Write a whole file, or leave what is there as it was.

    Raises:
        InvalidArgument: it cannot be written.
    """
    if await target.exists() and not await target.is_file():
        raise InvalidArgument(f"{target} is no regular file; `ctx-mcp cat` writes to anything")
    part = target.with_name(f".ctx-mcp-{secrets.token_hex(8)}.part")
    is_ours = False
    try:
        # x: whatever else has that name stays.
        async with await anyio.open_file(part, "xb") as file:
            is_ours = True
            async for chunk in chunks:
                await file.write(chunk)
        await part.replace(target)
    except OSError as error:
        raise InvalidArgument(f"cannot write {target}: {error.strerror}") from error
    finally:
        if is_ours:
            with anyio.CancelScope(shield=True):
                await part.unlink(missing_ok=True)
