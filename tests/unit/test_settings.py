"""Settings: which value wins, what is refused, and that no key is ever shown."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ctx_mcp.connect import open_transport
from ctx_mcp.domain.errors import InvalidArgument
from ctx_mcp.folders import FolderTransport
from ctx_mcp.settings import default_allowed_dirs, load_settings
from ctx_mcp.telemetry.settings import Address, TelemetrySettings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CTX_MCP_LOG_FORMAT", "xml"),
        ("CTX_MCP_METRICS_ADDRESS", "9464"),
        ("CTX_MCP_METRICS_ADDRESS", "example.org:9464"),
        ("CTX_MCP_METRICS_ADDRESS", "127.0.0.1:65536"),
        ("CTX_MCP_METRICS_ADDRESS", "127.0.0.1:"),
        ("CTX_MCP_DRAIN_S", "301"),
        ("CTX_MCP_DRAIN_S", "-1"),
    ],
)
def test_what_nobody_could_mean_by_telemetry_is_refused(name: str, value: str) -> None:
    with pytest.raises(InvalidArgument, match=name):
        load_settings({name: value})


def test_telemetry_is_what_the_environment_says_and_nothing_by_default() -> None:
    environ = {
        "CTX_MCP_LOG_FORMAT": "JSON",
        "CTX_MCP_METRICS_ADDRESS": "[::1]:9464",
        "CTX_MCP_DRAIN_S": "10",
    }
    assert load_settings(environ).telemetry == TelemetrySettings("json", Address("::1", 9464), 10.0)
    assert load_settings({"CTX_MCP_METRICS_ADDRESS": "localhost:0"}).telemetry.metrics_address == ("127.0.0.1", 0)
    assert load_settings({}).telemetry == TelemetrySettings("text", None, 0.0)


def test_without_anything_the_embedded_backend_in_the_users_data_folder_is_used() -> None:
    settings = load_settings({})
    assert settings.backend == "embedded"
    assert settings.data_dir.is_absolute()
    assert settings.data_dir.name == "ctx-mcp"
    assert (settings.api_key, settings.endpoint, settings.api_keys) == (None, None, {})


def test_what_is_given_wins_over_the_environment() -> None:
    environ = {"CTX_MCP_BACKEND": "agb", "CTX_MCP_API_KEY": "theirs", "CTX_MCP_LOG_LEVEL": "info"}
    settings = load_settings(environ, backend="http://127.0.0.1:1", api_key="mine", log_level="DEBUG")
    assert (settings.backend, settings.api_key, settings.log_level) == ("http://127.0.0.1:1", "mine", "debug")


@pytest.mark.parametrize("literal", ["${user_config.data_dir}", "${CTX_MCP_DATA_DIR}", "${}", "", "  "])
def test_a_value_the_host_did_not_fill_in_counts_as_not_set(literal: str) -> None:
    names = (
        "CTX_MCP_BACKEND",
        "CTX_MCP_DATA_DIR",
        "CTX_MCP_ALLOWED_DIRS",
        "CTX_MCP_API_KEY",
        "CTX_MCP_API_KEYS",
        "CTX_MCP_LOG_LEVEL",
    )
    assert load_settings(dict.fromkeys(names, literal)) == load_settings({})


@pytest.mark.parametrize("text", ["~/data", "${HOME}/data", "/home/u/data", " ~/data "])
def test_the_home_folder_is_expanded(text: str) -> None:
    environ = {"HOME": "/home/u", "CTX_MCP_DATA_DIR": text}
    assert load_settings(environ).data_dir == Path("/home/u/data").absolute()
    assert load_settings({"HOME": "/home/u"}, data_dir=text).data_dir == Path("/home/u/data").absolute()


def test_a_relative_folder_is_made_absolute() -> None:
    assert load_settings({}, data_dir=Path("data")).data_dir == Path.cwd() / "data"


def test_the_key_of_the_sdk_is_taken_for_its_cloud_only() -> None:
    environ = {"AGB_API_KEY": "sdk", "AGB_ENDPOINT": "http://127.0.0.1:1"}
    cloud = load_settings(environ, backend="agb")
    assert (cloud.api_key, cloud.endpoint) == ("sdk", "http://127.0.0.1:1")
    assert load_settings(environ).api_key is None
    assert load_settings(environ | {"CTX_MCP_API_KEY": "own"}, backend="agb").api_key == "own"


@pytest.mark.parametrize(
    "environ",
    [
        {"CTX_MCP_BACKEND": "cloud"},
        {"CTX_MCP_BACKEND": "ftp://host"},
        {"CTX_MCP_LOG_LEVEL": "loud"},
        {"CTX_MCP_MAX_FILE_BYTES": "0"},
        {"CTX_MCP_MAX_FILE_BYTES": "-1"},
        {"CTX_MCP_MAX_FILE_BYTES": "5GB"},
        {"CTX_MCP_ALLOWED_DIRS": "relative"},
        {"CTX_MCP_ALLOWED_DIRS": os.pathsep.join(["/a", "."])},
        {"CTX_MCP_ALLOWED_DIRS": "$HOME/a"},
        {"CTX_MCP_ALLOWED_DIRS": "~other/a"},
        {"CTX_MCP_API_KEYS": "zzsecret"},
        {"CTX_MCP_API_KEYS": "=zzsecret"},
        {"CTX_MCP_API_KEYS": "zzsecret="},
        {"CTX_MCP_API_KEYS": "zzsecret=="},
        {"CTX_MCP_API_KEYS": "=="},
        {"CTX_MCP_API_KEYS": "zzsecret=1,zzsecret=2"},
        {"CTX_MCP_API_KEYS": "zzsecret é=1"},
        {"CTX_MCP_API_KEY": "zzsecret words"},
        {"CTX_MCP_API_KEY": "zzsecret\nbreak"},
    ],
    ids=str,
)
def test_a_value_that_cannot_be_is_refused(environ: dict[str, str]) -> None:
    with pytest.raises(InvalidArgument) as failure:
        load_settings(environ)
    [name] = environ
    if "KEY" not in name:
        assert name in str(failure.value)
    assert "zzsecret" not in str(failure.value)


@pytest.mark.parametrize(
    "given",
    [
        {"api_key": "k"},
        {"endpoint": "http://127.0.0.1:1"},
        {"backend": "http://127.0.0.1:1", "endpoint": "http://127.0.0.1:2"},
    ],
    ids=str,
)
def test_what_was_given_and_would_be_ignored_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        load_settings({}, **given)


@pytest.mark.parametrize("backend", ["embedded", "agb", "agentbay", "http://127.0.0.1:1"])
def test_every_backend_takes_a_data_folder_and_the_folders_to_sync(backend: str) -> None:
    settings = load_settings({}, backend=backend, data_dir="/tmp/x", allowed_dirs=["/tmp/y"])
    assert (settings.data_dir, settings.allowed_dirs) == (Path("/tmp/x"), (Path("/tmp/y"),))


def test_the_keys_of_the_service_name_accounts() -> None:
    environ = {"CTX_MCP_API_KEYS": " k1 = one , k2=two,c2VjcmV0==team,k3== a b, "}
    accounts = {"k1": "one", "k2": "two", "c2VjcmV0=": "team", "k3=": "a b"}
    assert load_settings(environ).api_keys == accounts


def test_no_key_is_ever_in_the_text_of_the_settings() -> None:
    settings = load_settings({"CTX_MCP_API_KEYS": "hidden1=one"}, backend="agb", api_key="hidden2")
    assert "hidden" not in repr(settings)
    assert "hidden" not in str(settings)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        load_settings({}).backend = "agb"  # type: ignore[misc]


def allowed(*entries: str) -> tuple[Path, ...] | None:
    return load_settings({"HOME": "/home/u", "CTX_MCP_ALLOWED_DIRS": os.pathsep.join(entries)}).allowed_dirs


def test_allowed_folders_are_a_list_with_the_home_folder_expanded() -> None:
    assert load_settings({}).allowed_dirs is None
    assert allowed("/a", " /b c ", "", "~/d", "${HOME}/e", "~") == tuple(
        map(Path, ("/a", "/b c", "/home/u/d", "/home/u/e", "/home/u"))
    )
    assert allowed("/a", "/a/", "/a") == (Path("/a"),)


def test_a_list_without_entries_allows_no_folder() -> None:
    assert allowed("", "") == ()
    assert load_settings({}, allowed_dirs=[]).allowed_dirs == ()


def test_placeholders_in_the_list_are_left_out() -> None:
    assert allowed("${user_config.one}", "/a") == (Path("/a"),)
    assert allowed("${user_config.one}", "${user_config.two}") is None


def test_allowed_folders_that_are_given_win_over_the_environment() -> None:
    environ = {"HOME": "/home/u", "CTX_MCP_ALLOWED_DIRS": "/theirs"}
    assert load_settings(environ, allowed_dirs=["/mine", Path("/ours"), "~/x"]).allowed_dirs == (
        Path("/mine"),
        Path("/ours"),
        Path("/home/u/x"),
    )


def test_a_server_may_sync_its_working_directory_but_no_whole_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "people" / "one"
    project = home / "project"
    project.mkdir(parents=True)
    for folder, expected in ((project, (project,)), (home, ()), (home.parent, ()), (Path("/"), ())):
        monkeypatch.chdir(folder)
        assert default_allowed_dirs(home) == expected


def test_a_working_directory_that_is_gone_allows_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert default_allowed_dirs() == ()
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("environ", "endpoint", "region"),
    [
        ({}, None, None),
        ({"AGENTBAY_ENDPOINT": "http://127.0.0.1:1"}, "http://127.0.0.1:1", None),
        ({"AGENTBAY_REGION_ID": "us-east-1"}, None, "us-east-1"),
        ({"AGENTBAY_REGION_ID": "us-east-1", "AGENTBAY_ENDPOINT": "bay.example"}, None, "us-east-1"),
        ({"CTX_MCP_REGION": "pre-x-1", "AGENTBAY_REGION_ID": "us-east-1"}, None, "pre-x-1"),
        ({"CTX_MCP_REGION": "us-east-1", "AGENTBAY_ENDPOINT": "bay.example"}, None, "us-east-1"),
        ({"CTX_MCP_ENDPOINT": "own.example", "AGENTBAY_REGION_ID": "us-east-1"}, "own.example", "us-east-1"),
        ({"CTX_MCP_ENDPOINT": "own.example", "AGENTBAY_ENDPOINT": "bay.example"}, "own.example", None),
        ({"AGB_ENDPOINT": "agb.example", "AGB_API_KEY": "theirs"}, None, None),
    ],
    ids=str,
)
def test_the_agentbay_cloud_is_where_its_sdk_looks_for_it(
    environ: dict[str, str], endpoint: str | None, region: str | None
) -> None:
    settings = load_settings(environ | {"AGENTBAY_API_KEY": "sdk"}, backend="agentbay")
    assert (settings.endpoint, settings.region, settings.api_key) == (endpoint, region, "sdk")
    transport = open_transport(settings)
    assert isinstance(transport, FolderTransport)
    expected = endpoint or f"agentbay.{region or 'cn-hangzhou'}.aliyuncs.com".replace("agentbay.pre-", "agentbay-pre.")
    assert transport.endpoint == (expected if "://" in expected else f"https://{expected}")


def test_variables_of_agentbay_are_taken_for_its_cloud_only() -> None:
    environ = {"AGENTBAY_API_KEY": "sdk", "AGENTBAY_ENDPOINT": "bay.example", "AGENTBAY_REGION_ID": "us-east-1"}
    for backend in ("embedded", "agb", "http://127.0.0.1:1"):
        settings = load_settings(environ, backend=backend)
        assert (settings.endpoint, settings.region, settings.api_key) == (None, None, None)
    assert load_settings(environ | {"CTX_MCP_API_KEY": "own"}, backend="agentbay").api_key == "own"


@pytest.mark.parametrize("region", ["evil.example/", "a b", "US-EAST-1", "-x", "x-", "a@b", "x:1", "x?y"])
def test_a_region_that_would_send_the_key_elsewhere_is_refused(region: str) -> None:
    for name in ("CTX_MCP_REGION", "AGENTBAY_REGION_ID"):
        with pytest.raises(InvalidArgument, match="region"):
            load_settings({name: region}, backend="agentbay")
    assert load_settings({"CTX_MCP_REGION": region}).region is None


def test_a_database_url_is_taken_in_both_spellings() -> None:
    assert load_settings({}).database_url is None
    for scheme in ("postgres", "postgresql"):
        settings = load_settings({"CTX_MCP_DATABASE_URL": f"{scheme}://me:secret@host:1/db?sslmode=require"})
        assert settings.database_url == "postgresql://me:secret@host:1/db?sslmode=require"
        assert "secret" not in repr(settings)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite:////tmp/secret.db", "CTX_MCP_DATA_DIR"),
        ("mysql://me:secret@host/db", "postgresql://"),
        ("postgresql:secret", "postgresql://"),
        ("me:secret@host/db", "postgresql://"),
    ],
)
def test_another_database_is_refused_without_a_word_of_its_url(url: str, says: str) -> None:
    with pytest.raises(InvalidArgument, match=says) as caught:
        load_settings({"CTX_MCP_DATABASE_URL": url})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["s3://a-bucket", "s3://bucket/a/prefix/", "gs://bucket/x", "az://container/a.b_c"])
def test_an_object_store_is_named_by_its_url(url: str) -> None:
    assert load_settings({}).object_store_url is None
    assert load_settings({"CTX_MCP_OBJECT_STORE_URL": url}).object_store_url == url


@pytest.mark.parametrize(
    "url",
    ["s3://me:secret@bucket", "https://secret.example", "memory://", "s3://", "s3://bucket?key=secret", "s3://b/../c"],
)
def test_another_object_store_is_refused_without_a_word_of_its_url(url: str) -> None:
    with pytest.raises(InvalidArgument, match="s3://bucket/prefix") as caught:
        load_settings({"CTX_MCP_OBJECT_STORE_URL": url})
    assert "secret" not in str(caught.value)
