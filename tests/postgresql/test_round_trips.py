"""How often an operation asks PostgreSQL: each way to the server and back is what a call waits for."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from pathlib import Path

import pytest

from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.store.notices import NoticeSender
from ctx_mcp.store.store import Store, open_store
from tests.counting_proxy import CountingProxy, run_proxy
from tests.postgres import PostgresServer
from tests.postgresql.racing import ACCOUNT, content, now


@pytest.fixture
def proxy(postgres: PostgresServer) -> Generator[CountingProxy]:
    with run_proxy(postgres.port) as running:
        yield running


@pytest.fixture
def store(
    postgres: PostgresServer,
    proxy: CountingProxy,
    postgres_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Generator[Store]:
    # News goes out beside the calls, which do not wait for it; here it would be counted with whichever runs.
    def tell(_: NoticeSender, context_ids: Iterable[str]) -> None:
        assert context_ids

    monkeypatch.setattr(NoticeSender, "tell", tell)
    url = postgres_url.replace(f":{postgres.port}/", f":{proxy.port}/")
    opened = open_store(tmp_path, DEFAULT_LIMITS, url)
    yield opened
    opened.close()


def test_single_operations_take_few_ways_to_the_server(store: Store, proxy: CountingProxy) -> None:
    context_id = store.contexts.get_or_create(ACCOUNT, "a context", now=now())[0].context_id

    def write(text: bytes) -> None:
        store.files.write(ACCOUNT, context_id, "/deep/in/a/file", content(text), actor="", now=now())

    def trips(work: Callable[[], object]) -> int:
        start = proxy.round_trips
        work()
        return proxy.round_trips - start

    write(b"the first")
    asked = {
        "get": trips(lambda: store.contexts.get(ACCOUNT, name="a context")),
        "open": trips(lambda: store.files.open(ACCOUNT, context_id, "/deep/in/a/file")),
        "list": trips(lambda: store.folders.page(ACCOUNT, context_id, "/deep", limit=10)),
        "write": trips(lambda: write(b"the second")),
        "write again": trips(lambda: write(b"the first")),
        "delete": trips(lambda: store.files.delete(ACCOUNT, context_id, "/deep/in/a/file", actor="", now=now())),
    }
    most = {"get": 1, "open": 1, "list": 4, "write": 6, "write again": 7, "delete": 7}
    assert {name: count for name, count in asked.items() if count > most[name]} == {}
