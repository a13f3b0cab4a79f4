"""The whole of docker/compose.yaml at work: tables first, replicas of both kinds on PostgreSQL and S3, the proxy."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Generator
from typing import Any

import httpx
import httpx2
import pytest
from mcp.client.streamable_http import streamable_http_client

from ctx_mcp import AsyncClient
from tests.buckets import S3Server
from tests.deployment.dockerfile import read_stages
from tests.deployment.haproxy import HAPROXY
from tests.deployment.site import (
    CTX_MCP,
    PORTS,
    SERVICES,
    WAIT_S,
    Replica,
    Site,
    command_of,
    run_site,
    settings_of,
    wait_until,
)
from tests.lifetimes import Lifetimes
from tests.ports import free_port
from tests.postgres import PostgresServer
from tests.server.hosts import Host, open_host, texts_of

pytestmark = pytest.mark.skipif(HAPROXY is None, reason="HAProxy is not installed")
KEY = "a-key-of-the-team"
BEARER = {"Authorization": f"Bearer {KEY}"}
VARIABLES = {
    "POSTGRES_PASSWORD": "unused",
    "S3_ACCESS_KEY": "unused",
    "S3_SECRET_KEY": "unused",
    "S3_RPC_SECRET": "unused",
    "CTX_MCP_API_KEYS": f"{KEY}=team",
}
CALLS = 20


@pytest.fixture(scope="module")
def site(postgres: PostgresServer, s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Generator[Site]:
    folder = tmp_path_factory.mktemp("site")
    database = postgres.make_database()
    here = {
        "CTX_MCP_DATABASE_URL": postgres.url(database),
        "CTX_MCP_OBJECT_STORE_URL": s3_server.new_place(),
        "CTX_MCP_DATA_DIR": str(folder / "data"),
        "CTX_MCP_LOG_LEVEL": "info",
        "CTX_MCP_LOG_FORMAT": "json",
        **s3_server.environment,
    }
    environ = {**os.environ, **settings_of("migrate", VARIABLES), **here}
    subprocess.run([CTX_MCP, *command_of("migrate")], env=environ, timeout=WAIT_S, check=True)
    with run_site(folder, here, VARIABLES, {"service": 2, "mcp": 2}) as running:
        yield running
    postgres.drop_database(database)


async def _agent(hold: Lifetimes, site: Site, **headers: str) -> Host:
    """Connect an agent's host through the proxy."""
    http = await hold(httpx2.AsyncClient(headers={"authorization": f"Bearer {KEY}", **headers}, timeout=WAIT_S))
    return await open_host(hold, streamable_http_client(f"{site.urls['mcp']}/mcp", http_client=http), "auto")


def _lines_of(request_id: str, replicas: list[Replica]) -> list[dict[str, Any]]:
    """Return the log lines of a request, whichever replica answered it."""
    texts = (line for replica in replicas for line in replica.log.read_text().splitlines(keepends=True))
    lines = [json.loads(line) for line in texts if line.startswith("{") and line.endswith("\n")]
    return [line for line in lines if line.get("request_id") == request_id]


async def test_what_a_program_writes_an_agent_edits_whichever_replica_they_get(hold: Lifetimes, site: Site) -> None:
    client = await hold(AsyncClient(backend=site.urls["service"], api_key=KEY))
    agent = await _agent(hold, site)
    context_id = (await client.context.create("shared")).context_id
    await client.context.write_file(context_id, "/a.txt", b"one two")
    await agent.call(
        "file_edit", context_id=context_id, file_path="/a.txt", edits=[{"old_text": "two", "new_text": "2"}]
    )
    assert (await client.context.read_file(context_id, "/a.txt")).content == b"one 2"
    url = (await client.context.get_file_upload_url(context_id, "/large")).url
    assert not url.startswith(site.urls["service"])
    async with httpx.AsyncClient(timeout=WAIT_S) as http:
        assert (await http.put(url, content=b"x" * 300_000)).status_code == 200
    _, payload, *_ = await agent.texts("file_read", context_id=context_id, file_path="/a.txt")
    assert payload == "one 2"
    listed = await agent.call("file_list", context_id=context_id)
    assert {entry["name"] for entry in listed["files"]} == {"a.txt", "large"}
    for service in site.urls:
        wait_until(lambda service=service: site.have_answered(service))


def test_names_of_the_inner_network_are_served_and_health_is_told_to_everybody(site: Site) -> None:
    for service, inner in (("service", "service:8766"), ("mcp", "mcp:8765")):
        for replica in site.replicas[service]:
            path = "/sdk/ListContexts" if service == "service" else "/mcp"
            statuses = {
                host: httpx.get(replica.url + path, headers={**BEARER, "Host": host}, timeout=WAIT_S).status_code
                for host in (inner, f"proxy:{inner.rpartition(':')[2]}", "evil.example")
            }
            assert statuses.pop("evil.example") in (403, 421)
            assert {403, 421}.isdisjoint(statuses.values()), statuses
            for path in ("/healthz", "/readyz"):
                assert httpx.get(replica.url + path, headers={"Host": "10.0.0.7"}, timeout=WAIT_S).status_code == 200


