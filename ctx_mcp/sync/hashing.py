"""Hashing beside what is done with the chunks: the digest costs no time of its own where a second core is free."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain

_SMALL_BYTES = 256 * 1024


def hashed(chunks: Iterable[bytes], update: Callable[[bytes], None]) -> Iterator[bytes]:
    """Yield the chunks, each given to `update` before the next one is taken; large ones in a thread."""
    rest = iter(chunks)
    first = next(rest, b"")
    if len(first) <= _SMALL_BYTES:
        update(first)
        yield first
        first = next(rest, b"")
        if not first:
            return
    before: Future[None] | None = None
    with ThreadPoolExecutor(1, thread_name_prefix="ctx-mcp-hash") as thread:
        for chunk in chain((first,), rest):
            if before is not None:
                before.result()
            before = thread.submit(update, chunk)
            yield chunk
