"""The search index: it never changes what is found, whatever becomes of the contents or of its file."""

from __future__ import annotations

import random
import shutil
import signal
import sqlite3
import sys
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ctx_mcp.domain.limits import Limits
from ctx_mcp.domain.models import SearchMatch, SearchOutput
from ctx_mcp.search.text_matches import folds_alike
from ctx_mcp.service import search_builder
from ctx_mcp.service.required_text import required_text
from ctx_mcp.store.search_index import Candidates, SearchIndex, fold
from tests.service.workbench import Workbench, open_workbench

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

re2: Any = import_module("re2")
QUERIES = ("needle", "NEEDLE", "Kelvin", "straSSe", "İstanbul", "\u1e9e", "ab", "x", '"quo"te', "苹果酱", "a\0b", "σας")
TEXTS = (
    "a needle here", "NeeDLe", "\u212aelvin", "kelvin", "straße", "STRASSE", "stra\u017f\u017fe", "İstanbul",
    "istanbul", "\u1e9e ß", "ab", '"quo"te', "好苹果酱", "a\0b", "ΣΑΣ σας", "plain", "needl", "eedle",
)  # fmt: skip
PATTERNS = ("need[lx]e", "n.+dle", r"\bkelvin$", "(needle|plain)", "str.*e")


def index_all(bench: Workbench) -> None:
    bench.service.searches.builder.drop_if_outdated()
    while bench.service.searches.builder.step():
        pass


async def find(bench: Workbench, context_id: str, query: str, **options: Any) -> list[SearchMatch]:
    matches: list[SearchMatch] = []
    token = None
    while True:
        page = await bench.context.search_files(context_id, query, next_token=token, **options)
        matches += page.matches
        if (token := page.next_token) is None:
            return matches


async def fill(bench: Workbench, context_id: str, count: int, start: int = 0) -> None:
    """Write files enough for the index to be asked: it is not before 500 were walked through."""
    for number in range(start, start + count):
        text = f"file number {number:05} of many, {random.Random(number).random()}"
        await bench.context.write_file(context_id, f"/many/{number:05}", text.encode())


class Asked:
    """Counts how often the index could tell."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers: list[Candidates] = []
        find_before = SearchIndex.find

        def find(index: SearchIndex, literal: str) -> Candidates | None:
            answer = find_before(index, literal)
            if answer is not None:
                self.answers.append(answer)
            return answer

        monkeypatch.setattr(SearchIndex, "find", find)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    return Asked(monkeypatch)


@pytest.fixture
def from_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the index asked behind the first two files, so that small trees do."""
    monkeypatch.setattr("ctx_mcp.service.search_run._BATCH_FILES", 2)


def tells_nothing(index: SearchIndex, literal: str) -> None:
    """Stand in for `find` where there is no index."""


async def both_ways(bench: Workbench, context_id: str, query: str, **options: Any) -> None:
    """Search with the index and without it, which must be the same."""
    with_index = await find(bench, context_id, query, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SearchIndex, "find", tells_nothing)
        assert with_index == await find(bench, context_id, query, **options), (query, options)


async def test_a_rare_text_is_found_by_the_index_without_looking_at_the_rest(bench: Workbench, asked: Asked) -> None:
    context_id = await bench.new_context()
    await fill(bench, context_id, 600)
    index_all(bench)
    page = await bench.context.search_files(context_id, "NUMBER 00599")
    assert [match.path for match in page.matches] == ["/many/00599"]
    assert (len(asked.answers), page.files_searched) == (1, 501)
    assert len(asked.answers[0].content_ids) == 1


async def test_what_came_after_the_index_is_found_too(bench: Workbench) -> None:
    context_id = await bench.new_context()
    await fill(bench, context_id, 600)
    index_all(bench)
    await bench.context.write_file(context_id, "/many/00599", b"a needle")
    await bench.context.write_file(context_id, "/zzz", b"a needle")
    assert [match.path for match in await find(bench, context_id, "needle")] == ["/zzz", "/many/00599"]


async def test_a_large_text_is_always_looked_at(bench: Workbench, from_the_first: None, asked: Asked) -> None:
    context_id = await bench.new_context()
    await fill(bench, context_id, 5)
    await bench.context.write_file(context_id, "/z", b"-" * search_builder.MAX_INDEXED_BYTES + b"\nneedle")
    index_all(bench)
    assert [match.path for match in await find(bench, context_id, "needle")] == ["/z"]
    assert asked.answers


@pytest.mark.parametrize("output", SearchOutput)
@pytest.mark.parametrize("few", [0, 2_000])
async def test_pages_from_the_index_make_the_same_whole(
    bench: Workbench, from_the_first: None, monkeypatch: pytest.MonkeyPatch, few: int, output: SearchOutput
) -> None:
    monkeypatch.setattr("ctx_mcp.service.search_run._FEW_CANDIDATES", few)
    context_id = await bench.new_context()
    for number, text in enumerate(TEXTS * 2):
        await bench.context.write_file(context_id, f"/{number % 3}/{number:02}", f"{text}\n-\n{text}".encode())
    index_all(bench)
    for query in QUERIES:
        await both_ways(bench, context_id, query, max_results=1, output=output)


