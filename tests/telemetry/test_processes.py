"""`ctx-mcp service` and `ctx-mcp serve` as processes, with everything they can tell of themselves turned on."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import httpx
import httpx2
import pytest
from mcp.client.streamable_http import streamable_http_client

from ctx_mcp import AsyncClient
from tests.lifetimes import Lifetimes
from tests.ports import free_port
from tests.server.hosts import open_host
from tests.server.processes import Running, run_to_end, running
from tests.telemetry.collector import Collector, collecting

KEY = "key-that-nobody-may-see"
CONTENT = "content-that-nobody-may-see"
WAIT_S = 60


@pytest.fixture
def collector() -> Generator[Collector]:
    with collecting() as found:
        yield found


def _facts(process: Running) -> list[dict[str, Any]]:
    return [json.loads(line) for line in process.said().splitlines() if line.startswith("{")]


async def _open_both(
    hold: Lifetimes, data_dir: Path, tmp_path: Path, **settings: str
) -> tuple[Running, Running, dict[str, str]]:
    """Run a service and an MCP server in front of it; return them, and the addresses of their metrics."""
    metrics = {name: f"127.0.0.1:{free_port()}" for name in ("service", "server")}
    settings |= {"CTX_MCP_LOG_LEVEL": "info", "CTX_MCP_LOG_FORMAT": "json"}
    service = await hold(
        running(
            *("service", "--port", "0"),
            CTX_MCP_API_KEYS=f"{KEY}=anna",
            CTX_MCP_DATA_DIR=data_dir,
            CTX_MCP_METRICS_ADDRESS=metrics["service"],
            OTEL_SERVICE_NAME="the-service",
            **settings,
        )
    )
    server = await hold(
        running(
            *("serve", "--transport", "http", "--port", "0", "--backend", service.url),
            CTX_MCP_API_KEY=KEY,
            CTX_MCP_DATA_DIR=tmp_path / "server",
            CTX_MCP_METRICS_ADDRESS=metrics["server"],
            OTEL_SERVICE_NAME="the-server",
            **settings,
        )
    )
    return service, server, metrics


async def test_a_call_is_followed_through_two_processes_and_gives_no_secret_away(
    hold: Lifetimes, data_dir: Path, tmp_path: Path, collector: Collector
) -> None:
    service, server, metrics = await _open_both(
        hold, data_dir, tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_BSP_SCHEDULE_DELAY="50"
    )
    named = await hold(httpx2.AsyncClient(headers={"x-request-id": "an-id-of-mine"}, timeout=WAIT_S))
    host = await open_host(hold, streamable_http_client(server.url, http_client=named), "auto")
    context_id = (await host.call("context_create", name="followed"))["context_id"]
    await host.write(context_id, "/secret-path.md", CONTENT)
    assert CONTENT in (await host.texts("file_read", context_id=context_id, file_path="/secret-path.md"))[1]
    (upload,) = await host.texts("file_upload_url", context_id=context_id, file_path="/secret-path.md")
    url = next(word for word in upload.replace("'", " ").split() if word.startswith(f"{service.url}/files/"))
    async with httpx.AsyncClient(timeout=WAIT_S) as http:
        assert (await http.put(url, content=CONTENT)).status_code == 200
        assert (await http.put(f"{url}f", content=CONTENT)).status_code == 403
        assert (await http.get(f"{service.url}/nothing?key={KEY}", headers={"Authorization": KEY})).status_code == 404
        told = [(await http.get(f"http://{address}/metrics")).text for address in metrics.values()]

    chain = ("tool context_create", "backend GetContext", "request native", "operation GetContext")
    spans = await anyio.to_thread.run_sync(collector.wait_for, *chain, "request files")
    followed = [spans[name] for name in chain]
    assert [span.service for span in followed] == ["the-server", "the-server", "the-service", "the-service"]
    assert len({span.trace_id for span in followed}) == 1
    assert [span.parent_id for span in followed[1:]] == [span.span_id for span in followed[:-1]]
    request_ids = {span.attributes["ctx_mcp.request_id"] for span in followed}
    (of_tool,) = (line for line in _facts(server) if line.get("operation") == "context_create")
    assert request_ids == {of_tool["request_id"]} == {"an-id-of-mine"}
    assert of_tool["request_id"] in {line.get("request_id") for line in _facts(service)}

    assert 'ctx_mcp_operations_total{operation="WriteFile",outcome="ok"} 1.0' in told[0]
    assert 'ctx_mcp_tool_calls_total{outcome="ok",tool="file_write"} 1.0' in told[1]
    measured = "".join([*told, *(body.decode("latin-1") for body in collector.raw)])
    everything = f"{measured}{service.said()}{server.said()}"
    signature = url.rpartition("signature=")[2].partition("&")[0]
    assert len(signature) > 20
    for secret in (KEY, CONTENT, signature):
        assert secret not in everything
    # The line of a refusal tells what was asked for; nothing else tells of paths.
    assert "secret-path" not in measured
    lines = [line for line in (service.said() + server.said()).splitlines() if "secret-path" in line]
    assert all("refused with 403: PUT" in line for line in lines)
    assert context_id not in "".join(told)


async def _open_caller(hold: Lifetimes, url: str, command: str) -> Callable[[], Awaitable[object]]:
    """Return a call of a client that is connected; it raises where it is refused."""
    if command == "service":
        return (await hold(AsyncClient(backend=url, api_key=KEY))).context.list
    named = await hold(httpx2.AsyncClient(headers={"authorization": f"Bearer {KEY}"}, timeout=WAIT_S))
    return partial((await open_host(hold, streamable_http_client(url, http_client=named), "auto")).call, "context_list")


async def _answers(http: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await http.get(url)).is_success
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("command", ["service", "serve"])
async def test_a_server_that_was_told_to_end_says_so_while_it_still_answers(
    hold: Lifetimes, data_dir: Path, command: str
) -> None:
    arguments = ("service", "--port", "0") if command == "service" else ("serve", "--transport", "http", "--port", "0")
    settings: Any = {"CTX_MCP_API_KEYS": f"{KEY}=anna", "CTX_MCP_DRAIN_S": "3", "CTX_MCP_DATA_DIR": data_dir}
    async with running(*arguments, **settings) as process, httpx.AsyncClient(timeout=WAIT_S) as http:
        origin = process.url.removesuffix("/mcp")
        assert (await http.get(f"{origin}/readyz")).status_code == 200
        answer = await http.post(process.url, headers={"x-request-id": "an-id-of-mine"}, json={})
        assert answer.headers.get_list("x-request-id") == ["an-id-of-mine"]
        call = await _open_caller(hold, process.url, command)
        os.kill(process.pid, signal.SIGTERM)
        with anyio.fail_after(WAIT_S):
            while (answer := await http.get(f"{origin}/readyz")).status_code == 200:
                pass
        assert (answer.status_code, answer.json()["failing"]) == (503, ["draining"])
        assert (await http.get(f"{origin}/healthz")).status_code == 200
        await call()
        with anyio.fail_after(WAIT_S):
            while await _answers(http, f"{origin}/healthz"):
                pass


async def test_metrics_are_at_their_own_address_only(hold: Lifetimes, data_dir: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    settings = {"CTX_MCP_API_KEYS": f"{KEY}=anna", "CTX_MCP_DATA_DIR": data_dir, "CTX_MCP_METRICS_ADDRESS": address}
    service = await hold(running("service", "--port", "0", **settings))
    async with httpx.AsyncClient(timeout=WAIT_S) as http:
        assert (await http.get(f"{service.url}/metrics")).status_code == 404
        answer = await http.get(f"http://{address}/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert "\nctx_mcp_info{" in answer.text
        assert "\nctx_mcp_database_connections{" in answer.text
        assert (await http.get(f"http://{address}/readyz")).json() == {"status": "ok"}
        assert (await http.get(f"http://{address}/sdk/ListContexts")).status_code == 404
    assert f"ctx-mcp: metrics at http://{address}/metrics" in service.said()


async def test_a_taken_metrics_address_is_told_in_one_line(data_dir: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        settings: Any = {"CTX_MCP_API_KEYS": "k=a", "CTX_MCP_DATA_DIR": data_dir, "CTX_MCP_METRICS_ADDRESS": address}
        code, _, err = await run_to_end("service", "--port", "0", **settings)
    assert (code, len(err.splitlines())) == (1, 1)
    assert "cannot listen on" in err


@pytest.mark.parametrize(
    ("module", "settings", "extra"),
    [
        ("prometheus_client", {"CTX_MCP_METRICS_ADDRESS": "127.0.0.1:0"}, "ctx-mcp[metrics]"),
        ("opentelemetry/sdk", {"OTEL_TRACES_EXPORTER": "otlp"}, "ctx-mcp[otel]"),
    ],
)
async def test_an_extra_that_is_missing_is_named(
    data_dir: Path, tmp_path: Path, module: str, settings: dict[str, str], extra: str
) -> None:
    blocker = tmp_path / "blocked"
    blocker.mkdir()
    name = module.replace("/", ".")
    (blocker / "sitecustomize.py").write_text(f"import sys\nsys.modules[{name!r}] = None\n")
    environ: Any = {"PYTHONPATH": blocker, "CTX_MCP_API_KEYS": "k=a", "CTX_MCP_DATA_DIR": data_dir, **settings}
    code, _, err = await run_to_end("service", "--port", "0", **environ)
    assert code == 1
    assert f"pip install '{extra}'" in err


async def test_a_protocol_that_is_not_spoken_is_refused(data_dir: Path) -> None:
    settings: Any = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    code, _, err = await run_to_end("service", "--port", "0", CTX_MCP_API_KEYS="k=a", **settings)
    assert code == 1
    assert "http/protobuf only" in err


async def test_a_collector_that_does_not_answer_keeps_nobody_waiting(hold: Lifetimes, data_dir: Path) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        endpoint = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        settings = {"CTX_MCP_API_KEYS": f"{KEY}=anna", "CTX_MCP_DATA_DIR": data_dir}
        with anyio.fail_after(WAIT_S):
            async with running("service", "--port", "0", OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, **settings) as service:
                client = await hold(AsyncClient(backend=service.url, api_key=KEY))
                assert (await client.context.create("untold")).success


def test_nothing_is_imported_that_nobody_asked_for() -> None:
    code = (
        "import sys, ctx_mcp.cli.main, ctx_mcp.cli.serve, ctx_mcp.cli.service, ctx_mcp.service.http_app\n"
        "print(*(name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'prometheus_client'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == ""
