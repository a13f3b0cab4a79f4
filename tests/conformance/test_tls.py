"""TLS with a CA of one's own: the official SDKs and our client over it, and what is said where it does not hold."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
import pytest_asyncio

from ctx_mcp import AsyncClient, Client
from ctx_mcp.cli.parser import parse
from ctx_mcp.client.byte_transfer import fetch
from ctx_mcp.client.connections import Connections
from ctx_mcp.client.results import ContextListResult
from ctx_mcp.domain.errors import BackendUnavailable, InvalidArgument
from ctx_mcp.domain.models import PresignedUrl
from ctx_mcp.embedded import run_http_service
from ctx_mcp.settings import Settings, TlsFiles, load_settings
from tests.conformance import sdk_scenario
from tests.conformance.authority import Authority
from tests.conformance.backends import KEYS
from tests.lifetimes import Lifetimes
from tests.server.processes import run_to_end

ROOT = Path(__file__).parents[2]
WAIT_S = 120

DISTRUSTED: dict[str, Callable[[Authority, Path], TlsFiles]] = {
    "is not trusted": lambda _, folder: Authority(folder / "another").issue(),
    "is made for another host": lambda authority, _: authority.issue("other.example"),
    "has expired": lambda authority, _: authority.issue_expired(),
}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@asynccontextmanager
async def _service(data_dir: Path, tls: TlsFiles | None) -> AsyncGenerator[str]:
    settings = Settings(data_dir=data_dir, api_keys=KEYS, tls=tls)
    async with run_http_service(settings, host="127.0.0.1", port=0) as url:
        yield url


@pytest_asyncio.fixture
async def url(hold: Lifetimes, authority: Authority, data_dir: Path) -> str:
    return await hold(_service(data_dir, authority.issue()))


@pytest.fixture(params=DISTRUSTED)
def flaw(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest_asyncio.fixture
async def distrusted(hold: Lifetimes, authority: Authority, data_dir: Path, flaw: str) -> str:
    """A service whose certificate has a flaw."""
    return await hold(_service(data_dir, DISTRUSTED[flaw](authority, data_dir.parent)))


@pytest.mark.parametrize("kind", ["agb", "agentbay", "agentbay-async"])
async def test_an_official_sdk_works_over_tls_as_it_is(
    url: str, authority: Authority, data_dir: Path, tmp_path: Path, clean_home: Path, kind: str
) -> None:
    at = url.removeprefix("https://")
    endpoint = {"AGB_ENDPOINT": at, "AGENTBAY_ENDPOINT": at}
    keys = {"AGB_API_KEY": "key-one", "AGENTBAY_API_KEY": "key-one"}
    environ = {**os.environ, **authority.variables(), **endpoint, **keys, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", sdk_scenario.__name__, kind, str(data_dir / "sessions")]
    with anyio.fail_after(WAIT_S):
        ended = await anyio.run_process(command, env=environ, cwd=tmp_path, check=False)
    assert ended.returncode == 0, ended.stderr.decode()


@pytest.mark.parametrize("backend", ["agb", "agentbay", "native"])
async def test_our_client_trusts_the_authority_that_the_environment_names(
    url: str, authority: Authority, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    client = AsyncClient(url, api_key="key-one") if backend == "native" else AsyncClient(backend, url, "key-one")
    async with client:
        made = await client.context.create("over TLS")
        assert made.success, made.error_message
        await client.context.write_file(made.context_id, "/a.txt", b"content")
        target = await client.context.get_file_download_url(made.context_id, "/a.txt")
        assert target.url.startswith(f"{url}/files/")
        assert [chunk async for chunk in fetch(PresignedUrl(target.url, "GET"))] == [b"content"]


async def test_a_certificate_with_a_flaw_ends_the_call_with_the_endpoint_and_the_reason(
    distrusted: str, flaw: str, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    result = await anyio.to_thread.run_sync(_list_contexts, distrusted)
    assert (result.success, result.error_code) == (False, "Backend.Unavailable")
    said = result.error_message or ""
    assert f"ListContexts at {distrusted}" in said
    assert f"its certificate {flaw}" in said
    assert ("SSL_CERT_FILE" in said) is (flaw == "is not trusted")
    assert not re.search(r"tries|_ssl\.c|key-one", said)


def _list_contexts(endpoint: str) -> ContextListResult:
    with Client("agentbay", endpoint, "key-one") as client:
        return client.context.list()


async def test_the_command_line_says_in_one_line_what_is_wrong_with_a_certificate(
    distrusted: str, flaw: str, authority: Authority, clean_home: Path
) -> None:
    code, out, err = await run_to_end(
        *("--backend", "agb", "contexts"),
        CTX_MCP_ENDPOINT=distrusted,
        CTX_MCP_API_KEY="key-one",
        SSL_CERT_FILE=authority.file,
    )
    assert (code, out) == (1, "")
    assert re.fullmatch(r"ctx-mcp: [^\n]+ \[Backend\.Unavailable\]\n", err), err
    assert distrusted in err
    assert f"its certificate {flaw}" in err


async def test_a_presigned_url_is_held_to_the_same_trust(
    distrusted: str, flaw: str, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    secret = "Signature=0123"
    with pytest.raises(BackendUnavailable, match=f"its certificate {flaw}") as failure:
        async for _ in fetch(PresignedUrl(f"{distrusted}/files/ctx-1/a?{secret}", "GET")):
            pass
    assert distrusted.removeprefix("https://") in failure.value.message
    assert secret not in failure.value.message


async def test_an_endpoint_without_tls_may_give_out_urls_with_it(
    url: str, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whom to believe is a matter of the host that is asked, not of the one that calls of this client began with."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    connections = Connections("http://127.0.0.1:1", 10)
    with pytest.raises(InvalidArgument, match="presigned"):
        async for _ in fetch(PresignedUrl(f"{url}/files/ctx-1/a?Expires=1", "GET"), connections=connections):
            pass
    await connections.aclose()


async def test_an_endpoint_without_tls_is_told_from_one_that_is_down(hold: Lifetimes, data_dir: Path) -> None:
    at = (await hold(_service(data_dir, None))).removeprefix("http://")
    async with AsyncClient("agb", at, "key-one") as client:
        result = await client.context.list()
    said = result.error_message or ""
    assert f"https://{at}: it does not speak TLS" in said
    assert "tries" not in said


@pytest.mark.parametrize(
    ("variable", "content", "said"),
    [
        ("SSL_CERT_FILE", None, "No such file"),
        ("SSL_CERT_FILE", "", "no certificate in PEM"),
        ("SSL_CERT_FILE", "-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n", "no certificate in PEM"),
    ],
    ids=["missing", "empty", "broken"],
)
async def test_a_store_of_authorities_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, content: str | None, said: str
) -> None:
    file = tmp_path / "given.pem"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv(variable, str(file))
    with pytest.raises(InvalidArgument, match=f"{variable} is .*{said}") as failure:
        await AsyncClient("agb", "127.0.0.1:1", "key-one").__aenter__()
    assert str(file) in failure.value.message
    code, _, err = await run_to_end("--backend", "agb", "contexts", CTX_MCP_API_KEY="key-one")
    assert (code, err.count("\n")) == (1, 1)
    assert f"{variable} is " in err
    # Where nothing is asked to be trusted, the variable does no harm.
    async with AsyncClient("agb", "http://127.0.0.1:1", "key-one"):
        pass


BROKEN: dict[str, tuple[Callable[[TlsFiles, Path], TlsFiles], str]] = {
    "no certificate": (lambda files, _: TlsFiles(files.certificate.with_name("none"), files.key), "No such file"),
    "no key": (lambda files, _: TlsFiles(files.certificate, files.key.with_name("none")), "No such file"),
    "a folder": (lambda files, folder: TlsFiles(folder, files.key), "Is a directory"),
    "swapped": (lambda files, _: TlsFiles(files.key, files.certificate), "no certificate and key in PEM"),
    "another's key": (
        lambda files, folder: TlsFiles(files.certificate, Authority(folder / "x").issue().key),
        "does not belong to the certificate",
    ),
    "a password": (lambda files, folder: TlsFiles(files.certificate, _locked(files.key)), "needs a password"),
}


def _locked(key: Path) -> Path:
    locked = key.with_suffix(".locked")
    command = ["openssl", "pkey", "-in", str(key), "-aes256", "-passout", "pass:secret", "-out", str(locked)]
    subprocess.run(command, check=True, capture_output=True)
    return locked


@pytest.mark.parametrize("name", BROKEN)
async def test_files_that_cannot_be_used_are_refused_before_anything_is_opened(
    authority: Authority, data_dir: Path, tmp_path: Path, name: str
) -> None:
    break_files, said = BROKEN[name]
    files = break_files(authority.issue(), tmp_path)
    with pytest.raises(InvalidArgument, match=said) as failure:
        await _service(data_dir, files).__aenter__()
    assert any(str(path) in failure.value.message for path in (files.certificate, files.key))
    assert not data_dir.exists()


@pytest.mark.parametrize("command", ["service", "serve --transport http", "serve --transport sse"])
async def test_a_server_with_another_certificates_key_ends_in_one_line(
    authority: Authority, data_dir: Path, command: str
) -> None:
    flags = ["--tls-cert", str(authority.issue().certificate), "--tls-key", str(authority.issue().key)]
    code, out, err = await run_to_end(
        *command.split(), "--port", "0", *flags, CTX_MCP_API_KEYS="key=account", CTX_MCP_DATA_DIR=data_dir
    )
    assert (code, out) == (1, "")
    assert re.fullmatch(r"ctx-mcp: [^\n]+ does not belong to the certificate [^\n]+ \[Argument\.Invalid\]\n", err), err
    assert not data_dir.exists()


def test_a_certificate_goes_with_its_key_and_with_http() -> None:
    for name, other in (("TLS_CERT", "TLS_KEY (--tls-key)"), ("TLS_KEY", "TLS_CERT (--tls-cert)")):
        with pytest.raises(InvalidArgument, match=re.escape(f"CTX_MCP_{other} is missing")):
            load_settings({f"CTX_MCP_{name}": "a.pem"})
    for flag in ("--tls-cert", "--tls-key"):
        with pytest.raises(InvalidArgument, match="--transport http or sse"):
            parse(["serve", flag, "a.pem"])
    given = load_settings({"HOME": "/home/u", "CTX_MCP_TLS_CERT": "~/a.pem", "CTX_MCP_TLS_KEY": "b"}, tls_key="/k.pem")
    assert given.tls == TlsFiles(Path("/home/u/a.pem").absolute(), Path("/k.pem").absolute())