async def test_an_index_of_numbers_used_again_is_not_believed(
    bench: Workbench, from_the_first: None, asked: Asked
) -> None:
    context_id = await bench.new_context()
    await fill(bench, context_id, 6)
    await bench.context.write_file(context_id, "/last", b"the last content")
    index_all(bench)
    for path in ("/last", "/many/00005"):
        await bench.context.delete_file(context_id, path)
    bench.pass_time(days=30)
    await bench.sweep()
    await bench.context.write_file(context_id, "/new/1", b"a needle")
    await bench.context.write_file(context_id, "/new/2", b"another needle")
    assert [match.path for match in await find(bench, context_id, "needle")] == ["/new/1", "/new/2"]
    assert asked.answers
    assert bench.service.searches.builder.is_wanted
    index_all(bench)
    mark = bench.store.search_index.watermark()
    assert mark is not None
    assert mark.content_count == 7
    assert [match.path for match in await find(bench, context_id, "needle")] == ["/new/1", "/new/2"]


async def test_an_index_of_which_most_is_gone_is_made_anew(bench: Workbench) -> None:
    context_id = await bench.new_context()
    await fill(bench, context_id, 10)
    index_all(bench)
    for number in range(6):
        await bench.context.delete_file(context_id, f"/many/{number:05}")
    bench.pass_time(days=30)
    await bench.sweep()
    index_all(bench)
    mark = bench.store.search_index.watermark()
    assert mark is not None
    assert mark.content_count == 4


async def make_foreign(path: Path) -> None:
    with sqlite3.connect(path) as foreign:
        foreign.execute("CREATE TABLE watermark (a)")
    foreign.close()


async def make_garbage(path: Path) -> None:
    await anyio.Path(path).write_bytes(b"no database at all" * 1000)


async def tear(path: Path) -> None:
    """Overwrite everything but the head of a real index."""
    size_bytes = (await anyio.Path(path).stat()).st_size
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xa5" * (size_bytes - 8192))


async def remove(path: Path) -> None:
    await anyio.Path(path).unlink()


@pytest.mark.parametrize("spoil", [make_foreign, make_garbage, tear, remove])
async def test_a_spoilt_file_changes_no_answer_and_is_made_anew(
    tmp_path: Path, from_the_first: None, spoil: Callable[[Path], Awaitable[None]]
) -> None:
    path = tmp_path / "data" / "search.db"
    async with open_workbench(tmp_path / "data") as bench:
        context_id = await bench.new_context()
        await fill(bench, context_id, 300)
        index_all(bench)
    if spoil is make_foreign:
        path.unlink()
    await spoil(path)
    async with open_workbench(tmp_path / "data") as bench:
        assert [match.path for match in await find(bench, context_id, "NUMBER 00299")] == ["/many/00299"]
        for _ in range(2):
            # The first one may be what finds the file broken.
            index_all(bench)
        found = bench.store.search_index.find("number 00299")
        assert found is not None
        assert len(found.content_ids) == 1
        assert [match.path for match in await find(bench, context_id, "NUMBER 00299")] == ["/many/00299"]


async def test_only_its_owner_may_read_the_index(bench: Workbench) -> None:
    context_id = await bench.new_context()
    await fill(bench, context_id, 1)
    index_all(bench)
    assert (bench.data_dir / "search.db").stat().st_mode & 0o777 == 0o600


async def test_nothing_is_indexed_before_it_pays(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    context_id = await bench.new_context()
    await fill(bench, context_id, 10)
    assert await find(bench, context_id, "needle") == []
    assert not bench.service.searches.builder.is_wanted
    assert not (bench.data_dir / "search.db").exists()
    monkeypatch.setattr(search_builder, "WORTH_AN_INDEX", 9)
    assert await find(bench, context_id, "needle") == []
    assert bench.service.searches.builder.is_wanted


async def test_a_search_that_had_to_scan_much_has_the_index_built(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_builder, "WORTH_AN_INDEX", 9)
    context_id = await bench.new_context()
    await fill(bench, context_id, 10)
    async with anyio.create_task_group() as group:
        group.start_soon(bench.service.searches.builder.run)
        await find(bench, context_id, "needle")
        with anyio.fail_after(20):
            while (mark := bench.store.search_index.watermark()) is None or mark.content_count < 10:
                await anyio.sleep(0.01)
        group.cancel_scope.cancel()


async def test_two_processes_build_one_index_together(tmp_path: Path, from_the_first: None) -> None:
    async with open_workbench(tmp_path / "data") as bench, open_workbench(tmp_path / "data") as other:
        context_id = await bench.new_context()
        await fill(bench, context_id, 30)
        mine, theirs = bench.service.searches.builder, other.service.searches.builder
        for step in (mine.step, theirs.step):
            step()
        await fill(bench, context_id, 30, start=30)
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, mine.step)
            group.start_soon(anyio.to_thread.run_sync, theirs.step)
        index_all(other)
        mark = bench.store.search_index.watermark()
        assert mark is not None
        assert mark.content_count == 60
        for number in (0, 29, 30, 59):
            found = await find(bench, context_id, f"NUMBER {number:05}")
            assert [match.path for match in found] == [f"/many/{number:05}"]


