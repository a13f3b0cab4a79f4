"""Rows of bindings: which context stands at which path of a session, and its replica. Inside a caller's transaction."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, and_, delete, insert, select, text, update

from ctx_mcp.domain.clock import from_micros, to_micros
from ctx_mcp.domain.errors import InvalidArgument, PathAlreadyBound
from ctx_mcp.domain.identity import new_task_id
from ctx_mcp.domain.models import TaskKind, TaskState
from ctx_mcp.domain.sessions import Binding, InternalContext
from ctx_mcp.store.contexts import INTERNAL_MARK, delete_context, insert_context, living_context
from ctx_mcp.store.schema import ACTIVE_TASK, base_files, bindings, contexts, replicas, tasks
from ctx_mcp.store.sync import Replica, open_replica, put_recycle_rules, replica_of

DATA = "data"
"""The kind of a binding that a user made; any other is of an internal context."""


@dataclass(frozen=True, slots=True)
class NewBinding:
    """A context to bind at `path` of a session, which is `folder` on this machine, to its files below `context_path`.

    With `done_sync` a sync with these parameters is listed at once, as done; see `SessionRules`. `recycle_rules` are
    days by path of the context, None for never.
    """

    context_id: str
    path: str
    folder: str
    context_path: str
    policy: str | None = None
    kind: str = DATA
    done_sync: Mapping[str, str | bool | None] | None = None
    recycle_rules: Mapping[str, int | None] = field(default_factory=dict[str, int | None])


@dataclass(frozen=True, slots=True)
class BoundContext:
    """A binding with the folder and the prefix that a sync of it needs. `policy` is JSON text, None the default."""

    context_id: str
    path: str
    policy: str | None
    kind: str
    replica: Replica

    @property
    def is_internal(self) -> bool:
        return self.kind != DATA


def bind_all(
    connection: Connection,
    account: str,
    session_id: str,
    wanted: Sequence[NewBinding],
    *,
    max_bindings: int | None = None,
    now: datetime,
) -> None:
    """Bind contexts; the caller's transaction is undone when one cannot be.

    Raises:
        ContextNotFound: a context is not there; names it.
        PathAlreadyBound: a path is bound, or lies inside a bound one, or around it.
        InvalidArgument: there would be more than `max_bindings`.
    """
    taken = _bound_paths(connection, session_id)
    if max_bindings is not None and len(taken) + len(wanted) > max_bindings:
        raise InvalidArgument(f"a session can have at most {max_bindings} bindings; this one has {len(taken)}")
    for binding in wanted:
        if (other := _in_the_way(binding.path, taken)) is not None:
            raise PathAlreadyBound(_refusal(binding.path, other))
        living_context(connection, account, binding.context_id)
        _bind(connection, account, session_id, binding, now=now)
        taken.append(binding.path)


def load_bound(connection: Connection, session_id: str) -> list[BoundContext]:
    """Return everything that is bound, in path order."""
    query = (
        select(bindings.c.path, bindings.c.policy, bindings.c.kind, replicas)
        .join_from(bindings, replicas, bindings.c.replica_id == replicas.c.replica_id)
        .where(bindings.c.session_id == session_id)
        .order_by(bindings.c.path)
    )
    return [
        BoundContext(row.context_id, row.path, row.policy, row.kind, replica_of(row))
        for row in connection.execute(query)
    ]


def bindings_of(connection: Connection, session_ids: Sequence[str]) -> dict[str, list[Binding]]:
    """Return what users bound to these sessions, in path order. The name of a deleted context stays."""
    query = (
        select(bindings, contexts.c.name, replicas.c.context_path)
        .join_from(bindings, contexts, bindings.c.context_id == contexts.c.context_id)
        .join(replicas, bindings.c.replica_id == replicas.c.replica_id)
        .where(bindings.c.session_id.in_(session_ids), bindings.c.kind == DATA)
        .order_by(bindings.c.path)
    )
    found: dict[str, list[Binding]] = {}
    for row in connection.execute(query):
        binding = Binding(row.context_id, row.path, row.context_path, row.policy, row.name, from_micros(row.bound_at))
        found.setdefault(row.session_id, []).append(binding)
    return found


def load_internal(
    connection: Connection,
    account: str,
    session_id: str,
    kind: str,
    places: Sequence[tuple[str, str]],
    *,
    now: datetime,
) -> InternalContext:
    """Return the internal context of this kind, made and bound at the first free place when it is missing.

    Raises:
        PathAlreadyBound: something bound is in the way at every place.
    """
    alive = and_(bindings.c.context_id == contexts.c.context_id, contexts.c.deleted_at.is_(None))
    mine = and_(bindings.c.session_id == session_id, bindings.c.kind == kind)
    found = connection.execute(select(bindings).join_from(bindings, contexts, alive).where(mine)).one_or_none()
    if found is not None:
        return InternalContext(found.context_id, kind, found.path)
    # One whose context was deleted by its id: the session gets a new one.
    connection.execute(delete(bindings).where(mine))
    taken = _bound_paths(connection, session_id)
    for path, folder in places:
        if _in_the_way(path, taken) is None:
            context = insert_context(connection, account, f"{INTERNAL_MARK}{kind} of {session_id}", now=now)
            binding = NewBinding(context.context_id, path, folder, path, kind=kind)
            _bind(connection, account, session_id, binding, now=now)
            return InternalContext(context.context_id, kind, path)
    raise PathAlreadyBound(
        f"there is no place for the {kind} context: other contexts are bound at, in or around them all"
    )


def drop_bindings(connection: Connection, session_id: str, *, has_own_folder: bool, now: datetime) -> None:
    """Remove all bindings, the internal contexts among them, and what is left of the session's syncs.

    Replicas stay for the next session that binds the same, unless the folder goes with the session.
    """
    rows = connection.execute(select(bindings).where(bindings.c.session_id == session_id)).all()
    internal = contexts.c.context_id.in_([row.context_id for row in rows if row.kind != DATA])
    living = select(contexts).where(internal, contexts.c.deleted_at.is_(None)).order_by(contexts.c.context_id)
    # Contexts are locked before tasks, everywhere.
    hidden = connection.execute(living.with_for_update(key_share=True)).all()
    connection.execute(delete(bindings).where(bindings.c.session_id == session_id))
    moment = to_micros(now)
    left = and_(tasks.c.session_id == session_id, text(ACTIVE_TASK))
    ended = {"state": TaskState.CANCELLED, "updated_at": moment, "finished_at": moment, "lease_until": None}
    connection.execute(update(tasks).where(left).values(ended))
    for context in hidden:
        delete_context(connection, context, now=now)
    useless = [row.replica_id for row in rows if has_own_folder or row.kind != DATA]
    connection.execute(delete(base_files).where(base_files.c.replica_id.in_(useless)))
    connection.execute(delete(replicas).where(replicas.c.replica_id.in_(useless)))


def _bind(connection: Connection, account: str, session_id: str, binding: NewBinding, *, now: datetime) -> None:
    replica = open_replica(connection, account, binding.context_id, binding.folder, binding.context_path, now=now)
    put_recycle_rules(connection, binding.context_id, binding.recycle_rules, now=now)
    moment = to_micros(now)
    values = {"session_id": session_id, "path": binding.path, "account": account, "context_id": binding.context_id}
    more = {"replica_id": replica.replica_id, "kind": binding.kind, "policy": binding.policy, "bound_at": moment}
    connection.execute(insert(bindings).values(**values, **more))
    if binding.done_sync is None:
        return
    done = {"task_id": new_task_id(), "kind": TaskKind.SYNC, "state": TaskState.COMPLETED}
    whose = {
        "account": account,
        "context_id": binding.context_id,
        "session_id": session_id,
        "replica_id": replica.replica_id,
    }
    stamps = dict.fromkeys(("created_at", "updated_at", "finished_at"), moment)
    connection.execute(insert(tasks).values(**done, **whose, **stamps, parameters=json.dumps(dict(binding.done_sync))))


def _bound_paths(connection: Connection, session_id: str) -> list[str]:
    return list(connection.scalars(select(bindings.c.path).where(bindings.c.session_id == session_id)))


def _in_the_way(path: str, taken: Sequence[str]) -> str | None:
    """Return a bound path that `path` is the same as, lies inside of, or lies around."""
    return next((other for other in taken if f"{path}/".startswith(f"{other}/") or other.startswith(f"{path}/")), None)


def _refusal(path: str, other: str) -> str:
    if path == other:
        return f"Path {path} is already bound"
    return f"Path {path} and the bound path {other} lie one inside the other; bind contexts beside each other"
