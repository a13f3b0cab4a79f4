"""Settings: flags, then `CTX_MCP_*` environment variables, then defaults, in one frozen value."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import platformdirs

from ctx_mcp.domain.errors import InvalidArgument
from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.store.urls import read_database_url, read_object_store_url
from ctx_mcp.telemetry.settings import DEFAULT_TELEMETRY, TelemetrySettings, read_telemetry_settings
from ctx_mcp.telemetry.settings import VARIABLES as TELEMETRY_VARIABLES

EMBEDDED = "embedded"
AGB = "agb"
AGB_DEFAULT_ENDPOINT = "sdk-api.agb.cloud"
AGENTBAY = "agentbay"
CLOUDS = (AGB, AGENTBAY)
_LOG_LEVELS = ("debug", "info", "warning", "error")
CONFIRM_MODES = ("always", "auto", "never")
_YES, _NO = ("true", "1", "yes", "on"), ("false", "0", "no", "off")
_REGION = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*\Z")
_UNEXPANDED = re.compile(r"\$\{[^}]*\}\Z")
VARIABLES = (
    "CTX_MCP_BACKEND",
    "CTX_MCP_ENDPOINT",
    "CTX_MCP_REGION",
    "CTX_MCP_API_KEY",
    "CTX_MCP_TIMEOUT_MS",
    "CTX_MCP_DATA_DIR",
    "CTX_MCP_DATABASE_URL",
    "CTX_MCP_OBJECT_STORE_URL",
    "CTX_MCP_ALLOWED_DIRS",
    "CTX_MCP_API_KEYS",
    "CTX_MCP_PUBLIC_URL",
    "CTX_MCP_ALLOWED_HOSTS",
    "CTX_MCP_OAUTH_ISSUER",
    "CTX_MCP_OAUTH_AUDIENCE",
    "CTX_MCP_OAUTH_JWKS_URL",
    "CTX_MCP_OAUTH_ACCOUNT_CLAIM",
    "CTX_MCP_FOLDER_ACCOUNTS",
    "CTX_MCP_TLS_CERT",
    "CTX_MCP_TLS_KEY",
    "CTX_MCP_MAX_FILE_BYTES",
    "CTX_MCP_LOG_LEVEL",
    "CTX_MCP_TOOLSETS",
    "CTX_MCP_TOOLS",
    "CTX_MCP_READ_ONLY",
    "CTX_MCP_CONFIRM",
    "CTX_MCP_STATELESS",
    *TELEMETRY_VARIABLES,
)
"""Every variable of this project's own; docs/settings.md explains each (a test compares the two).

Those of the clouds' SDKs are read too, where the variable of our own is not set: `AGB_API_KEY`, `AGB_ENDPOINT` and
`AGB_TIMEOUT_MS` with the backend `agb`; `AGENTBAY_API_KEY`, `AGENTBAY_REGION_ID`, `AGENTBAY_ENDPOINT` and
`AGENTBAY_TIMEOUT_MS` with `agentbay`.
"""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Two PEM files by which our HTTP servers speak TLS."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Settings:
    """How this process finds its contexts. Keys never appear in the value's text."""

    backend: str = EMBEDDED
    """`embedded`, `agb`, `agentbay`, or the URL of a self-hosted context service."""
    endpoint: str | None = None
    """Where the cloud's API is, when not at its usual place."""
    region: str | None = None
    """Where the AgentBay cloud keeps what is made, when not in its default region."""
    api_key: str | None = field(default=None, repr=False)
    timeout_s: float | None = None
    """How long a remote backend may be silent, when not as long as usual."""
    data_dir: Path = Path()
    database_url: str | None = field(default=None, repr=False)
    """`postgresql://…` where the rows of the embedded backend and of the service are not in the data folder."""
    object_store_url: str | None = None
    """`s3://bucket/prefix`, `gs://…` or `az://…` where the bytes of files are not in the data folder either."""
    allowed_dirs: tuple[Path, ...] | None = None
    """Folders of this machine that may be synced, with all below them. None: nothing was said; empty: none may."""
    api_keys: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """Keys the service and the MCP server over HTTP accept, with the account of each."""
    public_url: str | None = None
    """Where clients reach our HTTP servers, when that is not the address they listen on."""
    allowed_hosts: tuple[str, ...] = ()
    """Names that requests may give as Host, besides those of `public_url` and of the address listened on."""
    tls: TlsFiles | None = None
    """The certificate of our own HTTP servers; without one they speak plain HTTP."""
    max_file_bytes: int = DEFAULT_LIMITS.max_file_bytes
    log_level: str = "warning"
    telemetry: TelemetrySettings = DEFAULT_TELEMETRY


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """What the MCP server offers, and when it asks. Programs that use the client are not concerned."""

    toolsets: tuple[str, ...] = ()
    """Groups of tools that are offered. With `tools` empty too: all."""
    tools: tuple[str, ...] = ()
    """Single tools that are offered besides those of `toolsets`."""
    read_only: bool = False
    """Only tools that change nothing are offered, and done."""
    read_only_contexts: tuple[str, ...] = ()
    """Contexts that no tool may change, by id or exact name."""
    confirm: str = "auto"
    """Whether deleting is confirmed: `always` by a person, `auto` by an argument where nobody can be asked, `never`."""
    stateless: bool | None = None
    """Whether legacy clients over HTTP get no session. None: nothing was said, so where several servers are likely."""


