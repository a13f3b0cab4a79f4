"""Turns at what one process of all does at a time, and no more often than need be: who has it, and until when.

What is done twice by mischance, as when a process dies or clocks differ, must do no harm.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import select

from ctx_mcp.domain.clock import to_micros
from ctx_mcp.store.database import Database, retried
from ctx_mcp.store.schema import turns
from ctx_mcp.store.statements import Sql, run_sql

LONGEST = timedelta(hours=1)
"""How long a turn may be; one that ends later still is of a clock that was set back since."""
_TAKE = Sql(
    "INSERT INTO turns (name, owner, held_until) VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE"
    " SET owner = excluded.owner, held_until = excluded.held_until"
    " WHERE turns.held_until <= ? OR turns.held_until > ? RETURNING owner"
)
_KEEP = Sql("UPDATE turns SET held_until = ? WHERE name = ? AND owner = ?")


class TurnRows:
    def __init__(self, database: Database) -> None:
        self._database = database

    @retried
    def take(self, name: str, owner: str, *, now: datetime, span: timedelta) -> bool:
        """Take a turn that nobody holds, not even this owner; tell whether it was taken."""
        moment, latest = to_micros(now), to_micros(now + LONGEST)
        with self._database.read() as connection:
            held_until = connection.scalar(select(turns.c.held_until).where(turns.c.name == name))
        if held_until is not None and moment < held_until <= latest:
            return False
        with self._database.write() as connection:
            taken = (name, owner, to_micros(now + min(span, LONGEST)), moment, latest)
            return bool(run_sql(connection, _TAKE, taken).fetchall())

    @retried
    def keep(self, name: str, owner: str, *, now: datetime, span: timedelta) -> None:
        """Hold a turn for this long from now, if nobody else has taken it meanwhile."""
        with self._database.write() as connection:
            run_sql(connection, _KEEP, (to_micros(now + min(span, LONGEST)), name, owner))
