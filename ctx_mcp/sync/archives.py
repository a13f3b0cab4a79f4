"""Whether a sync concerns an archive, by its policy and what stands in the context. Source: docs/sync.md."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile

from ctx_mcp.domain.errors import PathConflict
from ctx_mcp.domain.paths import ROOT, split_path
from ctx_mcp.domain.policies import SyncPolicy, UploadMode
from ctx_mcp.domain.sessions import SyncMode
from ctx_mcp.sync.archive_reader import ArchiveReader, open_archive
from ctx_mcp.sync.archive_side import ArchiveSide
from ctx_mcp.sync.sides import ContextSide

_NAME_AT_ROOT = "archive"


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
    """
    packs = policy.upload_policy.upload_mode is UploadMode.ARCHIVE and mode is not SyncMode.DOWNLOAD
    unpacks = policy.extract_policy.extract and mode is not SyncMode.UPLOAD
    if not packs and not unpacks:
        return None
    path = archive_path(prefix)
    parent, name = split_path(path)
    standing = inner.list_folder(parent)[0].files.get(name)
    reader: ArchiveReader | None = None
    if standing is not None:
        file = resources.enter_context(TemporaryFile(dir=spool_dir))  # noqa: SIM115 - `resources` closes it
        for chunk in inner.stream(path, standing):
            file.write(chunk)
        reader = open_archive(file)
        if reader is None and packs:
            raise PathConflict(f"{path!r} is no archive of ctx-mcp, so it is not replaced by one; rename it")
    if reader is None and not packs:
        return None
    side = ArchiveSide(
        inner,
        reader,
        prefix=prefix,
        path=path,
        version=None if standing is None else standing.version,
        packs=_packing(prefix, policy.upload_policy.archive_exclude_paths) if packs else _packs_nothing,
        is_hidden=mode is not SyncMode.DOWNLOAD or policy.extract_policy.delete_src_file,
        spool_dir=spool_dir,
    )
    return resources.enter_context(side)


def _packs_nothing(_path: str) -> bool:
    return False


def _packing(prefix: str, exclude_paths: list[str]) -> Callable[[str], bool]:
    inside = prefix.rstrip(ROOT)
    excluded = tuple(f"{inside}/{path.strip(ROOT)}" for path in exclude_paths if path.strip(ROOT))

    def packs(path: str) -> bool:
        return not any(path == each or path.startswith(f"{each}/") for each in excluded)

    return packs
