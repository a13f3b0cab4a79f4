"""The one place where an error becomes text for a model: what was wrong, what is allowed, what to call instead."""

from __future__ import annotations

import logging
from typing import Any

import mcp_types
from pydantic import ValidationError

from ctx_mcp.domain.errors import AGBError
from ctx_mcp.server.boundary import fence_for
from ctx_mcp.server.bounds import MAX_ERROR_CHARS, clipped
from ctx_mcp.server.needs import Need
from ctx_mcp.server.offer import Offer
from ctx_mcp.server.schemas import input_schema
from ctx_mcp.server.tool import AnyTool

_logger = logging.getLogger(__name__)
_MAX_CODE_CHARS = 100
"""A foreign backend makes up codes of its own."""
_QUOTED = "what this error quotes"

NEXT_STEP: dict[str, str] = {
    "Argument.Invalid": "Correct the argument and call again.",
    "Name.Invalid": "Call again with a name that fits.",
    "Path.Invalid": "Call again with a path like '/folder/file.txt'; file_list shows the paths there are.",
    "Token.Invalid": "Call again without next_token to start from the first page.",
    "Pattern.Invalid": "Correct the pattern and call again; without regex=true the query is taken literally.",
    "Client.NotOpen": "Tell the user to restart the server; calling again will not help.",
    "Auth.Unauthenticated": "Ask the user to set CTX_MCP_API_KEY for this server; calling again will not help.",
    "Auth.AccessDenied": "Ask the user for access; calling again will not help.",
    "Access.ReadOnly": "Read it, or work in another context; only the user can change this server's settings.",
    "Auth.ScopeMissing": "Only read, or ask the user for a key with the scope named; calling again will not help.",
    "Auth.AccountSuspended": "Tell the user: whoever runs the service must resume the account.",
    "Quota.Exceeded": "Delete what is not needed, or tell the user which quota is used up, then call again.",
    "Throttling.Account": "Wait for the time named, then call again; make fewer, larger calls.",
    "Account.NotFound": "Tell the user; only whoever runs the service can make an account.",
    "Key.NotFound": "Tell the user; keys are listed with ctx-mcp keys list.",
    "Url.SignatureMismatch": "Call file_upload_url or file_download_url for a new URL and use it unchanged.",
    "Url.Expired": "Call file_upload_url or file_download_url for a new URL.",
    "Context.NotFound": "Call context_list to see the contexts, or context_create to make one.",
    "Context.NameTaken": "Choose another name, or call context_get to use the context that has it.",
    "File.NotFound": "Call file_list to see which files there are.",
    "Path.Conflict": "Call file_list to see what stands there, and choose another path.",
    "File.Exists": "Call file_read to see it, then file_edit, or file_write with mode='overwrite' and its etag.",
    "File.VersionConflict": "Call file_read to see the current content, then decide again.",
    "Version.NotFound": "Call file_history to see the versions that are kept.",
    "Edit.NotFound": "Call file_edit again with old_text exactly as the file has it now; file_read shows it.",
    "Edit.Ambiguous": "Call file_edit again with more of the lines around it in old_text, or with expected_count.",
    "Tree.TooLarge": "Call again for one of its folders at a time; file_list shows them.",
    "File.TooLarge": "Call file_upload_url to send it by a URL, or file_read to see a part of it.",
    "File.NotText": "Call file_download_url to fetch its bytes instead.",
    "Task.NotFound": "Call context_info to see the syncs there were, or context_clear_start to start a clear.",
    "Task.LeaseLost": "Call context_clear_status to see how the task stands.",
    "InvalidMcpSession.NotFound": "Call session_create for a new session; a released one does not come back.",
    "Session.NotBound": "Call context_info with the session_id to see what is bound to it, and where.",
    "PathAlreadyBound": "Call session_create again with another path for each binding.",
    "Folder.NotAllowed": "Choose a folder that is allowed, or ask the user to add this one to CTX_MCP_ALLOWED_DIRS.",
    "Folder.Unusable": "Correct the path and call again, or ask the user to make the folder readable and writable.",
    "Sync.Conflict": "Call context_sync_status for the conflicts, then context_sync_start with another conflict rule.",
    "Sync.Incomplete": "Call context_sync_status with kind='failure' to see which files, and why.",
    "Clear.Timeout": "Call context_clear_status with wait_s=20 to go on waiting.",
    "Confirm.Needed": "Ask the user, and if the answer is yes call again with confirm=true.",
    "Confirm.Declined": "Leave it as it is; call again only if the user says so.",
    "Confirm.Impossible": "Tell the user: this host cannot ask, and CTX_MCP_CONFIRM=always demands that it does.",
    "Operation.Unknown": "Use one of the tools listed by this server.",
    "Operation.Unsupported": "Use what the message names, or another tool; this server's backend cannot do this.",
    "Store.Unusable": "Tell the user: the data folder needs attention; calling again will not help until then.",
    "Backend.Unavailable": "Call again in a few seconds; if it goes on, tell the user the backend is not reachable.",
    "Backend.ProtocolError": "Call again once; if it goes on, tell the user the backend answers wrongly.",
    "Remote.Error": "Read the message; call again only with something changed.",
    "Error": "Tell the user; the server's log has the cause.",
}
"""What to call next after each code; a test holds that none is missing and that named tools exist."""


