"""MCP over HTTP where callers say who they are: keys, tokens, accounts, scopes, as clients meet them."""

from __future__ import annotations

import asyncio
import base64
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import httpx2
import pytest
import pytest_asyncio
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata, OAuthToken
from mcp_types import ResourceTemplateReference

from tests.ports import free_port
from tests.server.authorization_server import AuthorizationServer, code_of, running_authorization_server
from tests.server.hosts import ERAS, WAIT_S, Host, open_host, refused, texts_of
from tests.server.news import LIST, News, until_heard
from tests.server.processes import Running, run_to_end, running

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from tests.lifetimes import Lifetimes

KEYS = {"CTX_MCP_API_KEYS": "key-of-anna=anna,key-of-ben=ben"}
SERVE = ("serve", "--transport", "http", "--port", "0")
ACCEPT = {"Accept": "application/json, text/event-stream"}
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}
PING = {"jsonrpc": "2.0", "id": 2, "method": "ping"}


@pytest_asyncio.fixture
async def issuer(hold: Lifetimes) -> AuthorizationServer:
    return await hold(running_authorization_server())


@pytest_asyncio.fixture
async def server(hold: Lifetimes, data_dir: Path) -> Running:
    """A server with two keys of two accounts."""
    return await hold(running(*SERVE, CTX_MCP_DATA_DIR=data_dir, **KEYS))


@pytest_asyncio.fixture
async def resource(hold: Lifetimes, data_dir: Path, issuer: AuthorizationServer) -> Running:
    """A server that takes the tokens of an authorization server, and keys besides."""
    return await hold(running(*SERVE, CTX_MCP_DATA_DIR=data_dir, CTX_MCP_OAUTH_ISSUER=issuer.issuer, **KEYS))


@asynccontextmanager
async def bearing(key: str) -> AsyncGenerator[httpx2.AsyncClient]:
    timeout = httpx2.Timeout(WAIT_S)
    async with httpx2.AsyncClient(
        headers={"Authorization": f"Bearer {key}"}, trust_env=False, timeout=timeout
    ) as client:
        yield client


async def host_of(hold: Lifetimes, url: str, key: str, era: str = "auto", **options: Any) -> Host:
    client = await hold(bearing(key))
    return await open_host(hold, streamable_http_client(url, http_client=client), era, **options)


async def post(url: str, message: dict[str, Any], **headers: str) -> httpx.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    async with httpx.AsyncClient(trust_env=False, timeout=WAIT_S) as client:
        return await client.post(url, json=message, headers={**ACCEPT, **names})


def call_of(tool: str, **arguments: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}


@pytest.mark.parametrize("era", ERAS)
async def test_what_one_account_has_no_other_sees(hold: Lifetimes, server: Running, era: str) -> None:
    anna = await host_of(hold, server.url, "key-of-anna", era)
    ben = await host_of(hold, server.url, "key-of-ben", era)
    context_id = await anna.new_context("secret plans")
    await anna.write(context_id, "/plan.md", "the plan\n")

    assert (await ben.call("context_list"))["contexts"] == []
    for reference in (context_id, "secret plans"):
        assert "Context.NotFound" in await ben.refusal("context_get", context_id=reference)
        assert "Context.NotFound" in await ben.refusal("file_read", context_id=reference, file_path="/plan.md")
        assert "Context.NotFound" in await ben.refusal("context_delete", context_id=reference, confirm=True)
    assert (await ben.client.list_resources()).resources == []
    await refused(ben.client.read_resource(f"context://{context_id}/plan.md"))
    await refused(ben.client.get_prompt("resume", {"context": context_id}))
    for typed in ("", "sec", "ctx-"):
        reference = ResourceTemplateReference(uri="context://{context_id}")
        found = await ben.client.complete(reference, {"name": "context_id", "value": typed})
        assert found.completion.values == []
    # The name is free for him: he gets a context of his own by it.
    assert await ben.new_context("secret plans") != context_id
    assert [each["name"] for each in (await anna.call("context_list"))["contexts"]] == ["secret plans"]


