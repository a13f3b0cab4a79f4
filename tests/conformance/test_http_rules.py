"""What HTTP itself asks of a presigned URL: ranges, conditions, methods, signatures. Source: RFC 9110."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import httpx
import pytest
import pytest_asyncio

from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.service.urls import UrlSigner
from ctx_mcp.store.store import open_store
from tests.conformance.backends import Backend, download_url, new_context, open_backend, upload_url
from tests.lifetimes import Lifetimes

BODY = bytes(range(256)) * 400  # more than is kept inline


@pytest_asyncio.fixture(params=["embedded", "http-native"])
async def served(request: pytest.FixtureRequest, hold: Lifetimes, data_dir: Path) -> Backend:
    """The two servers there are: the embedded listener and the service."""
    return await open_backend(request.param, hold, data_dir)


@pytest_asyncio.fixture
async def http(hold: Lifetimes) -> httpx.AsyncClient:
    return await hold(httpx.AsyncClient(timeout=20))


@pytest_asyncio.fixture
async def url(served: Backend, http: httpx.AsyncClient) -> str:
    """A download URL of a file that holds `BODY`."""
    made = await new_context(served.context)
    await http.put(await upload_url(served.context, made.id, "/d/f.bin"), content=BODY)
    return await download_url(served.context, made.id, "/d/f.bin")


RANGES = [
    ("bytes=0-0", BODY[:1], "0-0"),
    ("bytes=10-19", BODY[10:20], "10-19"),
    ("bytes=102390-", BODY[-10:], "102390-102399"),
    ("bytes=-7", BODY[-7:], "102393-102399"),
    ("bytes=-999999999", BODY, "0-102399"),
    ("bytes=0-999999999999999999999999", BODY, "0-102399"),
]


@pytest.mark.parametrize(("wanted", "part", "shown"), RANGES)
async def test_a_range_answers_that_part(
    http: httpx.AsyncClient, url: str, wanted: str, part: bytes, shown: str
) -> None:
    answer = await http.get(url, headers={"Range": wanted})
    assert (answer.status_code, answer.content) == (206, part)
    assert answer.headers["content-range"] == f"bytes {shown}/{len(BODY)}"
    assert answer.headers["content-length"] == str(len(part))


@pytest.mark.parametrize("wanted", ["bytes=102400-", "bytes=999999-1000000", "bytes=-0"])
async def test_a_range_outside_the_file_is_not_satisfiable(http: httpx.AsyncClient, url: str, wanted: str) -> None:
    answer = await http.get(url, headers={"Range": wanted})
    assert (answer.status_code, answer.headers["content-range"]) == (416, f"bytes */{len(BODY)}")


@pytest.mark.parametrize(
    "wanted", ["bytes=5-2", "lines=1-2", "bytes=-", "bytes=a-b", "bytes=0-1,5-6", "bytes=" + "9" * 5000 + "-"]
)
async def test_a_range_that_cannot_be_read_is_ignored(http: httpx.AsyncClient, url: str, wanted: str) -> None:
    answer = await http.get(url, headers={"Range": wanted})
    assert (answer.status_code, answer.content) == (200, BODY)


async def test_a_range_of_an_older_version_is_not_mixed_with_the_new_one(http: httpx.AsyncClient, url: str) -> None:
    answer = await http.get(url, headers={"Range": "bytes=0-9", "If-Range": '"v0"'})
    assert (answer.status_code, answer.content) == (200, BODY)


async def test_an_empty_file_has_no_ranges(served: Backend, http: httpx.AsyncClient) -> None:
    made = await new_context(served.context)
    await http.put(await upload_url(served.context, made.id, "/empty"), content=b"")
    url = await download_url(served.context, made.id, "/empty")
    assert (await http.get(url)).content == b""
    assert (await http.get(url, headers={"Range": "bytes=0-9"})).status_code == 416


async def test_head_tells_what_get_would(http: httpx.AsyncClient, url: str) -> None:
    head, get = await http.head(url), await http.get(url)
    assert head.content == b""
    for name in ("etag", "content-length", "accept-ranges", "repr-digest", "last-modified"):
        assert head.headers[name] == get.headers[name]
    part = await http.head(url, headers={"Range": "bytes=0-9"})
    # Ranges are for GET only. Source: RFC 9110 §14.2.
    assert (part.status_code, part.headers["content-length"]) == (200, get.headers["content-length"])


async def test_a_browser_saves_what_is_stored_and_never_runs_it(http: httpx.AsyncClient, url: str) -> None:
    headers = (await http.get(url)).headers
    assert headers["content-disposition"] == "attachment"
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', "*"])
async def test_a_known_version_is_not_sent_again(http: httpx.AsyncClient, url: str, form: str) -> None:
    etag = (await http.head(url)).headers["etag"]
    answer = await http.get(url, headers={"If-None-Match": form.format(etag)})
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)


async def test_an_unknown_version_is_sent(http: httpx.AsyncClient, url: str) -> None:
    assert (await http.get(url, headers={"If-None-Match": '"v0"'})).status_code == 200


async def test_a_download_can_demand_a_version(http: httpx.AsyncClient, url: str) -> None:
    etag = (await http.head(url)).headers["etag"]
    assert (await http.get(url, headers={"If-Match": etag})).status_code == 200
    assert (await http.get(url, headers={"If-Match": '"v0"'})).status_code == 412


async def test_an_upload_can_demand_the_version_it_replaces(served: Backend, http: httpx.AsyncClient) -> None:
    made = await new_context(served.context)
    put = await upload_url(served.context, made.id, "/f")
    missing = await http.put(put, content=b"1", headers={"If-Match": '"v1"'})
    assert (missing.status_code, missing.json()["code"]) == (412, "File.VersionConflict")
    assert (await http.put(put, content=b"1", headers={"If-Match": "*"})).status_code == 412
    etag = (await http.put(put, content=b"1")).headers["etag"]
    assert (await http.put(put, content=b"2", headers={"If-Match": etag})).status_code == 200
    stale = await http.put(put, content=b"3" * 100_000, headers={"If-Match": etag})
    assert (stale.status_code, stale.json()["code"]) == (412, "File.VersionConflict")
    assert (await http.put(put, content=b"4", headers={"If-Match": "*"})).status_code == 200
    assert (await http.get(await download_url(served.context, made.id, "/f"))).content == b"4"
    assert [path for path in (served.data_dir / "objects").rglob("*") if path.is_file()] == []


async def test_an_upload_can_demand_that_nothing_is_there(served: Backend, http: httpx.AsyncClient) -> None:
    made = await new_context(served.context)
    put = await upload_url(served.context, made.id, "/f")
    alone = {"If-None-Match": "*"}
    etag = (await http.put(put, content=b"first", headers=alone)).headers["etag"]
    for content in (b"other", b"x" * 100_000):
        answer = await http.put(put, content=content, headers=alone)
        assert (answer.status_code, answer.json()["code"]) == (412, "File.Exists")
    assert (await http.put(put, content=b"first", headers=alone)).headers["etag"] == etag
    assert (await http.put(put, content=b"first", headers={"If-None-Match": etag})).status_code == 501
    assert (await http.head(await download_url(served.context, made.id, "/f"))).headers["etag"] == etag


async def test_an_upload_that_is_there_already_is_done_unless_that_is_ruled_out(
    served: Backend, http: httpx.AsyncClient
) -> None:
    made = await new_context(served.context)
    put = await upload_url(served.context, made.id, "/f")
    old = (await http.put(put, content=b"one")).headers["etag"]
    new = (await http.put(put, content=b"two", headers={"If-Match": old})).headers["etag"]

    async def chunks() -> AsyncIterator[bytes]:
        yield b"two"

    for content in (b"two", chunks()):
        assert (await http.put(put, content=content, headers={"If-Match": old})).headers["etag"] == new
    strict = {"Prefer": "respond-async, handling=strict"}
    for condition, code in (({"If-Match": old}, "File.VersionConflict"), ({"If-None-Match": "*"}, "File.Exists")):
        answer = await http.put(put, content=b"two", headers=condition | strict)
        assert (answer.status_code, answer.json()["code"]) == (412, code)
    assert (await http.put(put, content=b"two", headers={"If-Match": new} | strict)).headers["etag"] == new


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "PATCH", "OPTIONS"])
async def test_a_download_url_is_good_for_downloads_only(http: httpx.AsyncClient, url: str, method: str) -> None:
    answer = await http.request(method, url, content=b"overwritten" if method != "OPTIONS" else None)
    assert (answer.status_code, answer.json()["code"]) == (403, "Url.SignatureMismatch")
    assert (await http.get(url)).content == BODY


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE"])
async def test_an_upload_url_is_good_for_uploads_only(served: Backend, http: httpx.AsyncClient, method: str) -> None:
    made = await new_context(served.context)
    put = await upload_url(served.context, made.id, "/f")
    await http.put(put, content=b"x")
    answer = await http.request(method, put)
    assert answer.status_code == 403
    if method != "HEAD":
        assert answer.json()["code"] == "Url.SignatureMismatch"


def _tamper(url: str, field: str) -> str:
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    path = parts.path
    if field == "expiry":
        query["Expires"] = str(int(query["Expires"]) + 1)
    elif field == "signature":
        last = query["Signature"][-1]
        query["Signature"] = query["Signature"][:-1] + ("0" if last != "0" else "1")
    elif field == "signature case":
        query["Signature"] = query["Signature"].upper()
    elif field == "path":
        path += "x"
    elif field == "folder":
        path = path.replace("/d/", "/e/")
    elif field == "context":
        path = path.replace("/files/ctx-", "/files/ctx-a")
    elif field == "other file":
        path = path.replace("f.bin", "g.bin")
    return urlunsplit(parts._replace(path=path, query=urlencode(query)))


@pytest.mark.parametrize("field", ["expiry", "signature", "signature case", "path", "folder", "context", "other file"])
async def test_a_tampered_url_is_refused(http: httpx.AsyncClient, url: str, field: str) -> None:
    assert _tamper(url, field) != url
    answer = await http.get(_tamper(url, field))
    assert (answer.status_code, answer.json()["code"]) == (403, "Url.SignatureMismatch")


@pytest.mark.parametrize(
    "query",
    [
        "",
        "Expires=1",
        "Signature=aa",
        "Expires=x&Signature=aa",
        "Expires=²&Signature=a",
        "Expires=" + "9" * 400 + "&Signature=aa",
    ],
)
async def test_a_url_without_a_signature_is_refused(http: httpx.AsyncClient, url: str, query: str) -> None:
    answer = await http.get(urlunsplit(urlsplit(url)._replace(query=query)))
    assert (answer.status_code, answer.json()["code"]) == (400, "Argument.Invalid")


async def test_an_expired_url_says_so(served: Backend, http: httpx.AsyncClient, url: str) -> None:
    store = open_store(served.data_dir, DEFAULT_LIMITS)
    signer = UrlSigner(store.database.secret("url-signing-key"))
    store.close()
    parts = urlsplit(url)
    context_id = parts.path.split("/")[2]
    base = f"{parts.scheme}://{parts.netloc}"
    assert signer.sign(base, "GET", context_id, "/d/f.bin", int(dict(parse_qsl(parts.query))["Expires"])) == url
    for method in ("GET", "PUT"):
        answer = await http.request(method, signer.sign(base, method, context_id, "/d/f.bin", 1_600_000_000))
        assert (answer.status_code, answer.json()["code"]) == (403, "Url.Expired")


async def test_the_embedded_listener_serves_this_machine_only(hold: Lifetimes, data_dir: Path) -> None:
    backend = await open_backend("embedded", hold, data_dir)
    made = await new_context(backend.context)
    put = await upload_url(backend.context, made.id, "/f")
    async with httpx.AsyncClient() as http:
        rebound = await http.put(put, content=b"x", headers={"Host": "evil.example"})
        assert (rebound.status_code, rebound.json()["code"]) == (403, "Auth.AccessDenied")
        assert (await http.put(put, content=b"x", headers={"Host": "localhost:1"})).status_code == 200


async def test_urls_of_one_process_are_good_at_another_on_the_same_folder(hold: Lifetimes, data_dir: Path) -> None:
    one = await open_backend("embedded", hold, data_dir)
    two = await open_backend("embedded", hold, data_dir)
    made = await new_context(one.context)
    here = urlsplit(await upload_url(one.context, made.id, "/f"))
    there = urlsplit(await upload_url(two.context, made.id, "/f"))
    assert here.netloc != there.netloc
    async with httpx.AsyncClient() as http:
        assert (await http.put(urlunsplit(here._replace(netloc=there.netloc)), content=b"x")).status_code == 200
