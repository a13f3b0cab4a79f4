"""Search composed of listings and URLs: what one page may cost, and that nothing is missed from page to page."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from ctx_mcp import AsyncContextService
from ctx_mcp.client.composed_search import PageBounds, search_files
from ctx_mcp.client.tree_walk import TreeWalk
from ctx_mcp.domain.errors import BackendUnavailable, ContextNotFound
from ctx_mcp.domain.models import SearchMatch, SearchPage
from ctx_mcp.domain.paths import split_path
from ctx_mcp.wire.operations import GetFileDownloadUrl, ListFiles, Operation, SearchFiles
from tests.conformance.foreign_cloud import CONTEXT, ForeignCloud

if TYPE_CHECKING:
    from tests.lifetimes import Lifetimes

BOUNDS = PageBounds(batch_files=4)
TREE = {
    f"/{folder}{number:03}.txt": b"an apple\n" for folder in ("", "a/", "a/b/", "a-b/", "c/d/e/") for number in range(9)
}


async def open_cloud(hold: Lifetimes, files: dict[str, bytes]) -> tuple[ForeignCloud, AsyncContextService]:
    cloud = await hold(ForeignCloud(files=dict(files)).run())
    return cloud, AsyncContextService(cloud)


async def pages(service: AsyncContextService, asked: SearchFiles, bounds: PageBounds) -> list[SearchPage]:
    found = [await search_files(service, asked, bounds)]
    while (token := found[-1].next_token) is not None:
        found.append(await search_files(service, replace(asked, next_token=token), bounds))
    return found


def matches(found: list[SearchPage]) -> list[SearchMatch]:
    return [match for page in found for match in page.matches]


def fetched(cloud: ForeignCloud) -> list[str]:
    return [operation.file_path for operation in cloud.asked if isinstance(operation, GetFileDownloadUrl)]


@pytest.mark.parametrize(
    ("bounds", "page_count"),
    [
        pytest.param(BOUNDS, 1, id="none is reached"),
        pytest.param(replace(BOUNDS, files=10), 4, id="files"),
        pytest.param(replace(BOUNDS, bytes=100), 4, id="bytes"),
        pytest.param(replace(BOUNDS, budget_s=0), 12, id="time"),
    ],
)
async def test_a_page_ends_at_its_bounds_and_the_next_goes_on(
    hold: Lifetimes, bounds: PageBounds, page_count: int
) -> None:
    cloud, service = await open_cloud(hold, TREE)
    found = await pages(service, SearchFiles(CONTEXT, "apple", max_results=500), bounds)
    assert [match.path for match in matches(found)] == sorted(TREE, key=split_path)
    assert len(found) == page_count
    # Each file is fetched once, by however many pages.
    assert sorted(fetched(cloud)) == sorted(TREE)
    assert sum(page.files_searched for page in found) == len(TREE)


async def test_a_page_without_a_match_still_goes_on(hold: Lifetimes) -> None:
    _, service = await open_cloud(hold, TREE | {"/c/d/e/last": b"a pear"})
    first, *rest = await pages(service, SearchFiles(CONTEXT, "pear"), replace(BOUNDS, files=8))
    assert (first.matches, first.files_searched) == ((), 8)
    assert [match.path for match in matches(rest)] == ["/c/d/e/last"]


async def test_files_that_are_not_meant_cost_nothing_but_their_listing(hold: Lifetimes) -> None:
    cloud, service = await open_cloud(hold, TREE | {"/a/large": b"apple".ljust(16 * 1024 * 1024 + 1), "/x/y": b"apple"})
    page = await service.search_files(CONTEXT, "apple", glob="/a/[0l]*", max_results=500)
    assert (len(page.matches), page.files_skipped, page.next_token) == (9, 1, None)
    assert sorted(fetched(cloud)) == [f"/a/{number:03}.txt" for number in range(9)]
    assert {o.parent_folder_path for o in cloud.asked if isinstance(o, ListFiles)} == {"/a", "/a/b"}


async def test_names_are_found_by_listing_alone_and_without_etags(hold: Lifetimes) -> None:
    cloud, service = await open_cloud(hold, TREE)
    page = await service.search_files(CONTEXT, glob="00[12].txt", max_results=3)
    assert [(match.path, match.etag, match.size_bytes) for match in page.matches] == [
        ("/001.txt", "", 9),
        ("/002.txt", "", 9),
        ("/a/001.txt", "", 9),
    ]
    assert cloud.requests == []


async def test_a_later_page_does_not_list_what_lies_before_it(hold: Lifetimes) -> None:
    cloud, service = await open_cloud(hold, {f"/{name}/sub/f": b"apple" for name in "abcdefgh"})
    page = await service.search_files(CONTEXT, "apple", max_results=7)
    cloud.asked.clear()
    (last,) = (await service.search_files(CONTEXT, "apple", next_token=page.next_token)).matches
    assert last.path == "/h/sub/f"
    listed = {operation.parent_folder_path for operation in cloud.asked if isinstance(operation, ListFiles)}
    assert listed == {"/", "/g", "/g/sub", "/h", "/h/sub"}
    assert fetched(cloud) == ["/h/sub/f"]


async def test_what_goes_or_changes_between_listing_and_fetching_is_found_as_it_is(hold: Lifetimes) -> None:
    cloud, service = await open_cloud(hold, {"/a": b"apple", "/b": b"apple", "/c": b"pear"})

    async def change(operation: Operation[object]) -> None:
        if isinstance(operation, GetFileDownloadUrl):
            cloud.files.pop("/a", None)
            cloud.files["/c"] = b"a pear and an apple"

    cloud.before = change
    page = await service.search_files(CONTEXT, "apple")
    assert [(match.path, match.size_bytes) for match in page.matches] == [("/b", 5), ("/c", 19)]


async def test_a_failure_is_raised_as_it_is(hold: Lifetimes) -> None:
    cloud, service = await open_cloud(hold, TREE)

    async def fail(operation: Operation[object]) -> None:
        if isinstance(operation, GetFileDownloadUrl) and operation.file_path == "/a/003.txt":
            raise BackendUnavailable("the cloud is down")
        if isinstance(operation, ListFiles) and operation.context_id != CONTEXT:
            raise ContextNotFound("no such context")

    cloud.before = fail
    with pytest.raises(BackendUnavailable, match="the cloud is down"):
        await service.search_files(CONTEXT, "apple")
    with pytest.raises(ContextNotFound):
        await service.search_files("SdkCtx-nobody", "apple")


@pytest.mark.parametrize("seed", range(20))
async def test_a_walk_gives_all_files_in_order_from_anywhere(hold: Lifetimes, seed: int) -> None:
    dice = random.Random(seed)
    names = ["a", "a-b", "b", "b.c", "ä", "𝄞"]
    paths = {"/" + "/".join(dice.choices(names, k=dice.randint(1, 4))) + "/f" for _ in range(60)}
    paths |= {f"{path}{dice.randint(0, 9)}" for path in paths}
    _, service = await open_cloud(hold, dict.fromkeys(paths, b""))
    start = dice.choice([split_path(path)[0] for path in paths])
    walk, seen = TreeWalk(service, CONTEXT, "/", start), list[str]()
    while (files := await walk.next_folder()) is not None:
        seen += [file.path for file in files]
    assert seen == sorted((path for path in paths if split_path(path)[0] >= start), key=split_path)