async def test_without_a_key_nothing_is_answered(server: Running) -> None:
    for headers in ({}, {"Authorization": "Bearer nobody's"}, {"Authorization": "Basic a2V5LW9mLWFubmE6"}):
        answer = await post(server.url, INITIALIZE, **headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer ")
        assert ('error="invalid_token"' in answer.headers["www-authenticate"]) == ("nobody" in str(headers))
    assert (await post(f"{server.url}?access_token=key-of-anna", INITIALIZE)).status_code == 401
    async with httpx.AsyncClient(trust_env=False, timeout=WAIT_S) as client:
        for method in ("GET", "DELETE", "OPTIONS", "PUT"):
            assert (await client.request(method, server.url)).status_code == 401
        twice = [("Authorization", "Bearer nobody's"), ("Authorization", "Bearer key-of-anna")]
        assert (await client.post(server.url, json=INITIALIZE, headers=[*ACCEPT.items(), *twice])).status_code == 401


async def test_a_session_is_not_there_for_another_account(server: Running) -> None:
    opened = await post(server.url, INITIALIZE, Authorization="Bearer key-of-anna")
    assert opened.status_code == 200
    session_id = opened.headers["mcp-session-id"]
    for key, status in (("key-of-ben", 404), ("key-of-anna", 200), ("nobody's", 401)):
        headers = {"Authorization": f"Bearer {key}", "Mcp_Session_Id": session_id}
        assert (await post(server.url, PING, **headers)).status_code == status


async def test_an_sse_session_is_not_there_for_another_account(hold: Lifetimes, data_dir: Path) -> None:
    server = await hold(running("serve", "--transport", "sse", "--port", "0", CTX_MCP_DATA_DIR=data_dir, **KEYS))
    headers = {"Authorization": "Bearer key-of-anna"}
    async with httpx.AsyncClient(trust_env=False, timeout=WAIT_S) as client:
        assert (await client.get(server.url)).status_code == 401
        async with client.stream("GET", server.url, headers=headers) as stream:
            lines = stream.aiter_lines()
            while not (line := await anext(lines)).startswith("data: "):
                pass
            url = server.url.removesuffix("/sse") + line.removeprefix("data: ")
            for key, status in (("key-of-ben", 404), ("nobody's", 401), ("key-of-anna", 202)):
                assert (await post(url, INITIALIZE, Authorization=f"Bearer {key}")).status_code == status


async def test_a_token_of_the_issuer_is_let_in_and_the_challenge_says_where_to_get_one(
    hold: Lifetimes, issuer: AuthorizationServer, resource: Running
) -> None:
    challenge = (await post(resource.url, INITIALIZE)).headers["www-authenticate"]
    origin = resource.url.removesuffix("/mcp")
    metadata_url = f"{origin}/.well-known/oauth-protected-resource/mcp"
    assert challenge == f'Bearer resource_metadata="{metadata_url}", scope="ctx:read ctx:write"'
    async with httpx.AsyncClient(trust_env=False, timeout=WAIT_S) as client:
        for url in (metadata_url, metadata_url.removesuffix("/mcp")):
            told = (await client.get(url)).json()
            assert told["resource"] == resource.url
            assert told["authorization_servers"] == [issuer.issuer]
            assert told["scopes_supported"] == ["ctx:read", "ctx:write", "ctx:admin"]
    for key, status in (
        (issuer.token(resource.url), 200),
        ("key-of-anna", 200),
        (issuer.token("https://other.example/mcp"), 401),
        (issuer.token(resource.url, scope="openid"), 403),
    ):
        assert (await post(resource.url, INITIALIZE, Authorization=f"Bearer {key}")).status_code == status
    anna = await host_of(hold, resource.url, issuer.token(resource.url))
    by_key = await host_of(hold, resource.url, "key-of-anna")
    assert await anna.new_context("plans") == await by_key.new_context("plans")


async def test_a_server_without_sessions_tells_strangers_where_to_get_a_token(
    hold: Lifetimes, data_dir: Path, issuer: AuthorizationServer
) -> None:
    settings = {"CTX_MCP_DATA_DIR": data_dir, "CTX_MCP_OAUTH_ISSUER": issuer.issuer}
    server = await hold(running(*SERVE, "--stateless", **settings))
    told_at = (await post(server.url, INITIALIZE)).headers["www-authenticate"].split('"')[1]
    async with httpx.AsyncClient(trust_env=False, timeout=WAIT_S) as client:
        assert (await client.get(told_at)).json()["authorization_servers"] == [issuer.issuer]
        # The endpoint itself has no stream still, for whoever may ask.
        headers = {**ACCEPT, "Authorization": f"Bearer {issuer.token(server.url)}"}
        assert (await client.get(server.url, headers=headers)).status_code == 405


async def test_the_sdk_s_own_client_finds_its_way_to_a_token(
    hold: Lifetimes, issuer: AuthorizationServer, resource: Running
) -> None:
    host = await open_authorized(hold, issuer, resource.url)
    await host.new_context("plans")
    (asked,) = issuer.authorized
    assert asked["resource"] == resource.url
    assert asked["scope"].split() == ["ctx:read", "ctx:write"]
    assert asked["code_challenge_method"] == "S256"


async def test_the_sdk_s_own_client_asks_for_more_where_its_scopes_do_not_suffice(
    hold: Lifetimes, issuer: AuthorizationServer, resource: Running
) -> None:
    issuer.granted = "ctx:read"
    host = await open_authorized(hold, issuer, resource.url)
    assert "context_create" not in host.tools
    issuer.granted = None
    result = await host.client.call_tool("context_create", {"name": "plans"})
    assert not result.is_error, texts_of(result)
    assert [set(asked["scope"].split()) for asked in issuer.authorized] == [{"ctx:read", "ctx:write"}] * 2


@pytest.mark.parametrize("era", ERAS)
async def test_who_may_only_read_sees_and_gets_only_what_reads(
    hold: Lifetimes, issuer: AuthorizationServer, resource: Running, era: str
) -> None:
    writer = await host_of(hold, resource.url, "key-of-anna", era)
    context_id = await writer.new_context("plans")
    await writer.write(context_id, "/plan.md", "the plan\n")
    token = issuer.token(resource.url, scope="ctx:read")
    reader = await host_of(hold, resource.url, token, era)
    writing = {name for name, tool in writer.tools.items() if tool.annotations and not tool.annotations.read_only_hint}
    assert reader.tools.keys() == writer.tools.keys() - writing
    assert writing
    said = json.dumps([tool.model_dump(mode="json") for tool in reader.tools.values()]) + str(
        reader.client.instructions
    )
    assert not [name for name in writing if name in said]
    assert (await reader.texts("file_read", context_id=context_id, file_path="/plan.md"))[1].strip() == "the plan"

    for name in writing:
        answer = await post(
            resource.url, call_of(name), Authorization=f"Bearer {token}", MCP_Protocol_Version=ERAS[era]
        )
        assert answer.status_code == 403, name
        challenge = answer.headers["www-authenticate"]
        assert 'error="insufficient_scope"' in challenge
        assert 'scope="ctx:read ctx:write"' in challenge
    assert [each["path"] for each in (await writer.call("file_list", context_id=context_id))["files"]] == ["/plan.md"]


async def test_a_token_with_anything_for_its_algorithm_is_a_stranger_s(resource: Running) -> None:
    for algorithm in (["RS256"], {"RS256": 1}, None, 256, "none"):
        parts = (json.dumps({"alg": algorithm, "kid": "rsa"}).encode(), b"{}", b"no signature")
        token = ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)
        answer = await post(resource.url, INITIALIZE, Authorization=f"Bearer {token}")
        assert answer.status_code == 401, algorithm
        assert "in a way that is not accepted" in answer.json()["error_description"], algorithm


