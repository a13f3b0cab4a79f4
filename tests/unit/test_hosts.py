"""Which requests are meant for the service, by what they give as Host and as Origin."""

from __future__ import annotations

import httpx
import pytest
from starlette.responses import PlainTextResponse

from ctx_mcp.service.hosts import HostCheck, names_of

NAMES = ["10.0.0.5", "ctx.example.org", "inner:8765"]


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", {"Host": "10.0.0.5:8766"}, 200),
        ("GET", {"Host": "CTX.example.org"}, 200),
        ("GET", {"Host": "https://ctx.example.org/path"}, 200),
        ("GET", {"Host": "inner:8765"}, 200),
        ("GET", {"Host": "localhost:1"}, 200),
        ("GET", {"Host": "[::1]:1"}, 200),
        ("GET", {"Host": "inner:8766"}, 403),
        ("GET", {"Host": "inner"}, 403),
        ("GET", {"Host": "evil.example"}, 403),
        ("GET", {"Host": "ctx.example.org.evil.example"}, 403),
        ("GET", {"Host": "evil.example:ctx.example.org"}, 403),
        ("GET", {"Host": "user@ctx.example.org"}, 403),
        ("GET", {"Host": ""}, 403),
        ("POST", {"Host": "10.0.0.5", "Origin": "https://ctx.example.org"}, 200),
        ("POST", {"Host": "10.0.0.5", "Origin": "https://evil.example"}, 403),
        ("POST", {"Host": "10.0.0.5", "Origin": "null"}, 403),
        ("GET", {"Host": "10.0.0.5", "Origin": "https://evil.example"}, 200),
    ],
)
async def test_a_request_passes_when_it_names_this_server(method: str, headers: dict[str, str], status: int) -> None:
    transport = httpx.ASGITransport(HostCheck(PlainTextResponse("here"), NAMES))
    async with httpx.AsyncClient(transport=transport, base_url="http://10.0.0.5") as client:
        answer = await client.request(method, "/", headers=headers)
    assert answer.status_code == status
    assert status == 200 or answer.json()["code"] == "Auth.AccessDenied"


@pytest.mark.parametrize(
    ("host", "public_url", "names"),
    [
        ("127.0.0.1", "https://ctx.example.org", None),
        ("localhost", None, None),
        ("::1", None, None),
        ("10.0.0.5", None, ["10.0.0.5", "more"]),
        ("fd00::5", None, ["[fd00::5]", "more"]),
        ("0.0.0.0", "https://ctx.example.org:8443/base", ["0.0.0.0", "ctx.example.org", "more"]),
        ("ctx.internal", "https://[fd00::1]/", ["ctx.internal", "[fd00::1]", "more"]),
    ],
)
def test_the_names_of_a_server_that_others_reach(host: str, public_url: str | None, names: list[str] | None) -> None:
    assert names_of(host, public_url, ["more"]) == names
