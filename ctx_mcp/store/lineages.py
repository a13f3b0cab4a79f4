"""Which history of a store this is: what was restored from a backup goes on as another one than the store did.

Clients whose folders are synced with it remember newer states than it has, and must not take them for deletions. So a
store tells its lineage, and one that was restored tells another. Source: docs/backup.md, docs/adr/0025.
"""

from __future__ import annotations

from pathlib import Path

from ctx_mcp.domain.errors import StoreUnusable
from ctx_mcp.store.database import Database
from ctx_mcp.store.statements import POSTGRESQL, SQLITE
from ctx_mcp.store.store import open_database

_NAME = "lineage"
_FORGET = "DELETE FROM secrets WHERE name = 'lineage'"
_COUNT_TABLE = """INSERT INTO sqlite_sequence (name, seq)
SELECT '{0}', 0 WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = '{0}')"""
# By 2^32: more than a store can have given out between a backup and the day it is needed.
STEPS = {
    SQLITE: (
        _COUNT_TABLE.format("versions"),
        _COUNT_TABLE.format("replicas"),
        "UPDATE sqlite_sequence SET seq = seq + 4294967296",
        _FORGET,
    ),
    POSTGRESQL: (
        "SELECT setval('versions_version_id_seq', nextval('versions_version_id_seq') + 4294967296)",
        "SELECT setval('replicas_replica_id_seq', nextval('replicas_replica_id_seq') + 4294967296)",
        _FORGET,
    ),
}
"""What makes rows those of another lineage: each may be done any number of times, while processes work with them.

New numbers begin far above all that were given out: an etag given out after the backup never means something else.
"""


def read_lineage(database: Database) -> str:
    """Return the store's lineage, made when there is none: 32 hexadecimal characters, which are no secret."""
    return database.secret(_NAME)[:16].hex()


def begin_lineage(data_dir: Path, database_url: str | None) -> str:
    """Make a store one of another lineage, in one transaction; return where its rows are.

    Raises:
        StoreUnusable: there is no store, or it cannot be used.
    """
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnusable(f"cannot use the data folder {data_dir}: {error}") from error
    database = open_database(data_dir, database_url)
    try:
        if database.format_before is None:
            raise StoreUnusable(
                f"there were no rows in {database.place}, and it is an empty store now; "
                "restore the rows into an empty database first, then run this"
            )
        with database.write() as connection:
            for statement in STEPS[database.engine]:
                connection.exec_driver_sql(statement)
        return database.place
    finally:
        database.close()