async def test_while_the_issuer_is_away_nobody_is_called_a_stranger(
    issuer: AuthorizationServer, resource: Running
) -> None:
    issuer.is_down = True
    answer = await post(resource.url, INITIALIZE, Authorization=f"Bearer {issuer.token(resource.url)}")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    assert (await post(resource.url, INITIALIZE, Authorization="Bearer key-of-anna")).status_code == 200


async def test_folders_of_the_server_are_for_accounts_that_the_settings_name(
    hold: Lifetimes, data_dir: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "file.txt").write_text("text")
    settings = {"CTX_MCP_ALLOWED_DIRS": str(folder), "CTX_MCP_FOLDER_ACCOUNTS": "anna", **KEYS}
    server = await hold(running(*SERVE, CTX_MCP_DATA_DIR=data_dir, **settings))
    anna = await host_of(hold, server.url, "key-of-anna")
    ben = await host_of(hold, server.url, "key-of-ben")
    await anna.new_context("work")
    await ben.new_context("work")
    sync = {"context_id": "work", "path": str(folder), "mode": "upload", "wait_s": 20}
    assert "CTX_MCP_FOLDER_ACCOUNTS" in await ben.refusal("context_sync_start", **sync)
    bindings = [{"context_id": "work", "path": str(folder)}]
    assert "Folder.NotAllowed" in await ben.refusal("session_create", bindings=bindings)
    assert (await anna.call("context_sync_start", **sync))["state"] == "completed"


