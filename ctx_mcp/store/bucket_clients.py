"""How a bucket is reached: the URL says which one, the environment the rest, as the cloud's own tools read it.

obstore reads most of it itself. What is added: profile files of AWS, what only the other clouds' own tools know
(`cloud_accounts.py`), and plain HTTP where an endpoint asks for it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from configparser import ConfigParser, Error
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import obstore
from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, MemoryStore, S3Store

from ctx_mcp.domain.errors import StoreUnusable
from ctx_mcp.store.cloud_accounts import read_azure_account, read_google_account
from ctx_mcp.store.objects import LIST_COUNT

if TYPE_CHECKING:
    from obstore import ListStream, ObjectMeta
    from obstore.store import AzureConfig, ClientConfig, GCSConfig, RetryConfig, S3Config

Signer: TypeAlias = S3Store | GCSStore | AzureStore
Bucket: TypeAlias = Signer | MemoryStore
_RETRIES: RetryConfig = {
    "max_retries": 6,
    "retry_timeout": timedelta(seconds=10),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=3)},
}
_CONNECT_TIMEOUT = timedelta(seconds=3)
_SILENCE_TIMEOUT = timedelta(seconds=30)
"""How long an answer may be awaited, a part's own way up included: 8 MiB need 0.3 MiB/s."""
_REQUEST_TIMEOUT = timedelta(hours=6)
"""Of a whole answer, its body included: as long as a large download may take while bytes come."""
_OTHER_SOURCES = ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
_ELSEWHERE = ("sso_session", "sso_start_url", "role_arn", "credential_process")


def open_client(url: str, environ: Mapping[str, str] | None = None) -> Bucket:
    """Return a client of the bucket and prefix of a URL, `s3://`, `gs://`, `az://` or `memory://`; nothing is sent yet.

    Raises:
        StoreUnusable: the URL or what the environment says cannot be.
    """
    variables = os.environ if environ is None else environ
    scheme, _, rest = url.partition("://")
    bucket, _, path = rest.partition("/")
    prefix = path.strip("/") or None
    try:
        match scheme:
            case "s3":
                return _open_s3(bucket, prefix, variables)
            case "gs":
                return _open_google(bucket, prefix, variables)
            case "az":
                return _open_azure(bucket, prefix, variables)
            case "memory":
                return MemoryStore()
            case _:
                raise StoreUnusable(
                    "an object store is s3://bucket/prefix, gs://bucket/prefix or az://container/prefix"
                )
    except (BaseError, ValueError, OSError) as error:
        # The text of the error may hold a key that cannot be read.
        raise StoreUnusable(
            f"cannot use the object store {url}: its credentials or settings cannot be read ({type(error).__name__})"
        ) from error


def list_batches(client: Bucket, prefix: str) -> ListStream[Sequence[ObjectMeta]]:
    """Return what lies below a prefix, in batches, each one request or less; iterate in a thread or on the loop."""
    # Its type names a library that is not here: it would hand out tables instead.
    return cast("Any", obstore).list(client, prefix, chunk_size=LIST_COUNT)


def _open_s3(bucket: str, prefix: str | None, variables: Mapping[str, str]) -> S3Store:
    config = _profile(variables)
    endpoint = variables.get("AWS_ENDPOINT_URL_S3") or variables.get("AWS_ENDPOINT_URL") or config.get("endpoint")
    if endpoint:
        config["endpoint"] = endpoint
    options = _options(endpoint)
    return S3Store(bucket, prefix=prefix, config=config, client_options=options, retry_config=_RETRIES)


def _open_azure(container: str, prefix: str | None, variables: Mapping[str, str]) -> AzureStore:
    told, endpoint = read_azure_account(variables)
    config = cast("AzureConfig", told | ({"endpoint": endpoint} if endpoint else {}))
    options = _options(endpoint)
    return AzureStore(container, prefix=prefix, client_options=options, retry_config=_RETRIES, config=config)


def _open_google(bucket: str, prefix: str | None, variables: Mapping[str, str]) -> GCSStore:
    told, endpoint = read_google_account(variables)
    config = cast("GCSConfig", told)
    return GCSStore(bucket, prefix=prefix, client_options=_options(endpoint), retry_config=_RETRIES, config=config)


def _options(endpoint: str | None = None) -> ClientConfig:
    return {
        "allow_http": bool(endpoint) and (endpoint or "").startswith("http://"),
        "connect_timeout": _CONNECT_TIMEOUT,
        "read_timeout": _SILENCE_TIMEOUT,
        "timeout": _REQUEST_TIMEOUT,
    }


def _profile(variables: Mapping[str, str]) -> S3Config:
    """Return what the profile files of AWS say, where the variables do not come first.

    Raises:
        StoreUnusable: the profile that is asked for is not there, or has its keys from elsewhere.
    """
    if variables.get("AWS_ACCESS_KEY_ID") or any(variables.get(name) for name in _OTHER_SOURCES):
        return {}
    asked = variables.get("AWS_PROFILE")
    name = asked or "default"
    home = Path(variables.get("HOME") or Path.home())
    files = (
        (
            variables.get("AWS_CONFIG_FILE") or home / ".aws" / "config",
            name if name == "default" else f"profile {name}",
        ),
        (variables.get("AWS_SHARED_CREDENTIALS_FILE") or home / ".aws" / "credentials", name),
    )
    told: dict[str, str] = {}
    for file, section in files:
        told |= _section(Path(file), section)
    if "aws_access_key_id" not in told:
        if asked is None:
            # The machine's or the container's role may have some.
            return {}
        elsewhere = [key for key in _ELSEWHERE if key in told]
        why = f"gets its keys by {elsewhere[0]}, which is not read here" if elsewhere else "has no keys"
        raise StoreUnusable(
            f"the AWS profile {asked!r} {why}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, as "
            "`aws configure export-credentials --format env` prints them"
        )
    names = {
        "access_key_id": "aws_access_key_id",
        "secret_access_key": "aws_secret_access_key",
        "session_token": "aws_session_token",
        "endpoint": "endpoint_url",
    }
    region = variables.get("AWS_REGION") or variables.get("AWS_DEFAULT_REGION") or told.get("region")
    config = {key: told[told_as] for key, told_as in names.items() if told_as in told}
    return cast("S3Config", config | ({"region": region} if region else {}))


def _section(file: Path, section: str) -> dict[str, str]:
    parser = ConfigParser(interpolation=None)
    try:
        parser.read(file, encoding="utf-8")
    except Error as error:
        raise StoreUnusable(f"{file} cannot be read as a profile file of AWS: {type(error).__name__}") from error
    return dict(parser[section]) if parser.has_section(section) else {}
