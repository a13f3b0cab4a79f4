"""Where the keys of a bucket come from, and what is told when they cannot be had."""

from __future__ import annotations

from pathlib import Path

import pytest
from obstore.store import AzureStore, GCSStore, S3Store

from ctx_mcp.domain.errors import StoreUnusable
from ctx_mcp.store.bucket_clients import open_client

CREDENTIALS = """
[default]
aws_access_key_id = DEFAULTKEY
aws_secret_access_key = a%secret
[work]
aws_access_key_id = WORKKEY
aws_secret_access_key = another
aws_session_token = a-token
"""
CONFIG = """
[default]
region = eu-west-1
[profile work]
region = eu-central-1
endpoint_url = http://127.0.0.1:9
[profile sso]
sso_session = mine
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(CREDENTIALS)
    (tmp_path / ".aws" / "config").write_text(CONFIG)
    return tmp_path


def _config(environ: dict[str, str]) -> dict[str, str]:
    client = open_client("s3://bucket/a/prefix/", environ)
    assert isinstance(client, S3Store)
    assert client.prefix == "a/prefix"
    return {key: str(value) for key, value in client.config.items()}


@pytest.mark.parametrize(
    ("environ", "key", "region"),
    [
        ({}, "DEFAULTKEY", "eu-west-1"),
        ({"AWS_PROFILE": "work"}, "WORKKEY", "eu-central-1"),
        ({"AWS_PROFILE": "work", "AWS_REGION": "us-west-2"}, "WORKKEY", "us-west-2"),
    ],
)
def test_keys_come_from_the_profile_that_is_asked_for(
    home: Path, environ: dict[str, str], key: str, region: str
) -> None:
    config = _config({"HOME": str(home), **environ})
    assert (config["access_key_id"], config["region"]) == (key, region)


def test_variables_come_before_profiles(home: Path) -> None:
    environ = {"HOME": str(home), "AWS_PROFILE": "work", "AWS_ACCESS_KEY_ID": "OWN", "AWS_SECRET_ACCESS_KEY": "x"}
    assert "access_key_id" not in _config(environ) or _config(environ)["access_key_id"] != "WORKKEY"


def test_a_machine_without_profiles_leaves_the_keys_to_its_role(tmp_path: Path) -> None:
    assert "access_key_id" not in _config({"HOME": str(tmp_path)})


@pytest.mark.parametrize(("profile", "says"), [("sso", "sso_session"), ("none", "has no keys")])
def test_a_profile_without_keys_of_its_own_is_refused_with_what_to_do(home: Path, profile: str, says: str) -> None:
    with pytest.raises(StoreUnusable, match=says) as caught:
        open_client("s3://bucket", {"HOME": str(home), "AWS_PROFILE": profile})
    assert "AWS_ACCESS_KEY_ID" in caught.value.message


def test_a_broken_profile_file_is_named_and_not_shown(home: Path) -> None:
    (home / ".aws" / "credentials").write_text("a-secret-without-a-section")
    with pytest.raises(StoreUnusable, match="credentials cannot be read") as caught:
        open_client("s3://bucket", {"HOME": str(home)})
    assert "a-secret" not in str(caught.value)


def test_the_other_clouds_are_opened_by_their_schemes() -> None:
    azure = open_client("az://container/x", {"AZURE_STORAGE_ACCOUNT": "account", "AZURE_STORAGE_KEY": "c2VjcmV0"})
    assert isinstance(azure, AzureStore)
    assert azure.config.get("account_name") == "account"
    assert isinstance(open_client("gs://bucket/x", {}), GCSStore)
    with pytest.raises(StoreUnusable, match="s3://bucket/prefix"):
        open_client("ftp://bucket", {})
