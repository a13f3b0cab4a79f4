"""Which version of a file a remote context has, as one number for the base. Pure. Source: docs/sync.md, "Remote
contexts".

Our own services tell the etag of each file in a listing. The clouds do not: there the number comes of what a listing
does tell, and of the etag only until the listing is known. The two kinds of number never meet.
"""

from __future__ import annotations

import hashlib
import time

from ctx_mcp.client.byte_answers import Told
from ctx_mcp.domain.clock import to_micros
from ctx_mcp.domain.models import FileEntry

_ETAG_BIT = 1 << 61
RACY_S = 2
RACY_NS = RACY_S * 1_000_000_000
"""A file changed so short a time ago may change again within the second that its listing tells."""


def version_of_etag(etag: str) -> int:
    return _hash("etag", etag) | _ETAG_BIT


def is_of_etag(version: int) -> bool:
    return version >= 0 and bool(version & _ETAG_BIT)


def version_of_row(row: FileEntry) -> int:
    """Return the version that a listing tells of: by its etag, or else by identity, size and time of the change."""
    if row.etag is not None:
        return version_of_etag(row.etag)
    modified = "" if row.modified_at is None else row.modified_at.isoformat()
    return _hash("row", f"{row.file_id}\0{row.size_bytes}\0{modified}")


def mtime_ns_of(row: FileEntry, now_ns: int) -> int:
    """Return when the file was changed; now, where the listing does not tell."""
    return now_ns if row.modified_at is None else to_micros(row.modified_at) * 1000


def is_settled(row: FileEntry, told: Told) -> bool:
    """Tell whether a listed file was at rest when the store told of it: no other version can have this row's number."""
    moment_s = time.time() if told.at_s is None else told.at_s
    return row.modified_at is not None and row.modified_at.timestamp() + RACY_S < moment_s


def _hash(kind: str, text: str) -> int:
    digest = hashlib.sha256(f"{kind}\0{text}".encode()).digest()
    return int.from_bytes(digest[:8]) >> 3
