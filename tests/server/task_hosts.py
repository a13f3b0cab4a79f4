"""A host that declares the tasks extension, and follows tasks with the extension's own requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import mcp_types
from mcp.client.extension import ClientExtension, ResultClaim
from pydantic import ConfigDict

from ctx_mcp.server.tasks import EXTENSION
from tests.server.hosts import Host, open_host

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp.client.extension import ClaimContext

    from tests.lifetimes import Lifetimes


class Told(mcp_types.Result):
    """Whatever the server says of a task."""

    model_config = ConfigDict(extra="allow")


class Created(Told):
    """What it says of a call that became one."""

    result_type: Literal["task"] = "task"


class TaskRequest(mcp_types.Request[dict[str, Any], str]):
    name_param: ClassVar[str | None] = "taskId"


class Follower(ClientExtension):
    identifier = EXTENSION

    def claims(self) -> Sequence[ResultClaim[Any]]:
        return (ResultClaim(result_type="task", model=Created, resolve=_never),)


async def _never(created: Created, context: ClaimContext) -> mcp_types.CallToolResult:
    raise AssertionError(f"{context.tool_name} became a task nobody asked for: {created}")


class TaskHost:
    """A host of the extension over the connection of a `Host`."""

    def __init__(self, host: Host) -> None:
        self.host = host

    async def start(self, tool: str, /, **arguments: Any) -> dict[str, Any]:
        """Call a tool and return the task it became, as it came."""
        result = await self.host.client.session.call_tool(tool, arguments, allow_claimed=True)
        assert isinstance(result, Created), result
        return _wire(result)

    async def ask(self, method: str, task_id: str, **more: Any) -> dict[str, Any]:
        return await ask(self.host, method, task_id, **more)


async def ask(host: Host, method: str, task_id: str, **more: Any) -> dict[str, Any]:
    """Send one of the extension's requests, whether the host declares the extension or not."""
    request = TaskRequest(method=method, params={"taskId": task_id, **more})
    return _wire(await host.client.session.send_request(request, Told))


def _wire(told: Told) -> dict[str, Any]:
    return told.model_dump(mode="json", by_alias=True, exclude_none=True)


async def open_task_host(hold: Lifetimes, server: Any) -> TaskHost:
    return TaskHost(await open_host(hold, server, "auto", extensions=[Follower()]))
