"""What presigned URLs of an object store bring becomes versions: once, in order, and whatever happens in between."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from ctx_mcp import Context
from ctx_mcp.domain.accounts import Quotas
from ctx_mcp.domain.errors import FileExists, FileNotFound, StoreUnusable
from ctx_mcp.domain.limits import Limits
from ctx_mcp.domain.models import BY_URL, WriteMode
from ctx_mcp.service.uploads import LOOKS_AT_FILES, Uploads
from ctx_mcp.store.bucket_uploads import Uploaded
from ctx_mcp.wire.operations import OPERATIONS, DeleteFile, GetFileUploadUrl, ListVersions
from tests.buckets import S3Server
from tests.lifetimes import Lifetimes
from tests.service.workbench import ACCOUNT, START, Workbench, open_workbench

pytestmark = pytest.mark.both_engines

LARGE = b"x" * 100_000
OTHER = b"y" * 100_001
ABOUT_CONTEXTS = {"GetContext", "UpdateContext", "DeleteContext", "GetTask", "GetSyncInfo", "StartSync"}
"""Operations that name a context and tell nothing of its files; a sync looks itself when it begins."""


@pytest_asyncio.fixture
async def bench(hold: Lifetimes, data_dir: Path, database_url: str | None, bucket_url: str) -> Workbench:
    return await hold(open_workbench(data_dir, database_url=database_url, object_store_url=bucket_url))


@pytest_asyncio.fixture
async def other(hold: Lifetimes, bench: Workbench, database_url: str | None, bucket_url: str) -> Workbench:
    """Another replica on the same store."""
    return await hold(open_workbench(bench.data_dir, database_url=database_url, object_store_url=bucket_url))


def uploads_of(bench: Workbench) -> Uploads:
    assert bench.service.uploads is not None
    return bench.service.uploads


async def url_for(bench: Workbench, context_id: str, path: str = "/f") -> str:
    return (await bench.send(GetFileUploadUrl(context_id, path))).result.url


async def put(url: str, content: bytes) -> None:
    async with httpx.AsyncClient() as http:
        assert (await http.put(url, content=content)).status_code == 200


async def get(bench: Workbench, context_id: str, path: str = "/f") -> httpx.Response:
    result = await bench.context.get_file_download_url(context_id, path)
    assert result.success, result.error_message
    async with httpx.AsyncClient() as http:
        return await http.get(result.url)


async def sizes_in(bench: Workbench, context_id: str, path: str = "/") -> list[tuple[str, int]]:
    """Return the history of a path, newest first: what became of it, and how large it was."""
    page = (await bench.send(ListVersions(context_id, path))).result
    return [(version.kind, version.size_bytes) for version in page.versions]


async def stored_keys(bench: Workbench) -> set[str]:
    return {key async for batch in bench.store.objects.list() for key, _ in batch}


async def uploaded(bench: Workbench) -> list[Uploaded]:
    objects = bench.store.objects.uploads
    assert objects is not None
    return [each async for batch in objects.list() for each in batch]


def test_every_operation_on_files_asks_first_what_came() -> None:
    named = {kind for kind in OPERATIONS if "context_id" in kind.__dataclass_fields__}
    assert {kind.__name__ for kind in named - LOOKS_AT_FILES} == ABOUT_CONTEXTS


@pytest.mark.parametrize("content", [b"", b"small", LARGE], ids=["empty", "small", "large"])
async def test_an_upload_is_there_at_the_next_look_and_never_passes_through_us(
    bench: Workbench, s3: S3Server, content: bytes
) -> None:
    made = await bench.new_context()
    bench.now = bench.now.replace(year=2100)
    await put(await url_for(bench, made), content)
    entry = (await bench.context.read_file(made, "/f")).entry
    assert entry.size_bytes == len(content)
    assert entry.digest == (None if content == LARGE else hashlib.sha256(content).hexdigest())
    assert (await get(bench, made)).content == content
    assert (await bench.context.read_file(made, "/f")).content == content
    [version] = (await bench.send(ListVersions(made, "/f"))).result.versions
    assert version.actor == "presigned URL"
    # The store's clock says when; the service's is in another century here.
    assert version.created_at is not None
    assert version.created_at.year < 2100
    assert [request.method for request in s3.requests if "X-Amz-Signature" in request.path][-2:] == ["PUT", "GET"]


async def test_the_audit_log_tells_of_an_upload_and_not_of_the_call_that_found_it(bench: Workbench) -> None:
    made = await bench.new_context()
    await put(await url_for(bench, made), b"small")
    bench.caller = replace(bench.caller, key_id="a key")
    with pytest.raises(FileNotFound):
        await bench.send(DeleteFile(made, "/another"))
    [entry] = bench.store.audit.page(bench.caller.account, limit=10)
    assert (entry.operation, entry.key_id, entry.context_id, entry.path) == ("UploadFile", "url", made, "/f")


async def test_a_second_put_makes_a_second_version_and_changes_nothing_stored(bench: Workbench) -> None:
    made = await bench.new_context()
    url = await url_for(bench, made)
    await put(url, LARGE)
    first = await bench.context.get_file_download_url(made, "/f")
    await put(url, OTHER)
    assert await sizes_in(bench, made) == [("write", len(OTHER)), ("write", len(LARGE))]
    async with httpx.AsyncClient() as http:
        assert (await http.get(first.url)).content == LARGE
    assert (await get(bench, made)).content == OTHER


async def test_looking_again_makes_nothing_new_and_copies_nothing(bench: Workbench, s3: S3Server) -> None:
    made = await bench.new_context()
    await put(await url_for(bench, made), LARGE)
    await sizes_in(bench, made)
    before = len(s3.requests)
    assert await sizes_in(bench, made) == [("write", len(LARGE))]
    assert [request.method for request in s3.requests[before:]] == ["GET"]


async def test_a_context_without_urls_costs_the_store_no_request(bench: Workbench, s3: S3Server) -> None:
    made, busy = await bench.new_context("quiet"), await bench.new_context("busy")
    await url_for(bench, busy)
    before = len(s3.requests)
    await bench.context.list_files(made, "/", 1, 10)
    await bench.context.write_file(made, "/f", b"small")
    await bench.context.read_file(made, "/f")
    assert s3.requests[before:] == []


async def test_two_replicas_that_look_at_once_make_one_version(bench: Workbench, other: Workbench) -> None:
    made = await bench.new_context()
    for number in range(4):
        await put(await url_for(bench, made, f"/{number}"), LARGE + b"%d" % number)
    looks = (bench, other) * 3
    await asyncio.gather(*(replica.context.list_files(made, "/", 1, 10) for replica in looks))
    assert len(await sizes_in(bench, made)) == 4
    # The copies of those who came second are gone.
    assert len(await stored_keys(bench)) == 4


async def test_a_write_after_a_put_stands_and_a_put_after_a_write_stands(bench: Workbench) -> None:
    made = await bench.new_context()
    url = await url_for(bench, made)
    await put(url, b"first")
    await bench.context.write_file(made, "/f", b"second one")
    assert (await bench.context.read_file(made, "/f")).content == b"second one"
    await put(url, b"the third of them")
    assert (await bench.context.read_file(made, "/f")).content == b"the third of them"
    assert await sizes_in(bench, made, "/f") == [("write", 17), ("write", 10), ("write", 5)]


async def test_a_clear_takes_what_came_before_it_and_leaves_what_comes_after(bench: Workbench) -> None:
    made = await bench.new_context()
    before, after = await url_for(bench, made, "/before"), await url_for(bench, made, "/after")
    await put(before, LARGE)
    await bench.context.clear_async(made)
    await put(after, OTHER)
    assert [row.file_path for row in (await bench.context.list_files(made, "/", 1, 10)).entries] == ["/after"]
    assert ("write", len(LARGE)) in await sizes_in(bench, made, "/before")


async def test_an_upload_to_a_deleted_context_is_dropped(bench: Workbench, caplog: pytest.LogCaptureFixture) -> None:
    made = await bench.new_context()
    url = await url_for(bench, made)
    await bench.context.delete(Context(made, ""))
    await put(url, LARGE)
    await uploads_of(bench).settle_all()
    assert await uploaded(bench) == []
    assert await stored_keys(bench) == set()
    assert "was dropped" in caplog.text


async def test_what_can_be_no_file_is_dropped_and_said(
    hold: Lifetimes, tmp_path: Path, bucket_url: str, database_url: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    bench = await hold(
        open_workbench(tmp_path, Limits(max_file_bytes=100_000), database_url=database_url, object_store_url=bucket_url)
    )
    made = await bench.new_context()
    large, below = await url_for(bench, made, "/large"), await url_for(bench, made, "/f/below")
    with caplog.at_level(logging.WARNING):
        await put(large, OTHER)
        await bench.context.write_file(made, "/f", b"a file")
        await put(below, b"small")
        assert [row.file_path for row in (await bench.context.list_files(made, "/", 1, 10)).entries] == ["/f"]
    assert "'/large'" in caplog.text
    assert "at most 100000 bytes, not 100001" in caplog.text
    assert "'/f/below'" in caplog.text
    assert await uploaded(bench) == []
    # The URL is still good: what fits is taken.
    await put(large, b"fits")
    assert (await bench.context.read_file(made, "/large")).content == b"fits"


async def test_an_upload_is_audited_as_one_whoever_looks_first(bench: Workbench) -> None:
    bench.caller = replace(bench.caller, key_id="key-of-a-test")
    made = await bench.new_context()
    await put(await url_for(bench, made, "/by-url"), LARGE)
    await bench.context.write_file(made, "/by-call", b"small")
    await put(await url_for(bench, made, "/unseen"), b"small")
    await uploads_of(bench).settle_all()
    rows = [(row.operation, row.account, row.key_id, row.path) for row in bench.store.audit.page(limit=10)]
    assert [row for row in rows if row[0] in ("UploadFile", "WriteFile")] == [
        ("UploadFile", ACCOUNT, BY_URL, "/by-url"),
        ("WriteFile", ACCOUNT, "key-of-a-test", "/by-call"),
        ("UploadFile", ACCOUNT, BY_URL, "/unseen"),
    ]


@pytest.mark.parametrize("content", [b"small", LARGE], ids=["small", "large"])
async def test_an_upload_above_a_quota_is_dropped_and_said(
    bench: Workbench, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    made = await bench.new_context()
    url = await url_for(bench, made)
    bench.store.accounts.put_quotas(ACCOUNT, Quotas(max_bytes=4), now=START)
    await put(url, content)
    await uploads_of(bench).settle_all()
    assert await sizes_in(bench, made) == []
    assert await uploaded(bench) == []
    assert await stored_keys(bench) == set()
    assert f"an upload of {len(content)} bytes to '/f' of {made} was dropped" in caplog.text
    assert "may keep 4 bytes and has 0" in caplog.text
    assert [row.operation for row in bench.store.audit.page(limit=10)] == []
    await put(url, b"fits")
    assert await sizes_in(bench, made) == [("write", 4)]


async def test_a_file_appears_with_nobody_looking(bench: Workbench) -> None:
    made = await bench.new_context()
    changed: list[str] = []
    bench.service.changes.subscribe(lambda _, context_id: changed.append(context_id))
    await put(await url_for(bench, made), LARGE)
    await uploads_of(bench).settle_all()
    assert changed == [made]
    with bench.store.database.read() as connection:
        assert connection.exec_driver_sql("SELECT path FROM versions").scalar() == "/f"


async def test_of_several_replicas_one_looks_at_a_time_and_none_right_after_it(
    bench: Workbench, other: Workbench, s3: S3Server
) -> None:
    other.now = bench.now
    made = await bench.new_context()
    await put(await url_for(bench, made), LARGE)
    looked = await asyncio.gather(*(uploads_of(replica).settle_in_turn() for replica in (bench, other)))
    assert sorted(looked) == [False, True]
    asked_before = len(s3.requests)
    for replica in (bench, other):
        assert not await uploads_of(replica).settle_in_turn()
    assert len(s3.requests) == asked_before
    for replica in (bench, other):
        replica.pass_time(seconds=6)
    assert await uploads_of(other).settle_in_turn()
    assert not await uploads_of(bench).settle_in_turn()


async def test_a_long_look_is_followed_by_a_long_rest(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    await url_for(bench, await bench.new_context())
    uploads = uploads_of(bench)

    async def look_long() -> None:
        bench.pass_time(seconds=20)

    monkeypatch.setattr(uploads, "settle_all", look_long)
    assert await uploads.settle_in_turn()
    bench.pass_time(seconds=170)
    assert not await uploads.settle_in_turn()
    bench.pass_time(seconds=20)
    assert await uploads.settle_in_turn()


async def test_the_turn_of_a_process_that_died_or_whose_clock_was_wrong_is_taken_over(
    bench: Workbench, other: Workbench
) -> None:
    turns, span = bench.store.turns, timedelta(minutes=1)
    assert turns.take("look at uploads", "a dead process", now=START, span=span)
    other.now = START + timedelta(seconds=59)
    await url_for(other, await other.new_context())
    assert not await uploads_of(other).settle_in_turn()
    other.now = START + timedelta(seconds=61)
    assert await uploads_of(other).settle_in_turn()
    turns.keep("look at uploads", "a dead process", now=START, span=span)
    assert not turns.take("look at uploads", "a third", now=other.now, span=span)
    assert turns.take("look at uploads", "a third", now=START - timedelta(hours=2), span=span)


async def test_an_expired_url_leaves_nothing_behind(bench: Workbench) -> None:
    made = await bench.new_context()
    await url_for(bench, made, "/never")
    await put(await url_for(bench, made), LARGE)
    await uploads_of(bench).settle_all()
    bench.pass_time(days=1)
    await uploads_of(bench).settle_all()
    assert len(await uploaded(bench)) == 1
    assert bench.store.retention.count_rows()["uploads"] == 2
    bench.pass_time(days=0.1)
    await uploads_of(bench).settle_all()
    assert await uploaded(bench) == []
    assert bench.store.retention.count_rows()["uploads"] == 0
    assert (await bench.context.read_file(made, "/f")).content == LARGE


async def test_a_put_that_ends_after_its_url_expired_is_still_a_version(bench: Workbench) -> None:
    """The store looks at the clock when a PUT begins."""
    made = await bench.new_context()
    url = await url_for(bench, made)
    bench.pass_time(days=0.5)
    await put(url, LARGE)
    assert await sizes_in(bench, made) == []
    await uploads_of(bench).settle_all()
    assert await sizes_in(bench, made) == [("write", len(LARGE))]


async def test_uploads_without_a_row_go_when_they_are_old(bench: Workbench) -> None:
    made = await bench.new_context()
    await put(await url_for(bench, made), LARGE)
    bench.store.uploads.forget([each.key for each in await uploaded(bench)])
    [lost] = await uploaded(bench)
    bench.now = lost.uploaded_at
    bench.pass_time(days=0.9)
    await uploads_of(bench).sweep_orphans()
    assert len(await uploaded(bench)) == 1
    bench.pass_time(days=0.2)
    await uploads_of(bench).sweep_orphans()
    assert await uploaded(bench) == []


async def test_a_store_that_is_away_loses_no_upload(bench: Workbench, s3: S3Server) -> None:
    made, quiet = await bench.new_context(), await bench.new_context("quiet")
    url = await url_for(bench, made)
    await put(url, LARGE)
    with s3.away():
        async with asyncio.timeout(20):
            # Better no answer than one without the file.
            assert (await bench.context.list_files(made, "/", 1, 10)).error_code == StoreUnusable.code
            with pytest.raises(StoreUnusable):
                await uploads_of(bench).settle_all()
        assert (await bench.context.list_files(quiet, "/", 1, 10)).success
        assert (await bench.context.get(name="a context")).success
    assert (await bench.context.list_files(made, "/", 1, 10)).entries[0].size == len(LARGE)


async def test_a_process_killed_between_copy_and_row_is_made_good_by_the_next(bench: Workbench) -> None:
    made = await bench.new_context()
    await put(await url_for(bench, made), LARGE)
    objects = bench.store.objects.uploads
    assert objects is not None
    # As far as it came: the bytes are copied, and no row says so.
    [came] = await uploaded(bench)
    lost, _ = await asyncio.to_thread(objects.take_blocking, came)
    assert (await get(bench, made)).content == LARGE
    assert len(await stored_keys(bench)) == 2
    [(_, changed_at)] = [stamp async for batch in bench.store.objects.list() for stamp in batch if stamp[0] == lost]
    bench.now = changed_at + timedelta(days=1, seconds=1)
    await bench.sweep()
    assert lost not in await stored_keys(bench)
    assert (await get(bench, made)).content == LARGE


async def test_small_bytes_get_one_object_when_a_url_is_asked_for(bench: Workbench, other: Workbench) -> None:
    made = await bench.new_context()
    await bench.context.write_file(made, "/f", b"small")
    assert await stored_keys(bench) == set()
    answers = await asyncio.gather(*(get(replica, made) for replica in (bench, other) * 3))
    assert [answer.content for answer in answers] == [b"small"] * 6
    assert len(await stored_keys(bench)) == 1
    assert answers[0].headers["content-disposition"] == "attachment"
    await bench.context.delete_file(made, "/f")
    bench.pass_time(days=8)
    await bench.sweep()
    assert await stored_keys(bench) == set()
    assert bench.store.retention.count_rows()["contents"] == 0


async def test_another_account_confirms_and_reads_nothing(
    hold: Lifetimes, bench: Workbench, database_url: str | None, bucket_url: str
) -> None:
    foreign = await hold(
        open_workbench(bench.data_dir, account="foreign", database_url=database_url, object_store_url=bucket_url)
    )
    made = await bench.new_context()
    await put(await url_for(bench, made), LARGE)
    assert not (await foreign.context.list_files(made, "/", 1, 10)).success
    assert not (await foreign.context.get_file_upload_url(made, "/f")).success
    assert bench.store.retention.count_rows()["versions"] == 0
    assert (await get(bench, made)).content == LARGE


async def test_an_upload_is_recorded_as_itself_whoever_is_looking(bench: Workbench) -> None:
    made = await bench.new_context()
    await put(await url_for(bench, made), b"by a reader's look")
    bench.caller = replace(bench.caller, key_id="key-of-a-test")
    await bench.context.read_file(made, "/f")
    await put(await url_for(bench, made, "/g"), b"by a writer's look")
    with pytest.raises(FileExists):
        await bench.context.write_file(made, "/g", b"other", mode=WriteMode.CREATE)
    changes = [(entry.operation, entry.path, entry.key_id) for entry in bench.store.audit.page(limit=100)]
    assert changes == [("UploadFile", "/f", BY_URL), ("UploadFile", "/g", BY_URL)]


@pytest.mark.both_engines(False)
async def test_a_sweep_that_an_outage_stops_says_so_in_a_line_and_is_done_by_the_next(
    bench: Workbench, s3: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    await bench.context.write_file(await bench.new_context(), "/f", LARGE)
    # No answer that is worth another try.
    with s3.answering(403):
        await bench.sweep()
    (told,) = [record for record in caplog.records if record.name == "ctx_mcp.service.jobs"]
    assert (told.levelname, told.exc_info) == ("WARNING", None)
    assert "will be taken up again: the object store failed: it refuses these credentials" in told.message
    caplog.clear()
    bench.pass_time(seconds=bench.service.limits.lease_s + 1)
    await bench.sweep()
    assert caplog.records == []


@pytest.mark.both_engines(False)
async def test_calls_that_come_together_share_one_listing_and_all_see_what_came(bench: Workbench, s3: S3Server) -> None:
    made = await bench.new_context()
    await put(await url_for(bench, made), LARGE)
    before = len(s3.requests)
    listed = await asyncio.gather(*(bench.context.list_files(made, "/") for _ in range(20)))
    assert [[entry.file_name for entry in page.entries] for page in listed] == [["f"]] * 20
    listings = [request for request in s3.requests[before:] if request.method == "GET" and "list-type" in request.path]
    assert len(listings) <= 3


@pytest.mark.both_engines(False)
async def test_calls_that_come_together_are_all_told_that_the_store_fails(bench: Workbench, s3: S3Server) -> None:
    made = await bench.new_context()
    await url_for(bench, made)
    with s3.answering(403):
        listed = await asyncio.gather(*(bench.context.list_files(made, "/") for _ in range(20)))
        assert [page.success for page in listed] == [False] * 20
    assert (await bench.context.list_files(made, "/")).success


@pytest.mark.both_engines(False)
async def test_a_caller_that_gives_up_while_it_waits_to_look_leaves_the_look_to_the_next(
    bench: Workbench, s3: S3Server
) -> None:
    made = await bench.new_context()
    await put(await url_for(bench, made), LARGE)
    with s3.hanging():
        first = asyncio.ensure_future(bench.context.list_files(made, "/"))
        await asyncio.to_thread(s3.await_held, 1)
        others = [asyncio.ensure_future(bench.context.list_files(made, "/")) for _ in range(3)]
        await asyncio.sleep(0)
        others[0].cancel()
    listed = await asyncio.gather(first, *others[1:])
    assert [[entry.file_name for entry in page.entries] for page in listed] == [["f"]] * 3
