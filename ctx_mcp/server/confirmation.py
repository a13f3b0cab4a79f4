"""Asking before something is deleted: through the host where it can put questions, by an argument where it cannot."""

from __future__ import annotations

from typing import Any

import mcp_types
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from ctx_mcp.domain.errors import ConfirmationDeclined, ConfirmationImpossible, ConfirmationNeeded
from ctx_mcp.server.account_access import principal
from ctx_mcp.server.request_state import RequestStates
from ctx_mcp.server.schemas import Arguments
from ctx_mcp.server.tool import Question

Request = ServerRequestContext[Any, Any]
ALWAYS, NEVER = "always", "never"
_KEY = "confirm"
_FORM: dict[str, Any] = {"type": "object", "properties": {}}
"""Nothing to fill in: accepting is the answer."""


class Confirmation:
    """Settles whether calls that delete may go on. `mode` is one of `settings.CONFIRM_MODES`."""

    def __init__(self, mode: str, states: RequestStates) -> None:
        self._mode = mode
        self._states = states

    @property
    def is_wanted(self) -> bool:
        return self._mode != NEVER

    @property
    def is_for_all(self) -> bool:
        """Whether small losses are to be confirmed too."""
        return self._mode == ALWAYS

    def is_given(self, ctx: Request, arguments: Arguments) -> bool:
        """Tell whether a call brings its confirmation along, so that no question need be made of what would be lost."""
        return self._mode != ALWAYS and not _can_be_asked(ctx) and getattr(arguments, _KEY, False) is True

    async def ask(
        self, ctx: Request, params: mcp_types.CallToolRequestParams, arguments: Arguments, question: Question
    ) -> mcp_types.InputRequiredResult | None:
        """Return None when the call may go on, or what to answer first: the question itself, on the modern wire.

        The argument `confirm` counts only where nobody can be asked.

        Raises:
            ConfirmationNeeded, ConfirmationDeclined, ConfirmationImpossible: as named.
            MCPError: the answer belongs to another question, or comes too late.
        """
        if not _can_be_asked(ctx):
            self._demand_argument(arguments, question)
            return None
        if _is_modern(ctx):
            return await self._ask_by_result(params, arguments, question)
        _demand_accepted(await _ask_live(ctx, question), question)
        return None

    def _demand_argument(self, arguments: Arguments, question: Question) -> None:
        if self._mode == ALWAYS:
            raise ConfirmationImpossible(f"only the user may confirm this: {question.text} Nothing was changed")
        if getattr(arguments, _KEY, False) is not True:
            raise ConfirmationNeeded(f"this is not confirmed: {question.text} Nothing was changed")

    async def _ask_by_result(
        self, params: mcp_types.CallToolRequestParams, arguments: Arguments, question: Question
    ) -> mcp_types.InputRequiredResult | None:
        given = arguments.model_dump(mode="json", exclude={_KEY})
        bound_to = (params.name, given, question.context_id, principal())
        if params.request_state is None and params.input_responses:
            raise MCPError(mcp_types.INVALID_PARAMS, "inputResponses come with the requestState of their question")
        if params.request_state is not None:
            await self._states.check(params.request_state, bound_to)
            answer = (params.input_responses or {}).get(_KEY)
            if answer is not None:
                _demand_accepted(answer, question)
                return None
        return mcp_types.InputRequiredResult(
            input_requests={_KEY: mcp_types.ElicitRequest(params=_form(question))},
            request_state=await self._states.sign(bound_to),
        )


def _is_modern(ctx: Request) -> bool:
    return ctx.protocol_version in MODERN_PROTOCOL_VERSIONS


def _can_be_asked(ctx: Request) -> bool:
    return _takes_forms(ctx) and (_is_modern(ctx) or ctx.session.can_send_request)


def _takes_forms(ctx: Request) -> bool:
    """Tell whether the client shows forms; a bare capability is from when there was nothing else."""
    capabilities = ctx.session.client_capabilities
    elicitation = capabilities.elicitation if capabilities is not None else None
    return elicitation is not None and (elicitation.form is not None or elicitation.url is None)


def _form(question: Question) -> mcp_types.ElicitRequestFormParams:
    return mcp_types.ElicitRequestFormParams(message=question.text, requested_schema=_FORM)


async def _ask_live(ctx: Request, question: Question) -> mcp_types.ElicitResult:
    try:
        return await ctx.session.elicit_form(question.text, _FORM, ctx.request_id)
    except (MCPError, ValidationError) as error:
        raise ConfirmationDeclined(
            f"the client did not get an answer to: {question.text} Nothing was changed"
        ) from error


def _demand_accepted(answer: object, question: Question) -> None:
    if not isinstance(answer, mcp_types.ElicitResult) or answer.action != "accept":
        said = answer.action if isinstance(answer, mcp_types.ElicitResult) else "something else"
        raise ConfirmationDeclined(f"the answer was {said} to: {question.text} Nothing was changed")
