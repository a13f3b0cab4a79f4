"""Pages of a large folder by their numbers: the same as counting through it, and never counted far."""

from __future__ import annotations

import random
from collections.abc import Generator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ctx_mcp.domain.errors import InvalidArgument
from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.domain.trees import LocalFile, NewContent, Progress, PutFile
from ctx_mcp.store.files import StoredContent
from ctx_mcp.store.store import Store, open_store

pytestmark = pytest.mark.both_engines
ACCOUNT = "local"
FILES = 1500
COUNTED = 400
NAMES = [f"f{number:04d}" for number in range(FILES)]


@pytest.fixture
def store(data_dir: Path, database_url: str | None) -> Generator[Store]:
    opened = open_store(data_dir, replace(DEFAULT_LIMITS, max_counted_files=COUNTED), database_url)
    yield opened
    opened.close()


@pytest.fixture
def context_id(store: Store) -> str:
    made = store.contexts.get_or_create(ACCOUNT, "large", now=now())[0].context_id
    replica = store.sync.open_replica(ACCOUNT, made, "/elsewhere", "/", now=now())
    local = LocalFile("f", 4, 1, 1, 0o644)
    content = NewContent(64 * "0", 4, b"same")
    changes = [PutFile(f"/many/{name}", content, local, None) for name in NAMES]
    store.sync.commit(replica, changes, actor="", now=now(), lease=None, progress=Progress(), notes=())
    return made


def now() -> datetime:
    return datetime.now(UTC)


def page(store: Store, context_id: str, offset: int, limit: int = 50, prefix: str = "") -> list[str]:
    entries, _ = store.folders.page(ACCOUNT, context_id, "/many", limit=limit, offset=offset, prefix=prefix)
    return [entry.name for entry in entries]


def test_pages_in_order_are_the_folder_however_deep(store: Store, context_id: str) -> None:
    found = [name for offset in range(0, FILES, 100) for name in page(store, context_id, offset, 100)]
    assert found == NAMES


def test_pages_in_any_order_are_those_of_the_folder_as_it_is(store: Store, context_id: str) -> None:
    names, chance = list(NAMES), random.Random(6)
    for step in range(60):
        near_an_end = chance.randrange(COUNTED)
        offset = chance.choice([near_an_end, len(names) - near_an_end])
        limit = chance.choice([1, 7, 50])
        assert page(store, context_id, offset, limit) == names[offset : offset + limit]
        if step % 5 == 0:
            gone = names.pop(chance.randrange(len(names)))
            store.files.delete(ACCOUNT, context_id, f"/many/{gone}", actor="", now=now())
        if step % 7 == 0:
            new = f"f{chance.randrange(FILES):04d}-{step}"
            store.files.write(
                ACCOUNT, context_id, f"/many/{new}", StoredContent(64 * "1", 3, b"new"), actor="", now=now()
            )
            names = sorted([*names, new])


def test_a_page_too_far_from_both_ends_is_refused_until_one_near_it_was_read(store: Store, context_id: str) -> None:
    with pytest.raises(InvalidArgument, match="go on by next_token"):
        page(store, context_id, 700)
    assert page(store, context_id, COUNTED) == NAMES[COUNTED : COUNTED + 50]
    assert page(store, context_id, 700) == NAMES[700:750]


def test_behind_the_end_is_nothing_and_the_count_is_told(store: Store, context_id: str) -> None:
    for offset in (FILES, FILES + 1, 2**62):
        assert store.folders.page(ACCOUNT, context_id, "/many", limit=50, offset=offset) == ([], FILES)


def test_numbers_count_within_a_prefix(store: Store, context_id: str) -> None:
    assert page(store, context_id, 90, 20, prefix="f10") == NAMES[1090:1100]
    assert page(store, context_id, 100, 20, prefix="f10") == []


def test_a_clear_remembers_how_far_it_came_and_does_not_need_to(store: Store, context_id: str) -> None:
    task, _ = store.tasks.start_clear(ACCOUNT, context_id, owner="me", now=now())
    for _ in range(3):
        task = store.tasks.step_clear(task.task_id, "me", limit=100, now=now())
    with store.database.write() as connection:
        (told,) = connection.exec_driver_sql("SELECT parameters FROM tasks WHERE kind = 'clear'").one()
        # As one that an older process carried on would say.
        connection.exec_driver_sql("""UPDATE tasks SET parameters = replace(parameters, 'cleared_to', 'unknown')""")
    assert '"cleared_to": [1, "/many", "f0297"]' in told
    while not task.is_final:
        task = store.tasks.step_clear(task.task_id, "me", limit=500, now=now())
    assert (task.files_done, task.bytes_done) == (FILES, 4 * FILES)
    versions = store.history.page(ACCOUNT, context_id, "/many", limit=3 * FILES)
    ends = [version.path for _, version in versions if version.kind == "clear"]
    assert sorted(ends) == [f"/many/{name}" for name in NAMES]
