"""How a service answers one operation: by the handler of its kind, with an id to find it by in the log."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias, cast

from ctx_mcp.domain.errors import AGBError, InvalidArgument, StoreUnusable, UnknownOperation
from ctx_mcp.domain.models import Caller
from ctx_mcp.telemetry.calls import Call, answering, current_call
from ctx_mcp.telemetry.steps import Layer, is_observed, step
from ctx_mcp.wire.operations import Operation, R, Reply

_ID = re.compile(r"(ctx|task|session)-[a-z2-7]{17,26}\Z")
_NO_IDS: Mapping[str, str] = {}
_IDS = ("context_id", "task_id", "session_id")
Handler: TypeAlias = Callable[[Caller, Any], Awaitable[Any]]
Handlers: TypeAlias = Mapping[type[Operation[Any]], Handler]


Through: TypeAlias = Callable[[Handler, Caller, Operation[Any], str], Awaitable[Any]]
"""Has a handler do an operation; what it does before and after belongs to the call, which has this request id."""


async def answer_operation(
    handlers: Handlers, caller: Caller, operation: Operation[R], *, through: Through | None = None
) -> Reply[R]:
    """Do one operation, as part of the call that is being answered, or else as one of its own.

    Raises:
        AGBError: why it was not done, with the request id.
    """
    call = current_call()
    if call is not None:
        return await _answer(handlers, caller, operation, call, through)
    with answering(Call()) as call:
        return await _answer(handlers, caller, operation, call, through)


async def _answer(
    handlers: Handlers, caller: Caller, operation: Operation[R], call: Call, through: Through | None
) -> Reply[R]:
    name, request_id = type(operation).__name__, call.request_id
    call.name = call.name or name
    call.account = caller.account
    with step(Layer.OPERATION, name, ids=_ids_of(caller, operation) if is_observed() else _NO_IDS):
        handler = handlers.get(type(operation))
        if handler is None:
            raise UnknownOperation(f"no operation {name}", request_id=request_id)
        try:
            if through is None:
                result = await handler(caller, operation)
            else:
                result = await through(handler, caller, operation, request_id)
        except AGBError as error:
            error.request_id = request_id
            raise
        except UnicodeEncodeError as error:
            raise InvalidArgument(
                "a text holds half a surrogate pair, which is no character", request_id=request_id
            ) from error
        except OSError as error:
            raise StoreUnusable(f"storing or reading bytes failed: {error}", request_id=request_id) from error
        return Reply(request_id, cast("R", result))


def _ids_of(caller: Caller, operation: Operation[Any]) -> dict[str, str]:
    """Return what a trace tells of an operation: whose it is, and the ids in it that are of the shape of ours."""
    given = {name: getattr(operation, name, None) for name in _IDS}
    ids = {f"ctx_mcp.{name}": each for name, each in given.items() if isinstance(each, str) and _ID.match(each)}
    return {**ids, "ctx_mcp.account": caller.account}
