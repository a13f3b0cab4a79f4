"""Where the clouds are and how long they may be silent: from one environment we and the official SDKs read the same."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from ctx_mcp.client.http_transport import DEFAULT_TIMEOUT_S, endpoint_url
from ctx_mcp.connect import open_transport
from ctx_mcp.domain.errors import InvalidArgument
from ctx_mcp.embedded import EmbeddedTransport
from ctx_mcp.settings import load_settings
from ctx_mcp.wire.agentbay_regions import resolve_place
from tests.conformance import agb_sdk, agentbay_sdk

REGIONS = ("cn-hangzhou", "us-east-1", "new-region-9", "pre-cn-hangzhou", "pre-ap-southeast-1", "pre-new-1")
ENDPOINTS = ("bay.example", "127.0.0.1:18443", "http://127.0.0.1:1", "https://bay.example", "http://bay.example/base")
TIMEOUTS = ("1000", "30000", "300000")


def environments(prefix: str, **values: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """Give every environment in which each variable is unset, empty or one of its values; others' are set too."""
    other = "AGB_" if prefix == "AGENTBAY_" else "AGENTBAY_"
    noise = {f"{other}ENDPOINT": "wrong.example", f"{other}REGION_ID": "wrong-1", f"{other}TIMEOUT_MS": "7"}
    for chosen in product(*[(None, "", *texts) for texts in values.values()]):
        named = {f"{prefix}{name}": text for name, text in zip(values, chosen, strict=True)}
        yield noise | {name: text for name, text in named.items() if text is not None}


def endpoint_and_timeout_ms(backend: str, environ: dict[str, str]) -> tuple[str, float]:
    settings = load_settings(environ, backend=backend, api_key="key")
    transport = open_transport(settings)
    assert not isinstance(transport, EmbeddedTransport)
    return transport.endpoint, (settings.timeout_s or DEFAULT_TIMEOUT_S) * 1000


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand where there is no `.env` file, which both SDKs would read."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_agentbay_is_where_its_sdk_finds_it_in_every_environment() -> None:
    config: Any = agentbay_sdk.sdk_module("agentbay._common.config")
    for environ in environments("AGENTBAY_", REGION_ID=REGIONS, ENDPOINT=ENDPOINTS, TIMEOUT_MS=TIMEOUTS):
        with pytest.MonkeyPatch.context() as patch:
            for name, text in environ.items():
                patch.setenv(name, text)
            theirs = config._load_config(None)
        settings = load_settings(environ, backend="agentbay", api_key="key")
        assert resolve_place(settings.region, settings.endpoint) == (theirs["endpoint"], theirs["region_id"]), environ
        ours = endpoint_and_timeout_ms("agentbay", environ)
        assert ours == (endpoint_url(theirs["endpoint"]), theirs["timeout_ms"]), environ


def test_agb_is_where_its_sdk_finds_it_in_every_environment() -> None:
    config: Any = agb_sdk.sdk_module("agb.config")
    http: Any = agb_sdk.sdk_module("agb.api.http_client")
    for environ in environments("AGB_", ENDPOINT=ENDPOINTS, TIMEOUT_MS=TIMEOUTS):
        with pytest.MonkeyPatch.context() as patch:
            for name, text in environ.items():
                patch.setenv(name, text)
            theirs = http.HTTPClient("key", config.load_config())
        assert endpoint_and_timeout_ms("agb", environ) == (theirs.base_url, theirs.timeout_ms), environ


def test_our_own_variables_win_over_those_of_the_sdks() -> None:
    theirs = {"ENDPOINT": "theirs.example", "TIMEOUT_MS": "7000", "REGION_ID": "us-east-1", "API_KEY": "theirs"}
    own = {"CTX_MCP_ENDPOINT": "own.example", "CTX_MCP_TIMEOUT_MS": "9500", "CTX_MCP_API_KEY": "own"}
    for backend, prefix in (("agb", "AGB_"), ("agentbay", "AGENTBAY_")):
        environ = {f"{prefix}{name}": text for name, text in theirs.items()}
        fallen_back = load_settings(environ, backend=backend)
        assert (fallen_back.api_key, fallen_back.timeout_s) == ("theirs", 7.0)
        settings = load_settings(environ | own, backend=backend)
        assert (settings.endpoint, settings.timeout_s, settings.api_key) == ("own.example", 9.5, "own")
    regions = {"CTX_MCP_REGION": "ap-southeast-1", "AGENTBAY_REGION_ID": "us-east-1"}
    assert load_settings(regions, backend="agentbay").region == "ap-southeast-1"


def test_a_timeout_is_of_its_own_cloud_and_of_no_use_to_the_embedded_backend() -> None:
    both = {"AGB_TIMEOUT_MS": "1000", "AGENTBAY_TIMEOUT_MS": "2000"}
    times = {name: load_settings(both, backend=name).timeout_s for name in ("agb", "agentbay", "http://127.0.0.1:1")}
    assert times == {"agb": 1.0, "agentbay": 2.0, "http://127.0.0.1:1": None}
    assert load_settings(both | {"CTX_MCP_TIMEOUT_MS": "x"}).timeout_s is None


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "60s", "1e3"])
@pytest.mark.parametrize("name", ["CTX_MCP_TIMEOUT_MS", "AGENTBAY_TIMEOUT_MS"])
def test_a_timeout_that_cannot_be_is_refused_by_its_variable(name: str, text: str) -> None:
    with pytest.raises(InvalidArgument, match=f"{name} is '{text}'"):
        load_settings({name: text}, backend="agentbay")


def test_no_env_file_is_read(empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (empty_folder / ".env").write_text("AGB_ENDPOINT=env.example\nAGB_API_KEY=env\nCTX_MCP_ENDPOINT=env.example\n")
    settings = load_settings(backend="agb")
    assert (settings.endpoint, settings.api_key) == (None, None)


@pytest.mark.parametrize(
    "address", ["https://me:zzsecret@bay.example/x", "me:zzsecret@bay.example", "http://zzsecret@h"]
)
def test_a_login_in_an_address_is_refused_and_not_shown(address: str) -> None:
    given: list[dict[str, Any]] = [{"backend": "agb", "endpoint": address}, {"backend": "agentbay"}]
    if "://" in address:
        given.append({"backend": address})
    for arguments in given:
        with pytest.raises(InvalidArgument, match="login before an @") as failure:
            load_settings({"AGENTBAY_ENDPOINT": address}, api_key="key", **arguments)
        assert "zzsecret" not in str(failure.value)
    # Behind the host an @ is nothing of the kind.
    assert load_settings({}, backend="agb", api_key="key", endpoint="https://h/a@b").endpoint == "https://h/a@b"


@pytest.mark.parametrize("endpoint", ["ftp://host", "file:///etc", "postgresql://host/db", "", " / "])
def test_an_endpoint_of_another_scheme_is_refused(endpoint: str) -> None:
    with pytest.raises(InvalidArgument, match="the endpoint"):
        endpoint_url(endpoint)
