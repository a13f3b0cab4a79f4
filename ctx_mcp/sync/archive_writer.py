"""Writes the archive of a binding: members in path order, what a sync needs to know of them, and our mark."""

from __future__ import annotations

import json
import stat
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from typing import IO

from ctx_mcp.domain.errors import StoreUnusable
from ctx_mcp.domain.paths import ROOT
from ctx_mcp.sync.archive_reader import INDEX, MARK, Member

_LEVEL = 1
"""Of 9: the others take several times as long for a few percent less."""
_EARLIEST = (1980, 1, 1, 0, 0, 0)
_LAST_YEAR = 2107
_USUAL_MODE = 0o644


def write_archive(target: IO[bytes], members: Sequence[Member], *, stream: Callable[[Member], Iterator[bytes]]) -> None:
    """Write an archive, a chunk at a time.

    Args:
        stream: yields the bytes of a member; what it raises comes through.

    Raises:
        StoreUnusable: it cannot be written.
    """
    try:
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive:
            for member in members:
                with archive.open(_header_of(member), "w", force_zip64=True) as entry:
                    for chunk in stream(member):
                        entry.write(chunk)
            index = json.dumps({"version": 1, "files": members}, separators=(",", ":"))
            archive.writestr(zipfile.ZipInfo(INDEX, _EARLIEST), index, zipfile.ZIP_DEFLATED)
            archive.comment = MARK
    except OSError as error:
        text = "the archive could not be written, most likely because the disk is full or read-only"
        raise StoreUnusable(text) from error


def _header_of(member: Member) -> zipfile.ZipInfo:
    moment = time.gmtime(member.mtime_ns // 1_000_000_000)[:6]
    info = zipfile.ZipInfo(member.path.lstrip(ROOT), max(moment, _EARLIEST) if moment[0] <= _LAST_YEAR else _EARLIEST)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = (stat.S_IFREG | (_USUAL_MODE if member.mode is None else member.mode)) << 16
    return info