async def test_one_id_leads_from_the_proxys_log_to_the_replicas_and_metrics_count(hold: Lifetimes, site: Site) -> None:
    agent = await _agent(hold, site, **{"x-request-id": "the-id-of-an-agent"})
    await agent.new_context("followed")
    async with httpx.AsyncClient(headers=BEARER, timeout=WAIT_S) as http:
        answer = await http.get(f"{site.urls['service']}/sdk/ListContexts", headers={"X-Request-Id": "no id; at all"})
        given = answer.headers["x-request-id"]
        told = [
            (await http.get(f"http://127.0.0.1:{replica.metrics_port}/metrics")).text
            for group in site.replicas.values()
            for replica in group
        ]
    wait_until(lambda: given in site.log.read_text())
    wait_until(lambda: "the-id-of-an-agent" in site.log.read_text())
    assert "no id" not in site.log.read_text()
    wait_until(lambda: bool(_lines_of(given, site.replicas["service"])))
    (of_call,) = _lines_of(given, site.replicas["service"])
    assert (of_call["operation"], of_call["account"]) == ("ListContexts", "team")
    of_agent = _lines_of("the-id-of-an-agent", site.replicas["mcp"])
    assert "context_create" in {line.get("operation") for line in of_agent}
    assert all("ctx_mcp_database_calls_total{" in text for text in told)
    assert any('ctx_mcp_tool_calls_total{outcome="ok",tool="context_create"}' in text for text in told)
    assert not any(KEY in text for text in [site.log.read_text(), *told])


def test_requests_go_round_and_no_log_line_holds_a_query(site: Site) -> None:
    headers = {**BEARER, "X-Request-Id": "going-round"}
    with httpx.Client(base_url=site.urls["service"], headers=headers, timeout=WAIT_S) as http:
        assert {http.get("/sdk/ListContexts?signature=a-secret").status_code for _ in range(CALLS)} == {200}
    # By their id: lines of requests before may still be on their way to the log.
    wait_until(lambda: len(site.answered("service", "going-round")) == CALLS)
    answered = site.answered("service", "going-round")
    assert sorted(answered.count(replica.name) for replica in site.replicas["service"]) == [CALLS // 2] * 2
    assert "a-secret" not in site.log.read_text()


def test_a_call_that_is_too_large_is_refused_before_it_is_sent_on(site: Site) -> None:
    before = site.answered("service").count("<NOSRV>")
    url = f"{site.urls['service']}/ctx/v1/WriteFile"
    assert httpx.post(url, headers=BEARER, content=b"x" * 12_700_000, timeout=WAIT_S).status_code == 413
    wait_until(lambda: site.answered("service").count("<NOSRV>") == before + 1)


@pytest.mark.parametrize("service", ["service", "mcp"])
def test_the_look_at_its_health_tells_a_replica_that_lives(site: Site, service: str) -> None:
    _, option, program = _health_check(service)
    for url, is_well in ((site.replicas[service][0].url, True), (f"http://127.0.0.1:{free_port()}", False)):
        here = program.replace(f"http://127.0.0.1:{PORTS[service]}", url)
        assert here != program
        look = subprocess.run([sys.executable, option, here], capture_output=True, timeout=WAIT_S, check=False)
        assert (look.returncode == 0) == is_well


def _health_check(service: str) -> list[str]:
    """Return the program by which an engine looks, with its arguments."""
    if "healthcheck" in SERVICES[service]:
        return SERVICES[service]["healthcheck"]["test"][1:]
    return json.loads(read_stages()[-1].last("HEALTHCHECK").partition("CMD ")[2])


async def test_exchanging_every_replica_under_load_costs_no_call(hold: Lifetimes, site: Site) -> None:
    client = await hold(AsyncClient(backend=site.urls["service"], api_key=KEY))
    agent = await _agent(hold, site)
    context_id = (await client.context.create("under load")).context_id
    done = {"service": 0, "mcp": 0}
    is_over = False

    async def program() -> None:
        while not is_over:
            await client.context.write_file(context_id, f"/program/{done['service']}", b"x")
            done["service"] += 1

    async def agents() -> None:
        while not is_over:
            answer = await agent.answer(
                "file_write", context_id=context_id, file_path="/agent", content="+", mode="append"
            )
            assert not answer.is_error, texts_of(answer)
            done["mcp"] += 1

    async def until_more() -> None:
        so_far = {**done}
        async with asyncio.timeout(WAIT_S):
            while any(done[name] < so_far[name] + CALLS for name in done):
                await asyncio.sleep(0.02)

    async with asyncio.TaskGroup() as group:
        group.create_task(program())
        group.create_task(agents())
        for pair in zip(*site.replicas.values(), strict=True):
            await until_more()
            codes = await asyncio.gather(*(asyncio.to_thread(replica.end) for replica in pair))
            assert codes == [0, 0]
            await until_more()
            before = {name: len(site.answered(name)) for name in site.replicas}
            for replica in pair:
                replica.start()
            # The proxy learns in its own time that they are back; before that, none that is left may go.
            for name, count in before.items():
                await asyncio.to_thread(wait_until, lambda name=name, count=count: site.have_answered(name, count))
        await until_more()
        is_over = True
    assert (await client.context.read_file(context_id, "/agent")).content == b"+" * done["mcp"]
    page = await client.context.list_files(context_id, "/program")
    assert page.count == done["service"]
