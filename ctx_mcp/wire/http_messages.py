"""A request and an answer of HTTP as plain values, so that dialects stay pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import urlsplit

LINEAGE_HEADER = "x-ctx-lineage"
"""With each answer of a service of our own, whatever the dialect: which history of its store the answer is of."""
_LINEAGE = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """`path` is relative to the endpoint; header names are lower case. All else may hold the key and is not shown."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


def told_lineage(headers: Mapping[str, str]) -> str | None:
    """Return the lineage that an answer tells; the clouds tell none, nor do older services."""
    told = headers.get(LINEAGE_HEADER, "")
    return told if _LINEAGE.fullmatch(told) else None


def names_this_machine(url: str) -> bool:
    """Tell whether a URL's host is a loopback address or name, which no proxy could reach for us."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bearer_key(headers: Mapping[str, str]) -> str | None:
    """Return the key of an `Authorization: Bearer` header, if there is one."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() or None if scheme.lower() == "bearer" else None