DEFAULT_SERVER_SETTINGS = ServerSettings()


def load_settings(
    environ: Mapping[str, str] | None = None,
    *,
    backend: str | None = None,
    endpoint: str | None = None,
    api_key: str | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    allowed_dirs: Sequence[str | os.PathLike[str]] | None = None,
    public_url: str | None = None,
    tls_cert: str | None = None,
    tls_key: str | None = None,
    log_level: str | None = None,
) -> Settings:
    """Return the settings; what is given wins over the environment.

    A value that a host left as a literal `${...}` counts as not set; `~` and `${HOME}` in paths are expanded.

    Args:
        allowed_dirs: absolute; an empty sequence allows none.

    Raises:
        InvalidArgument: a value no setting can have, with what is allowed.
    """
    variables = os.environ if environ is None else environ

    def value(name: str, given: str | None = None) -> str | None:
        return _value(variables, name, given)

    chosen = value("CTX_MCP_BACKEND", backend) or EMBEDDED
    is_url = chosen.startswith(("http://", "https://"))
    if chosen not in (EMBEDDED, *CLOUDS) and not is_url:
        raise InvalidArgument(
            f"CTX_MCP_BACKEND is {chosen!r}; allowed are 'embedded', 'agb', 'agentbay' and the URL of a context service"
        )
    _refuse_unused(chosen, endpoint=endpoint, api_key=api_key)
    theirs = {AGB: "AGB_", AGENTBAY: "AGENTBAY_"}.get(chosen)
    key = value("CTX_MCP_API_KEY", api_key) or (value(f"{theirs}API_KEY") if theirs else None)
    if key is not None and not _is_key(key):
        raise InvalidArgument("the API key holds a blank or a character that no key has; copy it again")
    region = (value("CTX_MCP_REGION") or value("AGENTBAY_REGION_ID")) if chosen == AGENTBAY else None
    if region is not None and not _REGION.match(region):
        raise InvalidArgument(f"the region is {region!r}; CTX_MCP_REGION (or AGENTBAY_REGION_ID) is like 'cn-hangzhou'")
    level = (value("CTX_MCP_LOG_LEVEL", log_level) or "warning").lower()
    if level not in _LOG_LEVELS:
        raise InvalidArgument(f"CTX_MCP_LOG_LEVEL is {level!r}; allowed are {', '.join(_LOG_LEVELS)}")
    where = value("CTX_MCP_ENDPOINT", endpoint) or (value(f"{theirs}ENDPOINT") if theirs and not region else None)
    _refuse_login(chosen if is_url else where)
    return Settings(
        backend=chosen,
        endpoint=where,
        region=region,
        api_key=key,
        timeout_s=_timeout_s(variables, theirs) if chosen != EMBEDDED else None,
        data_dir=_folder(value("CTX_MCP_DATA_DIR", None if data_dir is None else os.fspath(data_dir)), variables),
        database_url=read_database_url(value("CTX_MCP_DATABASE_URL")),
        object_store_url=read_object_store_url(value("CTX_MCP_OBJECT_STORE_URL")),
        allowed_dirs=_allowed_dirs(allowed_dirs, value("CTX_MCP_ALLOWED_DIRS"), variables),
        api_keys=_api_keys(value("CTX_MCP_API_KEYS") or ""),
        public_url=value("CTX_MCP_PUBLIC_URL", public_url),
        allowed_hosts=listed_setting("CTX_MCP_ALLOWED_HOSTS", variables),
        tls=_tls_files(value("CTX_MCP_TLS_CERT", tls_cert), value("CTX_MCP_TLS_KEY", tls_key), variables),
        max_file_bytes=_byte_count(value("CTX_MCP_MAX_FILE_BYTES")),
        log_level=level,
        telemetry=read_telemetry_settings(value),
    )


