"""Contexts: names, get-or-create, rename, delete, listing."""

from __future__ import annotations

import asyncio
import re

import pytest

from ctx_mcp import Context, ContextListParams
from tests.conformance.backends import Backend, new_context

ODD_NAMES = [
    "two words",
    "a+b",
    "a&b=c",
    "100%",
    "%2F%20",
    "café",
    "日本語",
    "😀🎉",
    "a/b\\c",
    "quote\"'`",
    "?#;:@",
    "x" * 255,
    "😀" * 255,
]


async def test_an_odd_name_comes_back_as_it_was_given(backend: Backend) -> None:
    for name in ODD_NAMES:
        made = await new_context(backend.context, name)
        assert made.name == name
        by_name = await backend.context.get(name)
        by_id = await backend.context.get(context_id=made.id)
        assert (by_name.context_id, by_id.context_id) == (made.id, made.id), name
        assert by_id.context is not None
        assert by_id.context.name == name
        listed = (await backend.context.list()).contexts
        assert [(context.id, context.name) for context in listed] == [(made.id, name)]
        assert (await backend.context.delete(made)).success


async def test_a_name_that_breaks_a_rule_is_a_failure_with_a_reason(backend: Backend) -> None:
    for name in ("x" * 256, "bell\a", "tab\there", "zero\0", "ctx-abcdefghijklmnopq", "SdkCtx-0123456789a"):
        result = await backend.context.create(name)
        assert not result.success, name
        assert result.error_message
        assert result.request_id
    assert (await backend.context.list()).contexts == []


async def test_ids_and_times_have_the_documented_shape(backend: Backend) -> None:
    made = await new_context(backend.context)
    assert re.fullmatch(r"ctx-[a-z2-7]{17}", made.id)
    for moment in (made.created_at, made.last_used_at):
        assert moment is not None
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", moment)


async def test_blanks_around_a_name_do_not_count(backend: Backend) -> None:
    made = await new_context(backend.context, "  padded ")
    assert made.name == "padded"
    assert (await backend.context.get(" padded")).context_id == made.id


async def test_an_unknown_name_is_a_failure_until_it_is_created(backend: Backend) -> None:
    missing = await backend.context.get("later")
    assert not missing.success
    assert missing.context is None
    assert missing.context_id == ""
    made = await backend.context.get("later", True)
    assert made.success
    assert (await backend.context.get("later")).context_id == made.context_id


async def test_create_returns_the_context_that_has_the_name_already(backend: Backend) -> None:
    first = await backend.context.create("same")
    assert (await backend.context.create("same")).context_id == first.context_id
    assert (await backend.context.get("same", create=True)).context_id == first.context_id


async def test_twenty_racing_creators_get_one_id(backend: Backend) -> None:
    results = await asyncio.gather(*(backend.context.get("wanted", create=True) for _ in range(20)))
    assert all(result.success for result in results)
    assert len({result.context_id for result in results}) == 1
    assert len((await backend.context.list()).contexts) == 1


async def test_a_rename_keeps_the_id(backend: Backend) -> None:
    made = await new_context(backend.context, "before")
    result = await backend.context.update(Context(made.id, "after é+&"))
    assert result.success
    assert result.data == {"context_id": made.id}
    assert (await backend.context.get("after é+&")).context_id == made.id
    assert not (await backend.context.get("before")).success


async def test_a_rename_to_a_taken_name_changes_nothing(backend: Backend) -> None:
    one, two = await new_context(backend.context, "one"), await new_context(backend.context, "two")
    result = await backend.context.update(Context(two.id, "one"))
    assert not result.success
    assert "one" in (result.error_message or "")
    assert (await backend.context.get("one")).context_id == one.id
    assert (await backend.context.get("two")).context_id == two.id


async def test_a_rename_to_the_own_name_succeeds(backend: Backend) -> None:
    made = await new_context(backend.context, "own")
    assert (await backend.context.update(made)).success


async def test_a_rename_of_an_unknown_context_fails(backend: Backend) -> None:
    assert not (await backend.context.update(Context("ctx-aaaaaaaaaaaaaaaaa", "name"))).success


async def test_racing_renames_to_one_name_have_one_winner(backend: Backend) -> None:
    made = [await new_context(backend.context, f"n{number}") for number in range(5)]
    results = await asyncio.gather(*(backend.context.update(Context(each.id, "wanted")) for each in made))
    assert [result.success for result in results].count(True) == 1
    assert (await backend.context.get("wanted")).success


