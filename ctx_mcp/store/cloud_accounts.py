"""What the environment says of an account of Azure or Google, under the names that their own tools read. No I/O.

obstore reads most variables itself; here is what it does not know, and what it would tell no clear word of.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from ctx_mcp.domain.errors import StoreUnusable

_CONNECTION_STRING = "AZURE_STORAGE_CONNECTION_STRING"
_AZURE_NAMES = ("AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME")
_AZURE_KEYS = (
    "AZURE_STORAGE_KEY",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_ACCESS_KEY",
    "AZURE_STORAGE_MASTER_KEY",
)
_AZURE_ENDPOINTS = ("AZURE_STORAGE_SERVICE_ENDPOINT", "AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT")
_GOOGLE_FILES = (
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_SERVICE_ACCOUNT",
    "GOOGLE_SERVICE_ACCOUNT_PATH",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
    "GOOGLE_BEARER_TOKEN",
)


class CloudAccount(NamedTuple):
    """Settings in obstore's words, and where the store answers if that is not where its cloud is."""

    config: dict[str, str]
    endpoint: str | None


def read_azure_account(variables: Mapping[str, str]) -> CloudAccount:
    """Return the account of Azure: of the connection string if there is one, else of the single variables.

    Raises:
        StoreUnusable: no account is named, or what names one cannot be read; no value is told.
    """
    if text := variables.get(_CONNECTION_STRING):
        return _of_connection_string(text)
    if variables.get("AZURE_STORAGE_USE_EMULATOR", "").lower() in ("1", "true", "on", "yes"):
        return CloudAccount({}, None)
    name, key = _first(variables, _AZURE_NAMES), _first(variables, _AZURE_KEYS)
    if name is None:
        raise StoreUnusable(
            f"az:// needs the name of an account: set {_CONNECTION_STRING}, or {_AZURE_NAMES[0]} with "
            f"{_AZURE_KEYS[0]} or another credential (docs/settings.md)"
        )
    config = {"account_name": name}
    if key is not None:
        config["account_key"] = _demand_key(key, "the key of the Azure account")
    return CloudAccount(config, _without_slash(_first(variables, _AZURE_ENDPOINTS)))


def read_google_account(variables: Mapping[str, str]) -> CloudAccount:
    """Return what Google's libraries read beside credentials: where an emulator answers, which asks for none."""
    emulator = variables.get("STORAGE_EMULATOR_HOST")
    endpoint = _without_slash(emulator or variables.get("GOOGLE_BASE_URL"))
    if endpoint is None:
        return CloudAccount({}, None)
    if "://" not in endpoint:
        endpoint = f"http://{endpoint}"
    config = {"base_url": endpoint}
    if emulator and not any(variables.get(name) for name in _GOOGLE_FILES):
        # Without a token obstore would look for one at the machine's metadata, whatever is skipped.
        config |= {"skip_signature": "true", "bearer_token": "none"}
    return CloudAccount(config, endpoint)


def _of_connection_string(text: str) -> CloudAccount:
    pairs = [part.strip().partition("=") for part in text.split(";") if part.strip()]
    if not all(mark for _, mark, _ in pairs):
        raise StoreUnusable(f"{_CONNECTION_STRING} cannot be read: it is Name=value pairs, apart by semicolons")
    told = {name.strip().lower(): value.strip() for name, _, value in pairs}
    if told.get("usedevelopmentstorage", "").lower() == "true":
        return CloudAccount({"use_emulator": "true"}, None)
    endpoint = _without_slash(told.get("blobendpoint"))
    name = told.get("accountname") or _account_of(endpoint)
    if not name:
        raise StoreUnusable(f"{_CONNECTION_STRING} names no account: it needs AccountName, or BlobEndpoint")
    if endpoint is None:
        protocol = told.get("defaultendpointsprotocol") or "https"
        endpoint = f"{protocol}://{name}.blob.{told.get('endpointsuffix') or 'core.windows.net'}"
    config = {"account_name": name}
    # The kind is said, so that no variable beside the string comes before what it says.
    if key := told.get("accountkey"):
        config |= {
            "account_key": _demand_key(key, f"the AccountKey of {_CONNECTION_STRING}"),
            "credential_type": "access_key",
        }
    elif signature := told.get("sharedaccesssignature"):
        config |= {"sas_key": signature, "credential_type": "sas_token"}
    return CloudAccount(config, endpoint)


def _account_of(endpoint: str | None) -> str | None:
    """Return the account that an endpoint is of: the first label of its host, or on an emulator its path."""
    if endpoint is None:
        return None
    parts = urlsplit(endpoint)
    return parts.path.strip("/") or (parts.hostname or "").partition(".")[0] or None


def _demand_key(key: str, what: str) -> str:
    try:
        b64decode(key, validate=True)
    except binascii.Error as error:
        raise StoreUnusable(f"{what} is no Base64: copy it whole, as the portal shows it") from error
    return key


def _first(variables: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((variables[name] for name in names if variables.get(name)), None)


def _without_slash(endpoint: str | None) -> str | None:
    # With one, an empty segment would come between endpoint and container.
    return endpoint.rstrip("/") if endpoint else None
