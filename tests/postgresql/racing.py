"""Programs that tests run in processes of their own, several at once on one store. Not tests themselves.

Each opens its store, says so, waits for a line, and prints what it did as one line of JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from ctx_mcp.domain.errors import FileNotFound
from ctx_mcp.domain.limits import Limits
from ctx_mcp.store.files import OpenedFile, StoredContent
from ctx_mcp.store.store import Store, open_store

ACCOUNT = "an account"
THREADS = 6


def content(text: bytes) -> StoredContent:
    """Return an inline content whose digest tells it from others as a real one would."""
    return StoredContent(text.hex()[-64:].rjust(64, "0"), len(text), inline=text)


def now() -> datetime:
    return datetime.now(UTC)


def edit(store: Store, name: str, context_id: str, count: str) -> object:
    """Add a line to one file, many times at once; return how often."""

    def add(number: int) -> None:
        line = f"{name} {number}\n".encode()

        def change(opened: OpenedFile | None) -> StoredContent:
            return content((opened.content.inline or b"" if opened else b"") + line)

        store.files.rewrite(ACCOUNT, context_id, "/log", change, actor=name, now=now())

    return len(list(_at_once(add, int(count))))


def create(store: Store, name: str, count: str) -> object:
    """Get or create contexts by names that all want; return their ids."""

    def make(number: int) -> tuple[str, bool]:
        record, is_new = store.contexts.get_or_create(ACCOUNT, f"context {number}", now=now())
        return record.context_id, is_new

    return list(_at_once(make, int(count)))


def write(store: Store, name: str, context_id: str, count: str) -> object:
    """Write files, delete every third, and return which were there at the end, with the moment of each."""
    kept: dict[str, float] = {}
    for number in range(int(count)):
        path = f"/{number % 3}/{name}/{number}"
        store.files.write(ACCOUNT, context_id, path, content(path.encode()), actor=name, now=now())
        kept[path] = 0
        if number % 3 == 2:
            gone = f"/{(number - 1) % 3}/{name}/{number - 1}"
            try:
                store.files.delete(ACCOUNT, context_id, gone, actor=name, now=now())
            except FileNotFound:
                kept[gone] = -1  # a clear came first
            else:
                del kept[gone]
    return kept


def clear(store: Store, name: str, context_id: str, count: str) -> object:
    """Clear a context again and again, each to its end; return how often."""
    for _ in range(int(count)):
        task, is_new = store.tasks.start_clear(ACCOUNT, context_id, owner=name, now=now())
        while is_new and not task.is_final:
            task = store.tasks.step_clear(task.task_id, name, limit=7, now=now())
    return int(count)


def claim(store: Store, name: str) -> object:
    """Claim left-over clears until there are none; return their ids."""
    claimed: list[str] = []
    while (found := store.tasks.claim(name, now=now())) is not None:
        claimed.append(found[1].task_id)
    return claimed


def _at_once(do: Callable[[int], object], count: int) -> list[object]:
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(do, range(count)))


PROGRAMS: dict[str, Callable[..., object]] = {
    program.__name__: program for program in (edit, create, write, clear, claim)
}


def main(program: str, data_dir: str, url: str, *arguments: str) -> None:
    store = open_store(Path(data_dir), Limits(), url)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    sys.stdout.write(json.dumps(PROGRAMS[program](store, *arguments)) + "\n")
    store.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