async def test_legacy_clients_hear_of_their_own_account_only(hold: Lifetimes, server: Running) -> None:
    anna, ben = News(), News()
    annas = await host_of(hold, server.url, "key-of-anna", "legacy", message_handler=anna.take)
    bens = await host_of(hold, server.url, "key-of-ben", "legacy", message_handler=ben.take)
    await until_heard(annas, anna)
    await until_heard(bens, ben)
    of_anna, of_ben = await annas.new_context("plans"), await bens.new_context("plans")
    for news in (anna, ben):
        assert await news.next() == LIST
    await annas.subscribe(f"context://{of_anna}")
    await bens.subscribe(f"context://{of_ben}")
    await annas.write(of_anna, "/plan.md", "a plan\n")
    await annas.new_context("more plans")
    await bens.write(of_ben, "/plan.md", "another plan\n")
    await bens.new_context("other plans")
    assert await anna.until_list_changed() == [f"context://{of_anna}"]
    assert await ben.until_list_changed() == [f"context://{of_ben}"]


async def test_modern_clients_hear_of_their_own_account_only(hold: Lifetimes, server: Running) -> None:
    annas = await host_of(hold, server.url, "key-of-anna")
    bens = await host_of(hold, server.url, "key-of-ben")
    of_anna, of_ben = await annas.new_context("plans"), await bens.new_context("plans")
    # Of what is not his, nobody is told, whatever he asks for.
    uris = [f"context://{of_anna}", f"context://{of_ben}"]
    anna = await hold(annas.client.listen(resources_list_changed=True, resource_subscriptions=uris))
    ben = await hold(bens.client.listen(resources_list_changed=True, resource_subscriptions=uris))
    await annas.write(of_anna, "/plan.md", "a plan\n")
    await annas.new_context("more plans")
    await bens.write(of_ben, "/plan.md", "another plan\n")
    await bens.new_context("other plans")
    for stream, uri in ((anna, uris[0]), (ben, uris[1])):
        told = [await asyncio.wait_for(anext(aiter(stream)), WAIT_S) for _ in range(2)]
        assert [getattr(event, "uri", LIST) for event in told] == [uri, LIST]


