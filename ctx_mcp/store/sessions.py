"""Rows of sessions and of what is bound to them: one transaction a method.

Releasing a session is work for one process at a time. While it goes on, `last_used_at` is the lease: the moment
its worker last said so, and 0 while nobody has begun. Source: docs/adr/0011.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast as typed

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    and_,
    cast,
    delete,
    exists,
    insert,
    or_,
    select,
    text,
    true,
    tuple_,
    update,
)

from ctx_mcp.domain.clock import from_micros, to_micros
from ctx_mcp.domain.errors import LeaseLost, SessionNotFound
from ctx_mcp.domain.sessions import Binding, InternalContext, Session, SessionState
from ctx_mcp.store.bindings import (
    BoundContext,
    NewBinding,
    bind_all,
    bindings_of,
    drop_bindings,
    load_bound,
    load_internal,
)
from ctx_mcp.store.database import AnyRow, Database, retried
from ctx_mcp.store.schema import ACTIVE_TASK, base_files, bindings, sessions, tasks

_TOUCHED_EVERY = timedelta(seconds=5)
_MICROS = 1_000_000
_IS_HELD = sessions.c.finished_at.is_(None)
_IS_RUNNING = and_(_IS_HELD, sessions.c.state == SessionState.RUNNING)
_IS_RELEASING = and_(_IS_HELD, sessions.c.state == SessionState.DELETING)


@dataclass(frozen=True, slots=True)
class SessionKey:
    """Sort key of the list, newest first."""

    created_at: int
    session_id: str


@dataclass(frozen=True, slots=True)
class Release:
    """A session that is being released, in the hands of whoever claimed it; `held_at` proves that."""

    account: str
    session_id: str
    root: str
    held_at: int


def key_of(session: Session) -> SessionKey:
    return SessionKey(to_micros(session.created_at) if session.created_at else 0, session.session_id)


def not_found() -> SessionNotFound:
    return SessionNotFound("Resource [McpSession] is not found.")


class SessionRows:
    """The sessions of all accounts. A session that is released is not found, but its row stays."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @retried
    def create(
        self,
        account: str,
        session_id: str,
        *,
        root: str,
        labels: Mapping[str, str],
        idle_timeout_s: int | None,
        bound: Sequence[NewBinding],
        now: datetime,
    ) -> Session:
        """Make a session with all its bindings, or nothing.

        Raises:
            ContextNotFound: a context to bind is not there; names it.
            PathAlreadyBound: two paths are the same, or one lies inside the other.
        """
        moment = to_micros(now)
        with self._database.write() as connection:
            owner = {"account": account, "home": self._database.home}
            values = {"session_id": session_id, **owner, "state": SessionState.RUNNING, "root": root}
            stamps = {"idle_timeout_s": idle_timeout_s, "created_at": moment, "last_used_at": moment}
            connection.execute(insert(sessions).values(**values, **stamps, labels=json.dumps(dict(labels))))
            bind_all(connection, account, session_id, bound, now=now)
            return _with_bindings(connection, [_held(connection, account, session_id)])[0]

    def get(self, account: str, session_id: str) -> Session:
        """Return a session that runs or is being released.

        Raises:
            SessionNotFound: none such in this account, or it is released.
        """
        with self._database.read() as connection:
            return _with_bindings(connection, [_held(connection, account, session_id)])[0]

    def root_of(self, account: str, session_id: str) -> str:
        """Return the folder that a running session's paths are below, `""` for the machine's own file system.

        Raises:
            SessionNotFound: none such in this account, or it is being released.
        """
        with self._database.read() as connection:
            return _held(connection, account, session_id, is_running=True).root

    def page(
        self, account: str, labels: Mapping[str, str], *, limit: int, after: SessionKey | None = None
    ) -> tuple[list[Session], int]:
        """Return up to `limit` running sessions with these labels, newest first, and how many there are in all."""
        query = select(sessions).where(sessions.c.account == account, _IS_RUNNING)
        query = query.order_by(sessions.c.created_at.desc(), sessions.c.session_id.desc())
        with self._database.read() as connection:
            # Compared here: a key may hold any character, which no path into JSON can say on every engine.
            rows = [row for row in connection.execute(query) if labels.items() <= _labels(row).items()]
            shown = [row for row in rows if after is None or _is_behind(row, after)][:limit]
            return _with_bindings(connection, shown), len(rows)

    @retried
    def set_labels(self, account: str, session_id: str, labels: Mapping[str, str], *, now: datetime) -> None:
        """Replace all labels of a running session.

        Raises:
            SessionNotFound: none such in this account, or it is being released.
        """
        with self._database.write() as connection:
            _held(connection, account, session_id, is_running=True, lock=True)
            values = {"labels": json.dumps(dict(labels)), "last_used_at": to_micros(now)}
            connection.execute(update(sessions).where(sessions.c.session_id == session_id).values(**values))

    @retried
    def touch(self, account: str, session_id: str, *, now: datetime) -> None:
        """Begin a running session's idle time anew; one that is being released stays as it is.

        Calls close to each other are noted once, so that a client that polls costs no write for each poll.

        Raises:
            SessionNotFound: none such in this account, or it is released.
        """
        moment = to_micros(now)
        with self._database.read() as connection:
            row = _held(connection, account, session_id)
        age = timedelta(microseconds=moment - row.last_used_at)
        if row.state != SessionState.RUNNING or timedelta(0) <= age < _grain(row.idle_timeout_s):
            return
        with self._database.write() as connection:
            touched = update(sessions).where(sessions.c.session_id == session_id, _IS_RUNNING)
            if connection.execute(touched.values(last_used_at=moment)).rowcount == 0:
                _held(connection, account, session_id)

    @retried
    def bind(
        self,
        account: str,
        session_id: str,
        bound: Sequence[NewBinding],
        *,
        max_bindings: int,
        now: datetime,
    ) -> None:
        """Bind more contexts to a running session, all of them or none.

        Raises:
            SessionNotFound: none such in this account, or it is being released.
            ContextNotFound: a context is not there; names it.
            PathAlreadyBound: a path is bound, or lies inside a bound one, or around it.
            InvalidArgument: the session would have more than `max_bindings`.
        """
        with self._database.write() as connection:
            _held(connection, account, session_id, is_running=True, lock=True)
            bind_all(connection, account, session_id, bound, max_bindings=max_bindings, now=now)

    def list_bindings(self, account: str, session_id: str) -> tuple[Binding, ...]:
        """Return what is bound, in path order, without internal contexts.

        Raises:
            SessionNotFound: none such in this account, or it is released.
        """
        return self.get(account, session_id).bindings

    def bound(self, account: str, session_id: str) -> list[BoundContext]:
        """Return everything that is bound to a running session, with where it is, for a sync.

        Raises:
            SessionNotFound: none such in this account, or it is being released.
        """
        with self._database.read() as connection:
            _held(connection, account, session_id, is_running=True)
            return load_bound(connection, session_id)

    @retried
    def load_internal(
        self, account: str, session_id: str, kind: str, places: Sequence[tuple[str, str]], *, now: datetime
    ) -> InternalContext:
        """Return a running session's internal context of this kind, made and bound where it is missing.

        Args:
            places: mount paths with their folders, best first; the first that no binding is in the way of is taken.

        Raises:
            SessionNotFound: none such in this account, or it is being released.
            PathAlreadyBound: something bound is in the way everywhere.
        """
        with self._database.write() as connection:
            _held(connection, account, session_id, is_running=True, lock=True)
            return load_internal(connection, account, session_id, kind, places, now=now)

    @retried
    def begin_release(self, account: str, session_id: str) -> None:
        """Let a session end: it is listed no more, and its release waits to be claimed. Repeating changes nothing.

        Raises:
            SessionNotFound: none such in this account, or it is released.
        """
        with self._database.write() as connection:
            _held(connection, account, session_id)
            chosen = update(sessions).where(sessions.c.session_id == session_id, _IS_RUNNING)
            connection.execute(chosen.values(state=SessionState.DELETING, last_used_at=0))

    @retried
    def release_idle(self, *, now: datetime) -> int:
        """Begin the release of every session whose idle time has run out, and return how many.

        A session is not idle while a sync of it runs or waits.
        """
        idle_micros = cast(sessions.c.idle_timeout_s, BigInteger) * _MICROS
        over = sessions.c.last_used_at + idle_micros < to_micros(now)
        is_syncing = exists().where(tasks.c.session_id == sessions.c.session_id, text(f"tasks.{ACTIVE_TASK}"))
        idle = and_(_IS_RUNNING, sessions.c.idle_timeout_s.is_not(None), over, ~is_syncing)
        with self._database.read() as connection:
            if connection.execute(select(sessions.c.session_id).where(idle).limit(1)).one_or_none() is None:
                return 0
        with self._database.write() as connection:
            ended = {"state": SessionState.DELETING, "last_used_at": 0}
            return connection.execute(update(sessions).where(idle).values(**ended)).rowcount

    @retried
    def claim_release(self, *, lease: timedelta, now: datetime) -> Release | None:
        """Take one release that nobody has worked on for `lease`."""
        moment, span = to_micros(now), lease // timedelta(microseconds=1)
        held_at = sessions.c.last_used_at
        # One stamped in the future was stamped by a clock that has been set back since.
        free = and_(_IS_RELEASING, or_(held_at <= moment - span, held_at > moment + span), self._is_at_home())
        query = select(sessions).where(free).order_by(held_at).limit(1)
        with self._database.read() as connection:
            if connection.execute(query).one_or_none() is None:
                return None
        with self._database.write() as connection:
            row = connection.execute(query.with_for_update(skip_locked=True)).one_or_none()
            if row is None:
                return None
            connection.execute(
                update(sessions).where(sessions.c.session_id == row.session_id).values(last_used_at=moment)
            )
            return Release(row.account, row.session_id, row.root, moment)

    def _is_at_home(self) -> ColumnElement[bool]:
        """Match sessions whose folders this process has."""
        home = self._database.home
        return true() if home is None else or_(sessions.c.home.is_(None), sessions.c.home == home)

    @retried
    def renew_release(self, release: Release, *, now: datetime) -> Release:
        """Keep a release in these hands for another lease.

        Raises:
            LeaseLost: another process works on it, or it is done.
        """
        moment = to_micros(now)
        with self._database.write() as connection:
            renewed = update(sessions).where(_is_held_by(release)).values(last_used_at=moment)
            if connection.execute(renewed).rowcount == 0:
                raise _lost(release)
        return Release(release.account, release.session_id, release.root, moment)

    def bound_for_release(self, release: Release) -> list[BoundContext]:
        """Return everything that is bound to a session that is being released."""
        with self._database.read() as connection:
            return load_bound(connection, release.session_id)

    @retried
    def forget_base(self, release: Release, *, limit: int) -> bool:
        """Forget what up to `limit` files of a private folder were, and tell whether there may be more.

        Raises:
            LeaseLost: another process works on it, or it is done.
        """
        own = select(bindings.c.replica_id).where(bindings.c.session_id == release.session_id)
        key = (base_files.c.replica_id, base_files.c.parent, base_files.c.name)
        some = select(*key).where(base_files.c.replica_id.in_(own)).limit(limit)
        with self._database.write() as connection:
            _demand_held(connection, release)
            return connection.execute(delete(base_files).where(tuple_(*key).in_(some))).rowcount == limit

    @retried
    def finish(self, release: Release, *, now: datetime) -> None:
        """Let a session be released: its bindings go, its internal contexts, and the replicas of a private folder.

        What is left of its syncs is cancelled.

        Raises:
            LeaseLost: another process works on it, or it is done.
        """
        with self._database.write() as connection:
            _demand_held(connection, release)
            drop_bindings(connection, release.session_id, has_own_folder=release.root != "", now=now)
            ended = {"state": SessionState.FINISH, "finished_at": to_micros(now)}
            connection.execute(update(sessions).where(sessions.c.session_id == release.session_id).values(**ended))


