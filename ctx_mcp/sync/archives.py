"""Whether a sync concerns an archive, by its policy and what stands in the context. Source: docs/sync.md."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import IO

from ctx_mcp.domain.errors import PathConflict, StoreUnusable
from ctx_mcp.domain.paths import ROOT, split_path
from ctx_mcp.domain.policies import SyncPolicy, UploadMode
from ctx_mcp.domain.sessions import SyncMode
from ctx_mcp.domain.trees import ContextFile, Progress
from ctx_mcp.sync.archive_name import ArchiveName
from ctx_mcp.sync.archive_reader import ArchiveReader, Refused, open_archive
from ctx_mcp.sync.archive_side import ArchiveSide
from ctx_mcp.sync.archive_spool import new_file
from ctx_mcp.sync.sides import ContextSide

_NAME_AT_ROOT = "archive"
_ZIP_BEGINS = (b"PK\x03\x04", b"PK\x05\x06")


def archive_path(prefix: str) -> str:
    """Return where in the context the archive of a binding with this prefix is."""
    name = split_path(prefix)[1] or _NAME_AT_ROOT
    return f"{prefix.rstrip(ROOT)}/{name}.zip"


def open_archive_side(
    resources: ExitStack, inner: ContextSide, *, prefix: str, policy: SyncPolicy, mode: SyncMode, spool_dir: Path
) -> ArchiveSide | None:
    """Return the side that a sync with this policy has to work on; None where no archive is concerned.

    Args:
        resources: closes what is opened here.
        spool_dir: for temporary files, which have no name and vanish with the process.

    Raises:
        PathConflict: a file that is no archive of ours has the archive's name.
        StoreUnusable: the archive's bytes are missing, or there is no room for them here.
        LeaseLost: the sync was cancelled, or another process carries it on.
    """
    packs = policy.upload_policy.upload_mode is UploadMode.ARCHIVE and mode is not SyncMode.DOWNLOAD
    unpacks = policy.extract_policy.extract and mode is not SyncMode.UPLOAD
    if not packs and not unpacks:
        return None
    path = archive_path(prefix)
    parent, name = split_path(path)
    context, base = inner.list_folder(parent)
    standing = context.files.get(name)
    reader: ArchiveReader | None = None
    if standing is not None:
        file = resources.enter_context(new_file(spool_dir))
        # Reading it may take longer than the lease that the sync has.
        go_on = partial(inner.keep_alive, Progress())
        if _fetch_zip(file, inner, path, standing, go_on):
            reader = open_archive(file, go_on=go_on)
        if reader is None and packs:
            raise PathConflict(f"{path!r} is no archive of ctx-mcp, so it is not replaced by one; rename it")
    if reader is None and not packs:
        return None
    is_hidden = mode is not SyncMode.DOWNLOAD or policy.extract_policy.delete_src_file
    if reader is not None and is_hidden and reader.members.pop(f"/{name}", None) is not None:
        reader.refused.append(Refused(name, "it has the archive's own name"))
    side = ArchiveSide(
        inner,
        reader,
        prefix=prefix,
        name=ArchiveName(path, standing, base.get(name)),
        packs=_packing(prefix, policy.upload_policy.archive_exclude_paths) if packs else _packs_nothing,
        is_hidden=is_hidden,
        spool_dir=spool_dir,
    )
    return resources.enter_context(side)


def _fetch_zip(target: IO[bytes], inner: ContextSide, path: str, file: ContextFile, go_on: Callable[[], None]) -> bool:
    """Write a file of the context to `target`, and return True; False for one that does not begin as zip files do.

    Raises:
        StoreUnusable: among others, its bytes are damaged. Taken for what they are now, they would have files deleted
            in the folder.
    """
    digest = hashlib.sha256()
    is_zip: bool | None = None
    for chunk in inner.stream(path, file):
        go_on()
        digest.update(chunk)
        is_zip = chunk.startswith(_ZIP_BEGINS) if is_zip is None else is_zip
        if is_zip:
            try:
                target.write(chunk)
            except OSError as error:
                raise StoreUnusable(f"there is no room for a copy of {path!r} beside the store") from error
    if file.digest is not None and digest.hexdigest() != file.digest:
        raise StoreUnusable(f"the content of {path!r} in the store is damaged; nothing was synced")
    return bool(is_zip)


def _packs_nothing(_path: str) -> bool:
    return False


def _packing(prefix: str, exclude_paths: list[str]) -> Callable[[str], bool]:
    inside = prefix.rstrip(ROOT)
    excluded = frozenset(inside + path for path in map(_spelled, exclude_paths) if path)

    def packs(path: str) -> bool:
        while path and path not in excluded:
            path = path.rpartition("/")[0]
        return not path

    return packs


def _spelled(path: str) -> str:
    """Return a path below the mount as the context spells it, `""` for the mount itself."""
    segments = [segment for segment in unicodedata.normalize("NFC", path).split("/") if segment not in ("", ".")]
    return "".join(f"/{segment}" for segment in segments)