@pytest.mark.parametrize(
    ("arguments", "settings", "said"),
    [
        (("--host", "0.0.0.0"), {}, "CTX_MCP_API_KEYS"),
        (("--host", "0.0.0.0"), {}, "CTX_MCP_OAUTH_ISSUER"),
        (("--public-url", "https://ctx.example.org"), {}, "public URL"),
        (("--host", "0.0.0.0"), KEYS, "--public-url"),
        (("--host", "example.org"), KEYS, "is no address"),
        ((), {"CTX_MCP_OAUTH_ISSUER": "http://as.example"}, "https://"),
        ((), {"CTX_MCP_OAUTH_AUDIENCE": "a"}, "CTX_MCP_OAUTH_ISSUER"),
        ((), {"CTX_MCP_OAUTH_ISSUER": "https://as.example", "CTX_MCP_OAUTH_JWKS_URL": "http://as.example"}, "JWKS"),
        (("--public-url", "ctx.example.org"), KEYS, "CTX_MCP_PUBLIC_URL"),
    ],
)
async def test_settings_that_would_let_anybody_in_end_the_start(
    data_dir: Path, arguments: tuple[str, ...], settings: dict[str, str], said: str
) -> None:
    code, _, err = await run_to_end(*SERVE, *arguments, CTX_MCP_DATA_DIR=data_dir, cwd=None, **settings)
    assert code == 1
    assert said in err
    assert "Traceback" not in err


async def test_a_request_must_name_this_server(hold: Lifetimes, data_dir: Path) -> None:
    port = free_port()
    settings = {"CTX_MCP_ALLOWED_HOSTS": "inner.example", **KEYS}
    arguments = ("--transport", "http", "--port", str(port), "--public-url", "https://ctx.example.org/base")
    server = await hold(running("serve", *arguments, CTX_MCP_DATA_DIR=data_dir, **settings))
    assert server.url == "https://ctx.example.org/base/mcp"
    for host, origin, status in (
        ("ctx.example.org", "https://ctx.example.org", 200),
        ("inner.example:8765", None, 200),
        ("127.0.0.1", None, 200),
        ("evil.example", None, 421),
        ("ctx.example.org.evil.example", None, 421),
        ("ctx.example.org", "https://evil.example", 403),
        ("ctx.example.org", "null", 403),
    ):
        headers = {"Host": host, "Authorization": "Bearer key-of-anna", **({"Origin": origin} if origin else {})}
        assert (await post(f"http://127.0.0.1:{port}/mcp", INITIALIZE, **headers)).status_code == status, (host, origin)


async def make_key(data_dir: Path, account: str, *more: str) -> str:
    code, out, err = await run_to_end("keys", "create", account, *more, CTX_MCP_DATA_DIR=data_dir)
    assert code == 0, err
    return out.strip()


async def audited(data_dir: Path) -> list[dict[str, Any]]:
    code, out, err = await run_to_end("audit", "--json", CTX_MCP_DATA_DIR=data_dir)
    assert code == 0, err
    return [json.loads(line) for line in out.splitlines()]


async def test_keys_of_the_store_are_enough_beyond_this_machine_and_refusals_are_audited(
    hold: Lifetimes, data_dir: Path
) -> None:
    key = await make_key(data_dir, "anna")
    reading = await make_key(data_dir, "ben", "--scope", "read")
    port = free_port()
    arguments = ("--transport", "http", "--port", str(port), "--public-url", "https://ctx.example.org")
    await hold(running("serve", *arguments, CTX_MCP_DATA_DIR=data_dir, CTX_MCP_LOG_LEVEL="info"))
    url = f"http://127.0.0.1:{port}/mcp"
    anna = await host_of(hold, url, key)
    await anna.new_context("plans")
    make = call_of("context_create", name="other")
    told = {"user-agent": "curious/1", "x-request-id": "asked-by-a-stranger"}
    assert (await post(url, make, **told)).status_code == 401
    assert (await post(url, make, authorization=f"Bearer {key}x")).status_code == 401
    assert (await post(url, make, authorization=f"Bearer {reading}")).status_code == 403
    with anyio.fail_after(WAIT_S):
        while len(rows := [row for row in await audited(data_dir) if row["operation"] == "Authenticate"]) < 3:
            await asyncio.sleep(0.1)
    assert [(row["account"], row["outcome"]) for row in rows] == [
        ("", "Auth.Unauthenticated"),
        ("", "Auth.Unauthenticated"),
        ("ben", "Auth.ScopeMissing"),
    ]
    assert rows[0]["actor"] == "127.0.0.1 curious/1"
    assert rows[0]["request_id"] == "asked-by-a-stranger"
    assert key not in json.dumps(rows)


