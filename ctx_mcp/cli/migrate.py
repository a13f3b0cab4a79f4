"""`ctx-mcp service --migrate`: the stored format, brought up to date before the programs that need it start."""

from __future__ import annotations

from ctx_mcp.cli.output import write_line
from ctx_mcp.settings import Settings


def run_migration(settings: Settings) -> int:
    """Migrate the store, and say what was done.

    Raises:
        StoreUnusable: it cannot be used, or a newer version made it; nothing changed.
    """
    # Here, so that the command line starts without a database library.
    from ctx_mcp.store.upgrading import upgrade_store

    done = upgrade_store(settings.data_dir, settings.database_url)
    if done.before is None:
        what = f"made, with the format {done.now.revision}"
    elif done.before == done.now:
        what = f"has the format {done.now.revision} already; nothing to do"
    else:
        what = f"migrated from the format {done.before.revision} to {done.now.revision}"
    write_line(f"ctx-mcp: the store in {done.place}: {what}")
    write_line(f"ctx-mcp: programs from the format {done.now.oldest_reader} on can use it")
    return 0