DYING = """
import sys
from pathlib import Path
from tests.service.workbench import Workbench
bench = Workbench(Path(sys.argv[1]))
while True:
    bench.service.searches.builder.step()
    if (mark := bench.store.index_writer.watermark()) is not None:
        bench.store.index_writer.clear(mark)
    sys.stdout.write(".")
    sys.stdout.flush()
"""


async def test_a_process_killed_while_it_indexes_leaves_an_index_that_tells_the_truth(
    tmp_path: Path, from_the_first: None
) -> None:
    async with open_workbench(tmp_path / "data") as bench:
        context_id = await bench.new_context()
        await fill(bench, context_id, 400)
        for step_count in (1, 2, 5):
            async with await anyio.open_process([sys.executable, "-c", DYING, str(tmp_path / "data")]) as process:
                assert process.stdout is not None
                seen = b""
                while len(seen) < step_count:
                    seen += await process.stdout.receive()
                # It is in the midst of the next step, or of forgetting the last.
                process.send_signal(signal.SIGKILL)
            for number in (0, 200, 399):
                found = await find(bench, context_id, f"number {number:05}")
                assert [match.path for match in found] == [f"/many/{number:05}"]
        index_all(bench)
        mark = bench.store.search_index.watermark()
        assert mark is not None
        assert mark.content_count == 400


def test_folding_takes_all_for_equal_that_re2_does() -> None:
    universe = "".join(map(chr, (*range(0x20, 0xD800), *range(0xE000, 0x20000))))
    assert folds_alike("kK\u212asS\u017fßẞİ\u0131iI Σσς", fold)
    options: Any = re2.Options()
    options.case_sensitive = False
    for character in "k\u017fẞİΣǅ\u019b\u0264":
        found = {match.group() for match in re2.compile(character, options).finditer(universe)}
        alike = {fold(other) for other in found} == {fold(character)}
        assert folds_alike(character, fold) is alike, character


@pytest.mark.parametrize(
    ("pattern", "required"),
    [
        ("needle", "needle"),
        ("need.*plain text", "plain text"),
        ("colou?r", "colo"),
        ("ab*cde", "cde"),
        ("ab+cd", "ab"),
        ("abc{0,2}de", "ab"),
        (r"foo\.bar\d", "foo.bar"),
        (r"[abc]def[^x]", "def"),
        ("a|b", ""),
        ("(?i)abc", ""),
        ("x(abc)?", ""),
        (r"\Qabc", ""),
        (r"\x41bc", ""),
        ("[[:alpha:]]abc", ""),
        (r"[\]]abc", ""),
        ("", ""),
    ],
)
def test_what_an_expression_requires(pattern: str, required: str) -> None:
    assert required_text(pattern) == required


@given(st.text(alphabet="ab.*+?^$[]{}()|\\d,1", max_size=12), st.text(alphabet="abd1.,", max_size=12))
@settings(max_examples=500, deadline=None)
def test_every_match_holds_what_its_expression_requires(pattern: str, text: str) -> None:
    options: Any = re2.Options()
    options.log_errors = False
    try:
        found = re2.compile(f"(?:{pattern})", options).search(text)
    except re2.error:
        return
    assert found is None or required_text(pattern) in found.group()


Step = tuple[str, int, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(("write", "write", "write", "delete", "clear", "index", "sweep")),
        st.integers(0, 7),
        st.integers(0, len(TEXTS) - 1),
    ),
    min_size=1,
    max_size=25,
)


@given(steps=STEPS, query=st.sampled_from(QUERIES), pattern=st.sampled_from(PATTERNS))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_index_and_scan_find_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    empty_store: Path,
    from_the_first: None,
    steps: list[Step],
    query: str,
    pattern: str,
) -> None:
    async def run() -> None:
        data_dir = shutil.copytree(empty_store, tmp_path_factory.mktemp("here") / "data")
        async with open_workbench(data_dir, Limits(lease_s=10, retention_s=60)) as bench:
            context_id = await bench.new_context()
            for kind, place, text in steps:
                bench.now += timedelta(seconds=1)
                await take_step(bench, context_id, kind, f"/{place % 3}/{place}", TEXTS[text])
            for case_sensitive in (False, True):
                await both_ways(bench, context_id, query, case_sensitive=case_sensitive)
                await both_ways(bench, context_id, pattern, regex=True, case_sensitive=case_sensitive)

    anyio.run(run)


async def take_step(bench: Workbench, context_id: str, kind: str, path: str, text: str) -> None:
    if kind == "write":
        await bench.context.write_file(context_id, path, text.encode())
    elif kind == "delete":
        await bench.context.delete_file(context_id, path)
    elif kind == "clear":
        await bench.context.clear_async(context_id)
    elif kind == "index":
        index_all(bench)
    else:
        bench.pass_time(days=30)
        await bench.sweep()
