"""That nothing a caller must keep to itself is written anywhere, at the level that says most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.end_to_end.test_auth_over_http import ACCEPT, INITIALIZE, KEYS, PING, WAIT_S, call_of, host_of
from tests.server.authorization_server import running_authorization_server
from tests.server.processes import running

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lifetimes import Lifetimes

JSON = {"Content-Type": "application/json"}
LOUD = ("--log-level", "debug", "--port", "0")
SECRET = "s3cr3t-that-was-misplaced"
CONTENT = "content-that-is-nobody's-business"


async def misplace(client: httpx.AsyncClient, url: str, key: str) -> None:
    """Send a good key and one that is not known wherever clients put keys by mistake."""
    for secret in (key, SECRET):
        bearer = {"Authorization": f"Bearer {secret}"}
        message = call_of("context_get", context_id=secret, api_key=secret)
        modern = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": secret}
        for headers in ({}, bearer, {**bearer, **modern}, {"X-Api-Key": secret}, {"Cookie": f"key={secret}"}):
            for path in ("", f"?access_token={secret}", f"?key={secret}"):
                await client.post(url + path, json=message, headers={**ACCEPT, **headers})
        await client.post(url, content=f'{{"key": "{secret}', headers={**ACCEPT, **bearer, **JSON})
        await client.post(url, json={"key": secret}, headers={**ACCEPT, **bearer})
        await client.post(url, json=PING, headers={**ACCEPT, **bearer, "Mcp-Session-Id": "a" * 32})
        await client.request("DELETE", url, headers={"Authorization": f"Basic {secret}"})
        await client.get(url, headers={**bearer, "Host": "evil.example"})


async def test_no_key_token_or_content_is_in_what_the_mcp_server_says(hold: Lifetimes, data_dir: Path) -> None:
    issuer = await hold(running_authorization_server())
    settings = {"CTX_MCP_OAUTH_ISSUER": issuer.issuer, **KEYS}
    server = await hold(running("serve", "--transport", "http", *LOUD, CTX_MCP_DATA_DIR=data_dir, **settings))
    token = issuer.token(server.url)
    host = await host_of(hold, server.url, "key-of-anna")
    context_id = await host.new_context("plans")
    await host.write(context_id, "/plan.md", CONTENT)
    legacy = await host_of(hold, server.url, "key-of-anna", "legacy")
    assert CONTENT in str(await legacy.texts("file_read", context_id=context_id, file_path="/plan.md"))
    url: str = (await host.call("file_download_url", context_id=context_id, file_path="/plan.md"))["url"]
    async with httpx.AsyncClient(trust_env=False, timeout=WAIT_S) as client:
        assert (await client.get(url)).text == CONTENT
        await client.get(url.replace("Expires=", "Expires=1"))
        await misplace(client, server.url, "key-of-anna")
        await misplace(client, server.url, token)
        expired = issuer.token(server.url, exp=1)
        assert (await client.post(server.url, json=INITIALIZE, headers=bearing(expired))).status_code == 401
    check(server.said(), ["key-of-anna", "key-of-ben", *parts_of(token), *parts_of(expired), signature_of(url)])
    assert "refused with 401: POST '/mcp' from 127.0.0.1\n" in server.said()
    assert "account 'anna'" in server.said()


async def test_no_key_is_in_what_the_sse_transport_says(hold: Lifetimes, data_dir: Path) -> None:
    server = await hold(running("serve", "--transport", "sse", *LOUD, CTX_MCP_DATA_DIR=data_dir, **KEYS))
    headers = bearing("key-of-anna")
    async with httpx.AsyncClient(trust_env=False, timeout=WAIT_S) as client:
        async with client.stream("GET", server.url, headers=headers) as stream:
            lines = stream.aiter_lines()
            while not (line := await anext(lines)).startswith("data: "):
                pass
            url = server.url.removesuffix("/sse") + line.removeprefix("data: ")
            answer = await client.post(url, content=f'{{"key": "key-of-anna {SECRET}', headers={**headers, **JSON})
            assert answer.status_code == 400
            assert (await client.post(url, json=call_of("context_get", key=SECRET), headers=headers)).status_code == 202
        await misplace(client, server.url, "key-of-anna")
    check(server.said(), ["key-of-anna"])


async def test_no_key_or_url_is_in_what_the_service_says(hold: Lifetimes, data_dir: Path) -> None:
    server = await hold(running("service", *LOUD, CTX_MCP_DATA_DIR=data_dir, **KEYS))
    headers = bearing("key-of-anna")
    async with httpx.AsyncClient(trust_env=False, timeout=WAIT_S) as client:
        created = await client.post(
            f"{server.url}/ctx/v1/GetContext", json={"name": "plans", "create": True}, headers=headers
        )
        context_id = created.json()["result"]["context"]["context_id"]
        asked = {"context_id": context_id, "file_path": "/plan.md"}
        answer = await client.post(f"{server.url}/ctx/v1/GetFileUploadUrl", json=asked, headers=headers)
        url: str = answer.json()["result"]["url"]
        assert (await client.put(url, content=CONTENT)).status_code == 200
        assert (await client.put(url.replace("Expires=", "Expires=1"), content=CONTENT)).status_code == 403
        made = await client.post(f"{server.url}/ctx/v1/CreateKey", json={"scopes": ["admin"]}, headers=headers)
        keys = [made.json()["result"]["text"]]
        rotation = {"key_id": made.json()["result"]["key"]["key_id"]}
        rotated = await client.post(f"{server.url}/ctx/v1/RotateKey", json=rotation, headers=bearing(keys[0]))
        keys.append(rotated.json()["result"]["text"])
        for path in ("/ctx/v1/GetContext", "/ctx/v1/CreateKey", "/sdk/ListContexts", "/", "/nothing"):
            await misplace(client, server.url + path, "key-of-anna")
    check(server.said(), ["key-of-anna", "key-of-ben", *keys, signature_of(url)])
    assert "refused with 401: POST '/ctx/v1/GetContext' from 127.0.0.1 [" in server.said()
    # Of this dialect the status is 200 whatever is said.
    assert "refused with 401: POST '/' from 127.0.0.1 [" in server.said()


def bearing(key: str) -> dict[str, str]:
    return {**ACCEPT, "Authorization": f"Bearer {key}"}


def parts_of(token: str) -> list[str]:
    _, body, signature = token.split(".")
    return [body, signature]


def signature_of(url: str) -> str:
    return url.rpartition("Signature=")[2]


def check(said: str, secrets: list[Any]) -> None:
    """Fail unless the process said something, and none of the secrets."""
    assert "WARNING" in said
    for secret in (*secrets, SECRET, CONTENT):
        assert len(secret) > 8
        assert secret not in said, [line for line in said.splitlines() if secret in line][:3]


pytestmark = pytest.mark.timeout(120)
