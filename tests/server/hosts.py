"""An agent host as the tests see one: a real client of the SDK on one server, in either protocol era."""

from __future__ import annotations

import importlib
import json
import re
import warnings
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest
from mcp.client.client import Client
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError
from mcp_types import CallToolResult, TextContent, Tool

from ctx_mcp.client.async_service import AsyncContextService
from ctx_mcp.server.app import ContextServer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine, Generator

    from ctx_mcp.client.transport import Transport
    from tests.lifetimes import Lifetimes

ERAS = {"legacy": "2025-11-25", "auto": "2026-07-28"}
"""How a client connects, and the protocol version that follows."""
WAIT_S = 60.0
INVALID_PARAMS = -32602


class Like:
    """Equal to every text that a pattern matches whole."""

    def __init__(self, pattern: str) -> None:
        self._pattern = re.compile(pattern)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and self._pattern.fullmatch(other) is not None

    def __hash__(self) -> int:
        return hash(self._pattern)

    def __repr__(self) -> str:
        return f"Like({self._pattern.pattern!r})"


TIME = Like(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
CONTEXT_ID = Like(r"ctx-[a-z2-7]{17}")
TASK_ID = Like(r"task-[a-z2-7]{26}")
ETAG = Like(r"\S+")
URL = Like(r"http://127\.0\.0\.1:\d+/\S+")


class Host:
    """One client and the tools it was shown; every structured answer is held to its tool's output schema."""

    def __init__(self, client: Client, tools: list[Tool]) -> None:
        self.client = client
        self.tools = {tool.name: tool for tool in tools}

    async def answer(self, tool: str, /, **arguments: Any) -> CallToolResult:
        """Call a tool, whatever comes of it."""
        return await self.client.call_tool(tool, arguments)

    async def texts(self, tool: str, /, **arguments: Any) -> list[str]:
        """Call a tool that must succeed, and return its text blocks: what it says, then the payload if it has one."""
        result = await self.answer(tool, **arguments)
        assert not result.is_error, texts_of(result)
        self._check_schema(tool, result)
        return texts_of(result)

    async def call(self, tool: str, /, **arguments: Any) -> dict[str, Any]:
        """Call a tool that must succeed, and return its structured answer."""
        result = await self.answer(tool, **arguments)
        assert not result.is_error, texts_of(result)
        return self._check_schema(tool, result)

    async def refusal(self, tool: str, /, **arguments: Any) -> str:
        """Call a tool that must refuse, and return why."""
        result = await self.answer(tool, **arguments)
        assert result.is_error, texts_of(result)
        assert result.structured_content is None
        (text,) = texts_of(result)
        return text

    async def new_context(self, name: str = "a context") -> str:
        return (await self.call("context_create", name=name))["context_id"]

    async def write(self, context_id: str, file_path: str, content: str) -> dict[str, Any]:
        """Make `content` the whole file, whatever is there."""
        arguments = {"context_id": context_id, "file_path": file_path, "content": content}
        return await self.call("file_write", mode="overwrite", if_match="*", **arguments)

    async def subscribe(self, uri: str) -> None:
        """Subscribe as clients of the legacy era do."""
        with _without_deprecation():
            await self.client.subscribe_resource(uri)  # pyright: ignore[reportDeprecated]

    async def unsubscribe(self, uri: str) -> None:
        with _without_deprecation():
            await self.client.unsubscribe_resource(uri)  # pyright: ignore[reportDeprecated]

    def _check_schema(self, tool: str, result: CallToolResult) -> dict[str, Any]:
        schema = self.tools[tool].output_schema
        if schema is None:
            return facts_of(result)
        facts = cast("dict[str, Any]", result.structured_content)
        check_schema(facts, schema)
        return facts


def check_schema(value: object, schema: dict[str, Any]) -> None:
    """Raise unless the value fits the JSON schema."""
    _validator(json.dumps(schema)).validate(value)


@cache
def _validator(schema: str) -> Any:
    validator: Any = importlib.import_module("jsonschema").Draft202012Validator
    validator.check_schema(json.loads(schema))
    return validator(json.loads(schema))


def facts_of(result: CallToolResult) -> dict[str, Any]:
    """Return what an answer tells programs, wherever it stands."""
    return cast("dict[str, Any]", result.structured_content or (result.meta or {})["ctx-mcp/facts"])


def texts_of(result: CallToolResult) -> list[str]:
    return [block.text for block in result.content if isinstance(block, TextContent)]


async def open_host(hold: Lifetimes, server: Any, era: str, **options: Any) -> Host:
    """Connect a client to a server object, a URL or a transport; it stays connected until the test ends."""
    client = await hold(Client(server, mode=era, read_timeout_seconds=WAIT_S, **options))
    assert client.protocol_version == ERAS[era]
    return Host(client, (await client.list_tools()).tools)


@asynccontextmanager
async def serving(transport: Transport, **options: Any) -> AsyncGenerator[ContextServer]:
    """Give a server in this process on an open transport, with its news passed on."""
    server = ContextServer(AsyncContextService(transport), **options)
    async with anyio.create_task_group() as group:
        group.start_soon(server.subscriptions.run)
        yield server
        group.cancel_scope.cancel()


async def refused(call: Coroutine[Any, Any, Any]) -> MCPError:
    """Await a request that must end in a protocol error for bad parameters, and return it."""
    with pytest.raises(MCPError) as caught:
        await call
    assert caught.value.error.code == INVALID_PARAMS, caught.value.error
    return caught.value


@contextmanager
def _without_deprecation() -> Generator[None]:
    with warnings.catch_warnings(action="ignore", category=MCPDeprecationWarning):
        yield
