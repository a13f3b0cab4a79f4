"""A tool call as observers and the log see it: with the id and the trace of whoever asked."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import Any

from mcp.server.context import ServerRequestContext

from ctx_mcp.domain.identity import new_request_id
from ctx_mcp.server.auth_gate import caller_of
from ctx_mcp.service.http_calls import CARRIER_KEY
from ctx_mcp.telemetry.calls import REQUEST_ID_HEADER, Call, answering
from ctx_mcp.telemetry.logs import log_access
from ctx_mcp.telemetry.steps import Layer, is_observed, outcome_of, step

_TRACE = ("traceparent", "tracestate")


@contextmanager
def answering_tool(ctx: ServerRequestContext[Any, Any], name: str) -> Generator[Call]:
    """Let everything inside be one call of this tool; what answers it notes how it ended.

    Its id is that of the HTTP request it came with, and a new one on stdio.
    """
    scope: Mapping[str, Any] = getattr(ctx.request, "scope", {})
    came_with: Mapping[str, str] = scope.get(CARRIER_KEY, {})
    caller = caller_of(ctx.request)
    account = caller.account if caller is not None else ""
    call = Call(name, came_with.get(REQUEST_ID_HEADER) or new_request_id(), account)
    started = perf_counter()
    with answering(call):
        try:
            with step(Layer.TOOL, name, _carrier(ctx, came_with) if is_observed() else None) as taken:
                yield call
                taken.outcome = call.outcome
        except BaseException as error:
            call.outcome = outcome_of(error)
            raise
        finally:
            log_access(call, perf_counter() - started)


def _carrier(ctx: ServerRequestContext[Any, Any], came_with: Mapping[str, str]) -> Mapping[str, str]:
    """Return the trace that a call belongs to: as `_meta` says, else as the headers of its request do.

    Source: MCP SEP-414.
    """
    meta: Mapping[str, object] = {} if ctx.meta is None else {**ctx.meta}
    return {key: value for key in _TRACE if isinstance(value := meta.get(key), str)} or came_with
