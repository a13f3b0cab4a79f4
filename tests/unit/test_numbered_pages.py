"""Token paging over a backend that knows page numbers only: no file is left out, whatever its pages hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import pytest

from ctx_mcp.client.file_calls import FileCalls
from ctx_mcp.domain.models import FileEntry, FilePage
from ctx_mcp.wire.operations import Capabilities, ListFiles, Operation, R, Reply

NAMES = [f"{number:02}" for number in range(23)]


@dataclass
class Numbered:
    """Gives at most `most` rows a page, and says how many there are only where it `counts`."""

    most: int
    counts: bool
    capabilities = Capabilities(file_tokens=False)

    async def send(self, operation: Operation[R]) -> Reply[R]:
        assert isinstance(operation, ListFiles)
        size = min(operation.page_size, self.most)
        start = (operation.page_number - 1) * size
        rows = tuple(
            FileEntry(file_id=name, path=f"/{name}", name=name, kind="FILE", size_bytes=1)
            for name in NAMES[start : start + size]
        )
        page = FilePage(entries=rows, total_count=len(NAMES) if self.counts else None)
        return cast("Reply[R]", Reply("request", page))

    async def watch(
        self, listener: Callable[[], None], context_id: str | None = None, path: str = "/"
    ) -> Callable[[], None]:
        return lambda: None


@pytest.mark.parametrize("counts", [True, False])
@pytest.mark.parametrize(("asked", "most"), [(10, 100), (23, 100), (50, 100), (50, 7), (1, 1)])
async def test_pages_by_token_hold_every_file_once(asked: int, most: int, counts: bool) -> None:
    calls = FileCalls(Numbered(most, counts))
    names: list[str] = []
    token: str | None = None
    for _ in range(len(NAMES) + 2):
        page = await calls.list_page(ListFiles("ctx-" + "a" * 17, "/", max_results=asked, next_token=token))
        names += [entry.name for entry in page.entries]
        token = page.next_token
        if token is None:
            break
    assert token is None
    assert names == NAMES