def load_server_settings(
    environ: Mapping[str, str] | None = None,
    *,
    toolsets: str | None = None,
    tools: str | None = None,
    read_only: bool = False,
    read_only_contexts: Sequence[str] = (),
    confirm: str | None = None,
    stateless: bool | None = None,
) -> ServerSettings:
    """Return what the MCP server offers; what is given wins over the environment.

    Protection only adds up: no argument takes away what `CTX_MCP_READ_ONLY` protects. Which toolsets and tools there
    are, the server knows.

    Args:
        toolsets: names parted by commas; `tools` likewise.
        read_only_contexts: ids or exact names.

    Raises:
        InvalidArgument: a value no setting can have, with what is allowed.
    """
    variables = os.environ if environ is None else environ
    all_read_only, contexts = _read_only(_value(variables, "CTX_MCP_READ_ONLY") or "")
    given = [reference.strip() for reference in read_only_contexts]
    if "" in given:
        raise InvalidArgument("--read-only-context is empty; give the id or the exact name of a context")
    mode = (_value(variables, "CTX_MCP_CONFIRM", confirm) or "auto").lower()
    if mode not in CONFIRM_MODES:
        raise InvalidArgument(f"CTX_MCP_CONFIRM is {mode!r}; allowed are {', '.join(CONFIRM_MODES)}")
    return ServerSettings(
        toolsets=_listed(_value(variables, "CTX_MCP_TOOLSETS", toolsets)),
        tools=_listed(_value(variables, "CTX_MCP_TOOLS", tools)),
        read_only=read_only or all_read_only,
        read_only_contexts=tuple(dict.fromkeys([*contexts, *given])),
        confirm=mode,
        stateless=stateless if stateless is not None else _truth("CTX_MCP_STATELESS", variables),
    )


def read_setting(name: str, environ: Mapping[str, str] | None = None) -> str | None:
    """Return a variable's value, trimmed; None where it is not set, or a placeholder left as it was."""
    return _value(os.environ if environ is None else environ, name)