def _held(
    connection: Connection, account: str, session_id: str, *, is_running: bool = False, lock: bool = False
) -> AnyRow:
    query = select(sessions).where(sessions.c.session_id == session_id, sessions.c.account == account)
    query = query.where(_IS_RUNNING if is_running else _IS_HELD)
    row = connection.execute(query.with_for_update(key_share=True) if lock else query).one_or_none()
    if row is None:
        raise not_found()
    return row


def _is_held_by(release: Release) -> ColumnElement[bool]:
    return and_(sessions.c.session_id == release.session_id, _IS_RELEASING, sessions.c.last_used_at == release.held_at)


def _demand_held(connection: Connection, release: Release) -> None:
    held = select(sessions.c.session_id).where(_is_held_by(release)).with_for_update(key_share=True)
    if connection.execute(held).one_or_none() is None:
        raise _lost(release)


def _lost(release: Release) -> LeaseLost:
    return LeaseLost(f"the release of {release.session_id} is done, or another process works on it")


def _grain(idle_timeout_s: int | None) -> timedelta:
    """Return how exactly the last use of a session is noted: to a tenth of its idle time at most."""
    return _TOUCHED_EVERY if idle_timeout_s is None else min(_TOUCHED_EVERY, timedelta(seconds=idle_timeout_s) / 10)


def _labels(row: AnyRow) -> dict[str, str]:
    return typed("dict[str, str]", json.loads(row.labels))


def _is_behind(row: AnyRow, key: SessionKey) -> bool:
    return (row.created_at, row.session_id) < (key.created_at, key.session_id)


def _with_bindings(connection: Connection, rows: Sequence[AnyRow]) -> list[Session]:
    found = bindings_of(connection, [row.session_id for row in rows])
    return [
        Session(
            session_id=row.session_id,
            state=row.state,
            labels=_labels(row),
            bindings=tuple(found.get(row.session_id, ())),
            idle_timeout_s=row.idle_timeout_s,
            created_at=from_micros(row.created_at),
            last_used_at=from_micros(row.last_used_at) if row.last_used_at else None,
        )
        for row in rows
    ]
