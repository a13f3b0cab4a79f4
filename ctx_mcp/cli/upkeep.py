"""`ctx-mcp backup`, `ctx-mcp restored` and `ctx-mcp verify`: for whoever keeps a store. Source: docs/backup.md."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

import anyio.to_thread

from ctx_mcp.cli.backend import run_alone
from ctx_mcp.cli.output import write_line
from ctx_mcp.domain.errors import InvalidArgument
from ctx_mcp.domain.limits import Limits
from ctx_mcp.service.backups import BackupReport, back_up
from ctx_mcp.service.verification import BrokenContent, Verification
from ctx_mcp.settings import Settings
from ctx_mcp.store.lineages import begin_lineage
from ctx_mcp.store.row_copies import demand_this_format
from ctx_mcp.store.store import Store, open_store


def run_backup(settings: Settings, folder: str) -> int:
    """Copy the data folder; return 1 where the store itself had bytes no longer, with all else copied.

    Raises:
        InvalidArgument: rows are in PostgreSQL, or the folder is no place for the backup.
        StoreUnusable: there is no store, or a disk refused.
    """
    if settings.database_url is not None:
        raise InvalidArgument(
            "the rows are in PostgreSQL (CTX_MCP_DATABASE_URL); copy them with pg_dump, and then the objects: "
            "docs/backup.md says how"
        )
    limits = Limits(max_file_bytes=settings.max_file_bytes)
    target = Path(folder).absolute()

    async def work() -> BackupReport:
        with closing(await anyio.to_thread.run_sync(_open, settings, limits)) as store:
            return await back_up(store, target, limits)

    report = run_alone(work)
    for broken in report.broken:
        _write_broken(broken)
    write_line(
        f"backed up to {folder}: {report.copied_count} objects of {report.copied_bytes} bytes copied, "
        f"{report.kept_count} there already, {report.removed_count} no longer needed"
    )
    return _told(report.broken_count)


def run_restored(settings: Settings) -> int:
    """Make a store one of another lineage, whose numbers begin far above those given out; say what that means.

    Raises:
        StoreUnusable: there is no store, or it cannot be used.
    """
    if settings.database_url is None:
        demand_this_format(settings.data_dir / "ctx.db")
    place = begin_lineage(settings.data_dir, settings.database_url)
    write_line(
        f"the store in {place} goes on as another one than it was copied from: folders that are synced with it "
        "are compared by content, once, and nothing is deleted in them for its sake"
    )
    return 0


def run_verify(settings: Settings, *, reads_bytes: bool) -> int:
    """Write a line for each content that cannot be read as it was written; return 1 where there is any.

    Raises:
        StoreUnusable: there is no store, or its rows cannot be read.
    """
    limits = Limits(max_file_bytes=settings.max_file_bytes)

    async def work() -> tuple[Verification, int]:
        count = 0
        with closing(await anyio.to_thread.run_sync(_open, settings, limits)) as store:
            verification = Verification(store, reads_bytes=reads_bytes)
            async for broken in verification.find_broken():
                _write_broken(broken)
                count += 1
        return verification, count

    verification, count = run_alone(work)
    looked_at = "contents read" if reads_bytes else "objects looked for"
    write_line(f"{verification.contents_count} {looked_at}, {verification.bytes_count} bytes; {count} broken")
    return _told(count)


def _open(settings: Settings, limits: Limits) -> Store:
    if settings.database_url is None:
        demand_this_format(settings.data_dir / "ctx.db")
    return open_store(settings.data_dir, limits, settings.database_url, settings.object_store_url)


def _write_broken(broken: BrokenContent) -> None:
    use = broken.use
    age = "current" if use.is_current else "history"
    write_line("\t".join((broken.fault, age, str(broken.content.size_bytes), use.context_id, use.etag, use.path)))


def _told(broken_count: int) -> int:
    if broken_count:
        sys.stderr.write(
            f"ctx-mcp: {broken_count} contents cannot be read as they were written; "
            "look for their objects in an older backup\n"
        )
    return 1 if broken_count else 0
