"""News of changes where transactions commit in another order than they began."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Event

from ctx_mcp.store.files import OpenedFile, StoredContent
from ctx_mcp.store.store import Store
from tests.postgresql.racing import ACCOUNT, content, now

WAIT_S = 60


def test_a_change_that_began_first_and_ended_last_is_told(store: Store) -> None:
    """Its version has a lower number than one that was told before."""
    slow, fast = [store.contexts.get_or_create(ACCOUNT, name, now=now())[0].context_id for name in ("slow", "fast")]
    is_inside, may_go_on = Event(), Event()

    def wait(_: OpenedFile | None) -> StoredContent:
        is_inside.set()
        assert may_go_on.wait(WAIT_S)
        return content(b"slow")

    before = store.changes.look(ACCOUNT, [slow, fast], before={})
    marks = [store.changes.commit_mark()]
    with ThreadPoolExecutor(1) as pool:
        try:
            late = pool.submit(store.files.rewrite, ACCOUNT, slow, "/late", wait, actor="", now=now())
            assert is_inside.wait(WAIT_S)
            store.files.write(ACCOUNT, fast, "/early", content(b"fast"), actor="", now=now())
            marks.append(store.changes.commit_mark())
            first = store.changes.look(ACCOUNT, [slow, fast], before=before.contexts)
        finally:
            may_go_on.set()
        late.result(WAIT_S)
    marks.append(store.changes.commit_mark())
    second = store.changes.look(ACCOUNT, [slow, fast], before=first.contexts)
    assert (first.paths, second.paths) == ({(fast, "/early")}, {(slow, "/late")})
    assert len(set(marks)) == 3


def test_the_mark_stays_while_nobody_commits(store: Store) -> None:
    made = store.contexts.get_or_create(ACCOUNT, "a context", now=now())[0].context_id

    def is_still() -> bool:
        marks = {store.changes.commit_mark() for _ in range(3) if store.contexts.get(ACCOUNT, context_id=made)}
        return len(marks) == 1

    # The news of the new context is a commit of its own, and the server commits for others too.
    deadline = now() + timedelta(seconds=WAIT_S)
    while not is_still():
        assert now() < deadline