def listed_setting(name: str, environ: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Return the parts of a variable that holds a list parted by commas."""
    return _listed(read_setting(name, environ))


def default_allowed_dirs(home: Path | None = None) -> tuple[Path, ...]:
    """Return what a server that one host started may sync when nothing was said: the working directory.

    Nothing where that is the root of a file system, the home folder, or a folder above it: some hosts start every
    server there, and nobody means to hand over a whole home.

    Args:
        home: the user's, found out when not given.
    """
    try:
        folder = Path.cwd()
        home = (home or Path.home()).resolve()
    except (OSError, RuntimeError):
        return ()
    is_too_wide = folder == Path(folder.anchor) or home.is_relative_to(folder)
    return () if is_too_wide else (folder,)


def _refuse_unused(backend: str, *, endpoint: str | None, api_key: str | None) -> None:
    """Refuse what was given on purpose and would be ignored: most likely the backend was forgotten."""
    if backend == EMBEDDED and (endpoint or api_key):
        raise InvalidArgument(
            "endpoint and api_key belong to a remote backend, and the embedded one is in use; "
            "give backend='agb', backend='agentbay' or the URL of a context service too"
        )
    if backend not in (EMBEDDED, *CLOUDS) and endpoint:
        raise InvalidArgument("the backend is a URL already; leave endpoint out, or give the name of a cloud with it")


def _refuse_login(url: str | None) -> None:
    """Refuse a name or password in an address: nothing would send it, and errors name the address."""
    place = "" if url is None else url.partition("://")[2] or url
    if "@" in place.partition("/")[0]:
        raise InvalidArgument(
            "the endpoint holds a login before an @; leave it out, and give the key by CTX_MCP_API_KEY"
        )


def _value(variables: Mapping[str, str], name: str, given: str | None = None) -> str | None:
    """Return what was given, or else the variable; None where that is nothing, or a placeholder left as it was."""
    text = (given if given is not None else variables.get(name, "")).strip()
    return None if not text or _UNEXPANDED.match(text) else text


def _listed(text: str | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, (part.strip() for part in (text or "").split(",")))))


def _truth(name: str, variables: Mapping[str, str]) -> bool | None:
    text = _value(variables, name)
    if text is None:
        return None
    if text.lower() not in (*_YES, *_NO):
        raise InvalidArgument(f"{name} is {text!r}; allowed are true and false")
    return text.lower() in _YES


def _read_only(text: str) -> tuple[bool, tuple[str, ...]]:
    """Read a truth value or a list of contexts; tell whether everything is read-only, and which contexts are."""
    words = _listed(text)
    truths = [word for word in words if word.lower() in (*_YES, *_NO)]
    if len(words) == 1 and truths:
        return truths[0].lower() in _YES, ()
    if truths:
        raise InvalidArgument(
            f"CTX_MCP_READ_ONLY holds {truths[0]!r} beside contexts; give true or false alone, or ids and exact names "
            "only (a context that has such a name: by its id)"
        )
    if text and not words:
        raise InvalidArgument("CTX_MCP_READ_ONLY names no context; give true, or ids and exact names of contexts")
    return False, words


def _folder(text: str | None, variables: Mapping[str, str]) -> Path:
    if text is None:
        return Path(platformdirs.user_data_dir("ctx-mcp", appauthor=False))
    return _expanded(text, variables).absolute()


def _tls_files(certificate: str | None, key: str | None, variables: Mapping[str, str]) -> TlsFiles | None:
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        missing = "CTX_MCP_TLS_CERT (--tls-cert)" if certificate is None else "CTX_MCP_TLS_KEY (--tls-key)"
        raise InvalidArgument(f"TLS takes a certificate and its key; {missing} is missing")
    return TlsFiles(_expanded(certificate, variables).absolute(), _expanded(key, variables).absolute())


def _allowed_dirs(
    given: Sequence[str | os.PathLike[str]] | None, text: str | None, variables: Mapping[str, str]
) -> tuple[Path, ...] | None:
    if given is None and text is None:
        return None
    entries = [os.fspath(entry) for entry in given] if given is not None else (text or "").split(os.pathsep)
    entries = [entry.strip() for entry in entries if entry.strip()]
    folders = [_expanded(entry, variables) for entry in entries if not _UNEXPANDED.match(entry)]
    for folder in folders:
        if not folder.is_absolute():
            raise InvalidArgument(
                f"CTX_MCP_ALLOWED_DIRS (--allow-dir) holds {str(folder)!r}, which is not absolute; "
                "begin it with /, a drive, ~ or ${HOME}"
            )
    if entries and not folders:
        return None
    return tuple(dict.fromkeys(folders))


def _expanded(text: str, variables: Mapping[str, str]) -> Path:
    home = variables.get("HOME") or str(Path.home())
    expanded = text.replace("${HOME}", home)
    if expanded == "~" or expanded.startswith(("~/", "~\\")):
        expanded = home + expanded[1:]
    return Path(expanded)


def _byte_count(text: str | None) -> int:
    if text is None:
        return DEFAULT_LIMITS.max_file_bytes
    if not text.isdecimal() or int(text) < 1:
        raise InvalidArgument(f"CTX_MCP_MAX_FILE_BYTES is {text!r}; give a number of bytes above 0")
    return int(text)


def _timeout_s(variables: Mapping[str, str], theirs: str | None) -> float | None:
    for name in ("CTX_MCP_TIMEOUT_MS", *([f"{theirs}TIMEOUT_MS"] if theirs else [])):
        if (text := _value(variables, name)) is not None:
            if not text.isdecimal() or int(text) < 1:
                raise InvalidArgument(f"{name} is {text!r}; give a number of milliseconds above 0")
            return int(text) / 1000
    return None


def _is_key(text: str) -> bool:
    """Tell whether a header can carry this key."""
    return bool(text) and text.isascii() and text.isprintable() and " " not in text


def _api_keys(text: str) -> dict[str, str]:
    keys: dict[str, str] = {}
    for position, pair in enumerate(filter(None, (part.strip() for part in text.split(","))), start=1):
        # A key may end in =, as base64 does; an account does not hold any.
        key, equals, account = (part.strip() for part in pair.rpartition("="))
        if not _is_key(key) or not equals or not account:
            # The text may be a key: it is not shown.
            raise InvalidArgument(f"entry {position} of CTX_MCP_API_KEYS is not of the form key=account")
        if key in keys:
            raise InvalidArgument(f"entry {position} of CTX_MCP_API_KEYS repeats a key")
        keys[key] = account
    return keys
