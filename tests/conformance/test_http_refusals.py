"""What the HTTP face refuses, and how: in the envelope, readable by a client that is still sending, telling nothing."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import pytest_asyncio

from ctx_mcp import AsyncClient
from ctx_mcp.client import byte_transfer
from ctx_mcp.domain.errors import StoreUnusable
from ctx_mcp.wire.operations import GetFileDownloadUrl, GetFileUploadUrl
from tests.conformance.backends import Backend, download_url, new_context, open_backend, upload_url
from tests.lifetimes import Lifetimes

LARGE = b"0123456789" * 10_000


@pytest_asyncio.fixture
async def service(hold: Lifetimes, data_dir: Path) -> Backend:
    return await open_backend("http-native", hold, data_dir)


@pytest_asyncio.fixture
async def http(hold: Lifetimes) -> httpx.AsyncClient:
    return await hold(httpx.AsyncClient(timeout=20, trust_env=False))


def _envelope(answer: httpx.Response) -> tuple[int, str]:
    told = answer.json()
    assert told["success"] is False
    assert told["requestId"]
    assert told["httpStatusCode"] == answer.status_code
    return answer.status_code, told["code"]


async def test_a_part_of_a_file_never_replaces_the_whole(service: Backend, http: httpx.AsyncClient) -> None:
    made = await new_context(service.context)
    url = await upload_url(service.context, made.id, "/a")
    assert (await http.put(url, content=b"0123456789")).status_code == 200
    answer = await http.put(url, content=b"56789", headers={"Content-Range": "bytes 5-9/10"})
    assert _envelope(answer) == (400, "Argument.Invalid")
    assert (await http.get(await download_url(service.context, made.id, "/a"))).content == b"0123456789"


async def test_an_upload_that_would_conflict_is_refused_before_its_body(
    service: Backend, http: httpx.AsyncClient
) -> None:
    made = await new_context(service.context)
    url = await upload_url(service.context, made.id, "/a")
    assert (await http.put(url, content=b"1")).status_code == 200
    answer = await http.put(url, content=b"x" * 8_000_000, headers={"If-Match": '"v999"'})
    assert _envelope(answer) == (412, "File.VersionConflict")
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    head = f'PUT {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\nIf-Match: "v999"\r\n'
    writer.write(f"{head}Content-Length: 1000000000\r\n\r\n".encode())
    async with asyncio.timeout(20):
        # Not one byte of the body was sent.
        assert (await reader.readline()).startswith(b"HTTP/1.1 412 ")
    writer.close()
    await writer.wait_closed()


async def test_a_wrong_key_is_told_how_to_come_again(service: Backend, http: httpx.AsyncClient) -> None:
    base = urlsplit(await upload_url(service.context, (await new_context(service.context)).id, "/a"))
    answer = await http.get(f"{base.scheme}://{base.netloc}/sdk/ListContexts", headers={"Authorization": "Bearer no"})
    assert _envelope(answer) == (401, "Auth.Unauthenticated")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("path", ["/nothing", "/sdk/Nothing", "/files/x", "/files/ctx/a%0d%0ab"])
@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "PROPFIND", "TRACE"])
async def test_whatever_is_asked_the_answer_is_in_an_envelope(
    service: Backend, http: httpx.AsyncClient, method: str, path: str
) -> None:
    base = urlsplit(await upload_url(service.context, (await new_context(service.context)).id, "/a"))
    answer = await http.request(method, f"{base.scheme}://{base.netloc}{path}")
    status, code = _envelope(answer)
    assert 400 <= status < 500
    assert "." in code


@pytest.mark.parametrize(
    ("query", "form", "expected"),
    [
        ({"Action": "ListContexts"}, {}, (401, "Auth.Unauthenticated")),
        ({"Action": "ListContexts"}, {"Authorization": "Bearer no"}, (401, "Auth.Unauthenticated")),
        ({"Action": "ListContexts"}, {"Authorization": "key-one"}, (401, "Auth.Unauthenticated")),
        ({"Action": "Nothing"}, {"Authorization": "Bearer key-one"}, (404, "InvalidAction.NotFound")),
        ({}, {"Authorization": "Bearer key-one"}, (404, "InvalidAction.NotFound")),
        ({"Action": "DeleteContext"}, {"Authorization": "Bearer key-one"}, (400, "Argument.Invalid")),
        ({"Action": "ListContexts"}, {"Authorization": "x" * 2_000_000}, (413, "File.TooLarge")),
        ({}, dict.fromkeys(map(str, range(2000)), "x"), (400, "Argument.Invalid")),
    ],
    ids=range(8),
)
async def test_the_root_answers_as_agentbay_does_with_the_reason_inside(
    service: Backend,
    http: httpx.AsyncClient,
    query: dict[str, str],
    form: dict[str, str],
    expected: tuple[int, str],
) -> None:
    base = urlsplit(await upload_url(service.context, (await new_context(service.context)).id, "/a"))
    url = f"{base.scheme}://{base.netloc}/"
    # As the official SDK does with an endpoint that is a URL.
    answer = await http.post(url, params=query, data=form, headers={"Host": url[:-1]})
    told = answer.json()
    assert answer.status_code == (404 if expected[0] == 404 else 200)
    assert (told["Success"], told["HttpStatusCode"], told["Code"]) == (False, *expected)
    assert told["RequestId"]
    assert told["Message"]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_a_probe_of_the_root_is_told_that_nothing_is_there(
    service: Backend, http: httpx.AsyncClient, method: str
) -> None:
    base = urlsplit(await upload_url(service.context, (await new_context(service.context)).id, "/a"))
    answer = await http.request(method, f"{base.scheme}://{base.netloc}/", params={"Action": "ListContexts"})
    assert _envelope(answer) == (404, "Operation.Unknown")


async def test_a_lost_object_is_an_error_and_no_half_answer(service: Backend, http: httpx.AsyncClient) -> None:
    made = await new_context(service.context)
    await http.put(await upload_url(service.context, made.id, "/a"), content=LARGE)
    (stored,) = [path for path in (service.data_dir / "objects").rglob("*") if path.is_file()]
    stored.unlink()
    answer = await http.get(await download_url(service.context, made.id, "/a"))
    assert _envelope(answer) == (500, "Store.Unusable")
    assert str(service.data_dir) not in answer.text


def test_a_disk_that_is_full_is_said_and_leaves_nothing(data_dir: Path) -> None:
    """Full for the server only: a limit on the size of its files, in a process of its own."""
    code = (
        "import resource, signal, asyncio, sys\n"
        "from ctx_mcp import AsyncClient\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))\n"
        "async def main():\n"
        "    async with AsyncClient(data_dir=sys.argv[1]) as client:\n"
        "        made = (await client.context.create('x')).context_id\n"
        "        try:\n"
        "            await client.context.write_file(made, '/a', b'x' * 5_000_000)\n"
        "        except Exception as error:\n"
        "            print(type(error).__name__)\n"
        "        await client.context.write_file(made, '/b', b'y' * 100_000)\n"
        "        print((await client.context.list_files(made)).count)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(data_dir)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ,
    )
    assert done.stdout.split() == [StoreUnusable.__name__, "1"], done.stderr
    stored = [path for path in (data_dir / "objects").rglob("*") if path.is_file()]
    assert len(stored) == 1


async def test_the_environments_proxy_is_left_out_for_this_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    async with AsyncClient(data_dir=tmp_path) as client:
        made = (await client.context.create("x")).context_id
        await byte_transfer.send(await client.context.call(GetFileUploadUrl(made, "/a")), b"1")
        url = await client.context.call(GetFileDownloadUrl(made, "/a"))
        assert [chunk async for chunk in byte_transfer.fetch(url)] == [b"1"]
