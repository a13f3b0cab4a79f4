"""A small MCP server over the project's transports, started as a process of its own by the tests beside it.

Its arguments are the transport and, for HTTP, how long running calls get to end. It says on standard error what the
tests wait for: `serving` or the URL, `hanging` when a call that never ends runs, `cancelled` when it is cancelled,
`closed` when the code around the serving was left in order.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, cast

import anyio
import mcp_types as types
from mcp.server.lowlevel import NotificationOptions, Server
from mcp.server.stdio import stdio_server
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler

from ctx_mcp.cli.loop import FAST_LOOP
from ctx_mcp.server import http
from ctx_mcp.server.stdio import serve_stdio

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from mcp.server.context import ServerRequestContext
    from mcp.server.models import InitializationOptions

EMPTY_SCHEMA: dict[str, Any] = {"type": "object"}


class ToyServer(Server[Any]):
    """Announces list changes on every transport; the SDK's streamable HTTP asks for no options of ours."""

    def create_initialization_options(
        self,
        notification_options: NotificationOptions | None = None,
        experimental_capabilities: dict[str, dict[str, Any]] | None = None,
        extensions: dict[str, dict[str, Any]] | None = None,
    ) -> InitializationOptions:
        options = notification_options or NotificationOptions(
            prompts_changed=True, resources_changed=True, tools_changed=True
        )
        return super().create_initialization_options(options, experimental_capabilities, extensions)


def say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def echo(arguments: dict[str, Any]) -> str:
    return str(arguments.get("text", ""))


def repeat(arguments: dict[str, Any]) -> str:
    return "x" * int(arguments["count"])


def pollute(_: dict[str, Any]) -> str:
    """Write to standard output in all the ways a handler can, and read standard input."""
    sys.stdout.write("stray print\n")
    os.write(1, b"stray write\n")
    subprocess.run(["/bin/echo", "stray child"], check=True)
    return f"read {sys.stdin.read()!r}"


TOOLS: dict[str, Callable[[dict[str, Any]], str]] = {"echo": echo, "repeat": repeat, "pollute": pollute}


async def hang() -> str:
    say("hanging")
    try:
        await anyio.Event().wait()
    finally:
        say("cancelled")
    return ""


async def list_tools(_ctx: ServerRequestContext[Any], _params: Any) -> types.ListToolsResult:
    return types.ListToolsResult(tools=[types.Tool(name=name, input_schema=EMPTY_SCHEMA) for name in [*TOOLS, "hang"]])


async def call_tool(_ctx: ServerRequestContext[Any], params: types.CallToolRequestParams) -> types.CallToolResult:
    text = await hang() if params.name == "hang" else TOOLS[params.name](params.arguments or {})
    return types.CallToolResult(content=[types.TextContent(text=text)])


@contextmanager
def announced() -> Generator[None]:
    try:
        yield
    finally:
        say("closed")


async def serve_sdk_stdio(server: Server[Any]) -> None:
    async with stdio_server() as (read_stream, write_stream):
        await server.run(read_stream, write_stream, server.create_initialization_options())


async def main(arguments: list[str]) -> None:
    transport, *call_grace_s = arguments
    if call_grace_s:
        http.CALL_GRACE_S = int(call_grace_s[0])
    listen = ListenHandler(InMemorySubscriptionBus())
    server = ToyServer("toy", on_list_tools=list_tools, on_call_tool=call_tool, on_subscriptions_listen=listen)
    with announced():
        if transport == "sdk":
            await serve_sdk_stdio(server)
        elif transport == "stdio":
            say("serving")
            await serve_stdio(server, server.create_initialization_options())
        else:
            kind = cast('Literal["http", "sse"]', transport)
            await http.serve_http(
                server, transport=kind, host="127.0.0.1", port=0, close_streams=listen.close, on_ready=say
            )


if __name__ == "__main__":
    anyio.run(main, sys.argv[1:], backend_options=FAST_LOOP)