async def test_a_deleted_context_is_gone_and_its_name_is_free(backend: Backend) -> None:
    made = await new_context(backend.context, "phoenix")
    result = await backend.context.delete(made)
    assert result.success
    assert result.data == {"context_id": made.id}
    assert not (await backend.context.get("phoenix")).success
    assert not (await backend.context.get(context_id=made.id)).success
    assert (await backend.context.list()).contexts == []
    again = await new_context(backend.context, "phoenix")
    assert again.id != made.id
    assert (await backend.context.list_files(again.id)).entries == []


async def test_deleting_twice_fails_the_second_time(backend: Backend) -> None:
    made = await new_context(backend.context)
    assert (await backend.context.delete(made)).success
    assert not (await backend.context.delete(made)).success


async def test_the_list_shows_the_newest_first_and_ten_by_default(backend: Backend) -> None:
    made = [(await new_context(backend.context, f"n{number}")).id for number in range(12)]
    page = await backend.context.list()
    assert [context.id for context in page.contexts] == list(reversed(made))[:10]
    assert page.max_results == 10


async def test_a_page_of_the_list_holds_at_most_a_hundred(backend: Backend) -> None:
    for number in range(101):
        await new_context(backend.context, f"n{number}")
    page = await backend.context.list(ContextListParams(max_results=1000))
    assert len(page.contexts) == 100


async def test_paging_under_inserts_and_deletes_loses_and_repeats_no_row(own_backend: Backend) -> None:
    context = own_backend.context
    stay = [(await new_context(context, f"stay {number}")).id for number in range(25)]
    seen: list[str] = []
    token: str | None = None
    for turn in range(100):
        page = await context.list(ContextListParams(4, token))
        assert page.success, page.error_message
        seen += [each.id for each in page.contexts]
        token = page.next_token
        if token is None:
            break
        late = await new_context(context, f"late {turn}")
        if turn % 2:
            await context.delete(late)
    assert token is None
    assert len(seen) == len(set(seen))
    assert [each for each in seen if each in stay] == list(reversed(stay))


async def test_paging_goes_on_when_the_row_the_token_names_is_deleted(own_backend: Backend) -> None:
    made = [await new_context(own_backend.context, f"n{number}") for number in range(4)]
    page = await own_backend.context.list(ContextListParams(2))
    await own_backend.context.delete(made[2])
    rest = await own_backend.context.list(ContextListParams(2, page.next_token))
    assert [each.id for each in rest.contexts] == [made[1].id, made[0].id]
    assert rest.next_token is None


async def test_a_token_of_no_listing_is_a_failure(backend: Backend) -> None:
    for token in ("garbage", "W10", "WyJjb250ZXh0cyJd", "é", "W1siYSJdXQ", "W" * 4000):
        result = await backend.context.list(ContextListParams(10, token))
        assert not result.success, token
        assert "next_token" in (result.error_message or "")


async def test_the_list_tells_the_total(own_backend: Backend) -> None:
    for number in range(3):
        await new_context(own_backend.context, f"n{number}")
    page = await own_backend.context.list(ContextListParams(2))
    assert (page.total_count, page.max_results, page.next_token is not None) == (3, 2, True)


async def test_a_filter_by_session_is_refused_rather_than_ignored(own_backend: Backend) -> None:
    result = await own_backend.context.list(ContextListParams(session_id="s-1"))
    assert not result.success
    assert "session" in (result.error_message or "").lower()


@pytest.mark.parametrize("bad", ["lone \ud800 surrogate"])
async def test_text_that_is_no_unicode_is_refused_everywhere(own_backend: Backend, bad: str) -> None:
    made = await new_context(own_backend.context)
    results = [
        await own_backend.context.create(bad),
        await own_backend.context.get(context_id=bad),
        await own_backend.context.update(Context(made.id, bad)),
        await own_backend.context.delete(Context(bad, bad)),
        await own_backend.context.list(ContextListParams(10, bad)),
        await own_backend.context.list_files(made.id, bad),
        await own_backend.context.list_files(bad),
        await own_backend.context.get_file_upload_url(made.id, bad),
        await own_backend.context.get_file_download_url(bad, "/a"),
        await own_backend.context.delete_file(made.id, bad),
        await own_backend.context.clear_async(bad),
    ]
    assert [result.success for result in results] == [False] * len(results)
    assert all(result.error_message for result in results)