def error_result(error: AGBError, offer: Offer) -> mcp_types.CallToolResult:
    """Return a failed call's result for the model; its next step names tools of the offer only."""
    step = offer.next_step(NEXT_STEP.get(error.error_code, NEXT_STEP["Remote.Error"]))
    return _failed(error.error_code, error.message.rstrip("."), step)


def lacking_result(name: str, need: Need, offer: Offer) -> mcp_types.CallToolResult:
    """Return the result of a call of a tool that the backend cannot do, with what to do instead."""
    step = offer.next_step(need.instead)
    return _failed("Operation.Unsupported", f"{name} is not offered: {offer.backend} {need.lack}", step)


def validation_result(tool: AnyTool, error: ValidationError) -> mcp_types.CallToolResult:
    """Return the result of a call whose arguments do not fit, naming each and what the tool takes."""
    schema = input_schema(tool.arguments)
    problems = "; ".join(_problem(item["loc"], item["msg"]) for item in error.errors(include_url=False))
    return _failed("Argument.Invalid", problems, f"It takes: {_signature(tool.name, schema)}")


def unexpected_result(tool_name: str, error: Exception) -> mcp_types.CallToolResult:
    """Return the result of a call that failed in a way nobody foresaw; the cause goes to the log only."""
    _logger.error("tool %s failed", tool_name, exc_info=error)
    return _failed("Error", f"{tool_name} failed inside the server", NEXT_STEP["Error"])


def _problem(location: tuple[int | str, ...], message: str) -> str:
    where = ".".join(map(str, location))
    if message.startswith("Extra inputs"):
        return f"there is no argument {where!r}"
    if message == "Field required":
        return f"the argument {where!r} is missing"
    return f"{where}: {message.removeprefix('Value error, ')}" if where else message.removeprefix("Value error, ")


def _signature(name: str, schema: dict[str, Any]) -> str:
    required = schema.get("required", [])
    parts = [
        argument
        if argument in required
        else f"{argument}={field['default']!r}"
        if "default" in field
        else f"{argument}?"
        for argument, field in schema["properties"].items()
    ]
    return f"{name}({', '.join(parts)})"


def error_text(code: str, message: str, step: str) -> str:
    """Return at most `MAX_ERROR_CHARS` characters; the message gives way, not the code and the next step.

    What stands behind a message's first line are lines of files: they come inside a fence, so that none of them can
    pass for the next step.
    """
    head = f"[{clipped(code, _MAX_CODE_CHARS)}] "
    said, line_end, stored = message.partition("\n")
    if not line_end:
        return f"{head}{clipped(said, MAX_ERROR_CHARS - len(head) - len(step) - 2)}. {step}".rstrip()
    fence = fence_for(_QUOTED)
    frame = f"\n{fence.opening}\n", f"\n{fence.closing}\n{step}"
    room = MAX_ERROR_CHARS - len(head) - sum(map(len, frame))
    said = clipped(said, room // 2)
    return f"{head}{said}{frame[0]}{clipped(stored, room - len(said))}{frame[1]}"


def _failed(code: str, message: str, step: str) -> mcp_types.CallToolResult:
    text = error_text(code, message, step)
    return mcp_types.CallToolResult(content=[mcp_types.TextContent(type="text", text=text)], is_error=True)
