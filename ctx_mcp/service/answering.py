"""How a service answers one operation: by the handler of its kind, with an id to find it by in the log."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias, cast

from ctx_mcp.domain.errors import AGBError, InvalidArgument, StoreUnusable, UnknownOperation
from ctx_mcp.domain.identity import new_request_id
from ctx_mcp.domain.models import Caller
from ctx_mcp.wire.operations import Operation, R, Reply

Handlers: TypeAlias = Mapping[type[Operation[Any]], Callable[[Caller, Any], Awaitable[Any]]]


async def answer_operation(handlers: Handlers, caller: Caller, operation: Operation[R]) -> Reply[R]:
    """Do one operation.

    Raises:
        AGBError: why it was not done, with the request id.
    """
    request_id = new_request_id()
    handler = handlers.get(type(operation))
    if handler is None:
        raise UnknownOperation(f"no operation {type(operation).__name__}", request_id=request_id)
    try:
        result = await handler(caller, operation)
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