async def test_keys_of_the_store_count_beside_those_of_the_settings(hold: Lifetimes, data_dir: Path) -> None:
    key = await make_key(data_dir, "carla")
    server = await hold(running(*SERVE, CTX_MCP_DATA_DIR=data_dir, CTX_MCP_LOG_LEVEL="info", **KEYS))
    for known in (key, "key-of-anna"):
        host = await host_of(hold, server.url, known)
        await host.new_context("plans")
    assert "account=carla outcome=ok" in server.said()
    assert (await post(server.url, INITIALIZE)).status_code == 401


async def test_on_this_machine_alone_keys_of_the_store_ask_nobody(hold: Lifetimes, data_dir: Path) -> None:
    await make_key(data_dir, "anna")
    server = await hold(running(*SERVE, CTX_MCP_DATA_DIR=data_dir))
    assert (await post(server.url, INITIALIZE)).status_code == 200


async def test_urls_of_files_are_below_the_public_url_and_ask_for_no_key(hold: Lifetimes, data_dir: Path) -> None:
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    arguments = ("--transport", "http", "--port", str(port), "--public-url", base)
    await hold(running("serve", *arguments, CTX_MCP_DATA_DIR=data_dir, **KEYS))
    anna = await host_of(hold, f"{base}/mcp", "key-of-anna")
    asked = {"context_id": await anna.new_context("plans"), "file_path": "/plan.md"}
    url = (await anna.call("file_upload_url", **asked))["url"]
    assert url.startswith(f"{base}/files/")
    async with httpx.AsyncClient(trust_env=False, timeout=WAIT_S) as client:
        assert (await client.put(url, content="a plan")).status_code == 200
        assert (await client.put(url.replace("plan.md", "other.md"), content="a plan")).status_code == 403
        assert (await client.put(url, content="a plan", headers={"Host": "evil.example"})).status_code == 403
        read = (await anna.call("file_download_url", **asked))["url"]
        assert (await client.get(read)).text == "a plan"


class Tokens:
    """Where the SDK's client keeps what it got: in memory."""

    def __init__(self) -> None:
        self.tokens: OAuthToken | None = None
        self.client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


async def open_authorized(hold: Lifetimes, issuer: AuthorizationServer, url: str) -> Host:
    """Connect the SDK's client, which gets its token by itself; its user agrees at once."""
    answers: list[str] = []

    async def visit(authorize_url: str) -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=WAIT_S) as browser:
            answers.append((await browser.get(authorize_url)).headers["location"])

    async def answered() -> AuthorizationCodeResult:
        code, state, iss = code_of(answers[-1])
        return AuthorizationCodeResult(code=code, state=state, iss=iss)

    metadata = OAuthClientMetadata.model_validate(
        {"client_name": "test", "redirect_uris": ["http://127.0.0.1:1/callback"], "token_endpoint_auth_method": "none"}
    )
    provider = OAuthClientProvider(url, metadata, Tokens(), visit, answered)
    client = await hold(httpx2.AsyncClient(auth=provider, trust_env=False, timeout=httpx2.Timeout(WAIT_S)))
    return await open_host(hold, streamable_http_client(url, http_client=client), "auto")
