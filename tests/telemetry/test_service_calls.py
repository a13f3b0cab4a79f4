"""What the service tells of its calls: one id from the client to the store, metrics, spans, a line in the log."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from ctx_mcp import AsyncClient
from ctx_mcp.domain.errors import FileNotFound
from ctx_mcp.embedded import run_http_service
from ctx_mcp.settings import Settings
from tests.lifetimes import Lifetimes
from tests.telemetry.observed import Told, ids_of, texts_of, told

KEY = "key-that-nobody-may-see"
WAIT_S = 60
ID = "my-request.0001_a"
HEADERS = {"authorization": f"Bearer {KEY}"}
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


async def open_service(hold: Lifetimes, data_dir: Path, database_url: str | None = None) -> str:
    settings = Settings(data_dir=data_dir, database_url=database_url, api_keys={KEY: "anna"})
    return await hold(run_http_service(settings, host="127.0.0.1", port=0))


@pytest.mark.parametrize(
    ("path", "where"),
    [("/ctx/v1/ListContexts", "requestId"), ("/sdk/ListContexts", "requestId"), ("/nothing", "requestId")],
)
async def test_a_callers_request_id_is_in_the_answer_and_in_the_log(
    hold: Lifetimes, data_dir: Path, path: str, where: str
) -> None:
    url = await open_service(hold, data_dir)
    async with httpx.AsyncClient(timeout=WAIT_S) as http:
        with told() as gathered:
            method = "POST" if "v1" in path else "GET"
            answer = await http.request(method, url + path, headers={**HEADERS, "x-request-id": ID}, content=b"{}")
    assert answer.headers.get_list("x-request-id") == [ID]
    assert answer.json()[where] == ID
    (line,) = gathered.lines()
    assert line["request_id"] == ID
    assert line["logger"] == "ctx_mcp.access"


@pytest.mark.parametrize(
    "given", ["short", "x" * 65, "with blank in it", "line\tbreak-here", "käse-käse-käse", "-a" * 6]
)
async def test_what_is_no_sane_request_id_is_replaced(hold: Lifetimes, data_dir: Path, given: str) -> None:
    url = await open_service(hold, data_dir)
    headers = {**{key.encode(): value.encode() for key, value in HEADERS.items()}, b"x-request-id": given.encode()}
    async with httpx.AsyncClient(timeout=WAIT_S) as http:
        with told() as gathered:
            answer = await http.get(f"{url}/sdk/ListContexts", headers=headers)
    assert len(answer.headers["x-request-id"]) == 36
    assert given not in gathered.everything()
    assert gathered.lines()[0]["request_id"] == answer.headers["x-request-id"]


async def test_presigned_urls_answer_with_an_id_too(hold: Lifetimes, data_dir: Path) -> None:
    url = await open_service(hold, data_dir)
    client = await hold(AsyncClient(backend=url, api_key=KEY))
    context_id = (await client.context.create("files")).context_id
    target = (await client.context.get_file_upload_url(context_id, "/a")).url
    async with httpx.AsyncClient(timeout=WAIT_S) as http:
        with told() as gathered:
            done = await http.put(target, content=b"x" * 1000, headers={"x-request-id": ID})
            refused = await http.put(f"{target}0", content=b"x", headers={"x-request-id": ID})
    assert [done.headers["x-request-id"], refused.headers["x-request-id"]] == [ID, ID]
    assert refused.json()["requestId"] == ID
    lines = [line for line in gathered.lines() if line["logger"] == "ctx_mcp.access"]
    assert [line["outcome"] for line in lines] == ["ok", "Url.SignatureMismatch"]
    assert {line["operation"] for line in lines} == {"files"}
    assert gathered.value("ctx_mcp_http_bytes_total", route="files", direction="in") == 1001
    assert gathered.value("ctx_mcp_http_requests_total", route="files", outcome="Url.SignatureMismatch") == 1


async def test_a_line_in_the_log_says_whose_call_it_was_and_how_it_ended(hold: Lifetimes, data_dir: Path) -> None:
    url = await open_service(hold, data_dir)
    client = await hold(AsyncClient(backend=url, api_key=KEY))
    with told() as gathered:
        found = await client.context.get("missing")
        assert not found.success
        await client.context.create("there")
        await (await hold(AsyncClient(backend=url, api_key="wrong"))).context.list()
    lines = [line for line in gathered.lines() if line["logger"] == "ctx_mcp.access"]
    facts = [(line["operation"], line["account"], line["outcome"]) for line in lines]
    assert facts == [
        ("GetContext", "anna", "Context.NotFound"),
        ("GetContext", "anna", "ok"),
        ("native", "", "Auth.Unauthenticated"),
    ]
    assert all(line["duration_ms"] > 0 and line["level"] == "info" for line in lines)


async def test_at_the_usual_level_no_call_writes_a_line(hold: Lifetimes, data_dir: Path) -> None:
    url = await open_service(hold, data_dir)
    client = await hold(AsyncClient(backend=url, api_key=KEY))
    with told(level="warning") as gathered:
        assert (await client.context.create("quiet")).success
        assert not (await client.context.get("missing")).success
    assert gathered.log.getvalue() == ""


@pytest.mark.both_engines
async def test_metrics_count_operations_by_name_and_outcome(
    hold: Lifetimes, data_dir: Path, database_url: str | None
) -> None:
    url = await open_service(hold, data_dir, database_url)
    client = await hold(AsyncClient(backend=url, api_key=KEY))
    with told() as gathered:
        context_id = (await client.context.create("counted")).context_id
        await client.context.write_file(context_id, "/a", b"x" * 100_000)
        with pytest.raises(FileNotFound):
            await client.context.read_file(context_id, "/b")
        assert gathered.value("ctx_mcp_operations_total", operation="WriteFile", outcome="ok") == 1
        assert gathered.value("ctx_mcp_operations_total", operation="ReadFile", outcome="File.NotFound") == 1
        assert gathered.value("ctx_mcp_operations_seconds_count", operation="WriteFile") == 1
        assert gathered.value("ctx_mcp_operations_in_flight") == 0
        assert gathered.value("ctx_mcp_backend_calls_total", operation="WriteFile", outcome="ok") == 1
        assert gathered.value("ctx_mcp_object_calls_total", call="put", outcome="ok") == 1
        assert gathered.value("ctx_mcp_database_calls_total", call="write", outcome="ok") >= 2
        assert gathered.value("ctx_mcp_store_wait_seconds_count", queue="write") >= 2
        assert gathered.value("ctx_mcp_http_bytes_total", route="native", direction="in") > 100_000
        assert gathered.value("ctx_mcp_info", version="1.2.3") == 1


async def test_a_call_is_one_trace_from_the_client_to_the_rows_and_the_bytes(hold: Lifetimes, data_dir: Path) -> None:
    url = await open_service(hold, data_dir)
    client = await hold(AsyncClient(backend=url, api_key=KEY))
    context_id = (await client.context.create("traced")).context_id
    with told() as gathered:
        await client.context.write_file(context_id, "/a", b"x" * 100_000)
    around = ["backend WriteFile", "request native", "operation WriteFile"]
    assert gathered.chain(gathered.span("objects put")) == [*around, "objects put"]
    writes = [gathered.chain(span) for span in gathered.spans() if span.name == "database write"]
    assert [*around, "store FileRows.write", "database write"] in writes
    assert len({ids_of(span)[0] for span in gathered.spans()}) == 1
    operation = texts_of(gathered.span("operation WriteFile"))
    assert operation["ctx_mcp.context_id"] == context_id
    assert operation["ctx_mcp.account"] == "anna"


async def test_a_trace_from_outside_goes_on(hold: Lifetimes, data_dir: Path) -> None:
    url = await open_service(hold, data_dir)
    async with httpx.AsyncClient(timeout=WAIT_S) as http:
        with told() as gathered:
            headers = {**HEADERS, "traceparent": f"00-{TRACE}-{PARENT}-01"}
            await http.get(f"{url}/sdk/ListContexts", headers=headers)
            await http.get(f"{url}/sdk/ListContexts", headers={**HEADERS, "traceparent": "nonsense"})
    first, second = (span for span in gathered.spans() if span.name == "request agb")
    assert (ids_of(first)[0], ids_of(first)[2]) == (TRACE, PARENT)
    assert ids_of(second)[2] == ""


async def test_a_failed_call_shows_in_its_span_by_its_code_alone(hold: Lifetimes, data_dir: Path) -> None:
    url = await open_service(hold, data_dir)
    client = await hold(AsyncClient(backend=url, api_key=KEY))
    with told() as gathered:
        await client.context.get("a-name-that-is-nobodys")
    span = gathered.span("operation GetContext")
    assert texts_of(span)["error.type"] == "Context.NotFound"
    assert not span.status.is_ok
    assert span.status.description is None
    assert "a-name-that-is-nobodys" not in gathered.everything()


async def _told_of_strangers(url: str) -> Told:
    async with httpx.AsyncClient(timeout=WAIT_S) as http:
        with told() as gathered:
            for number in range(30):
                await http.post(f"{url}/ctx/v1/Made{number}Up", headers=HEADERS, content=b"{}")
                await http.get(f"{url}/path{number}/x")
                await http.get(f"{url}/files/ctx-{number}/secret{number}.txt")
            return gathered


async def test_labels_stay_few_whatever_strangers_ask_for(hold: Lifetimes, data_dir: Path) -> None:
    gathered = await _told_of_strangers(await open_service(hold, data_dir))
    text = gathered.metrics.text().decode()
    assert "Made" not in text
    assert "secret" not in text
    assert "path1" not in text
    assert gathered.value("ctx_mcp_http_requests_total", route="native", outcome="Operation.Unknown") == 30
