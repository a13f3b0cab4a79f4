"""MCP servers in processes of their own, spoken to in raw lines: any number of calls at once, and a kill to the moment.

No SDK, so that what is counted is the server's doing; benchmarks use it too, on servers of others.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

from tests.server.processes import CTX_MCP, WAIT_S, environment

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

_MAX_LINE_BYTES = 64 * 1024 * 1024
_INITIALIZE = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "raw lines", "version": "1"},
}


@dataclass(frozen=True, slots=True)
class Said:
    """What a tool answered: whether it is done, the text for the model, and the facts that a client gets beside it."""

    is_ok: bool
    text: str
    facts: dict[str, Any]


class PipedServer:
    """A stdio server in a process of its own. Use `piped`, or `start` and then `close`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._stdin = process.stdin
        self._stdout = process.stdout
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._last_id = 0
        self._dies_at = 0
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, command: Sequence[str], env: dict[str, str]) -> Self:
        """Start a server and shake hands with it."""
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=env,
            limit=_MAX_LINE_BYTES,
        )
        server = cls(process)
        try:
            await server.ask("initialize", _INITIALIZE)
            server._send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        except BaseException:
            await server.close()
            raise
        return server

    @classmethod
    async def start_ours(cls, data_dir: Path) -> Self:
        return await cls.start([CTX_MCP], environment(CTX_MCP_DATA_DIR=data_dir))

    async def call(self, tool: str, **arguments: object) -> Said:
        """Call a tool. Calls that are not awaited one after another are in the server at the same time.

        Raises:
            ConnectionError: the server ended before it answered.
            RuntimeError: an error of the protocol, which no tool should cause.
        """
        return _said(await self.ask("tools/call", {"name": tool, "arguments": arguments}))

    async def last_call(self, tool: str, **arguments: object) -> Said:
        """Call a tool, and kill the process the moment its answer has been read. It is gone when this returns."""
        self._dies_at = self._last_id + 1
        said = await self.call(tool, **arguments)
        await self.close()
        assert self._process.returncode == -signal.SIGKILL
        return said

    async def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self._last_id += 1
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[self._last_id] = answer
        self._send({"jsonrpc": "2.0", "id": self._last_id, "method": method, "params": params})
        message = await asyncio.wait_for(answer, WAIT_S)
        if "error" in message:
            raise RuntimeError(message["error"])
        return message["result"]

    async def close(self) -> None:
        """End the process: at the end of its input, or by force when it does not."""
        self._stdin.close()
        with suppress(ConnectionError):
            await self._stdin.wait_closed()
        try:
            await asyncio.wait_for(self._process.wait(), WAIT_S)
        except BaseException:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
            raise
        finally:
            await self._reading

    def _send(self, message: dict[str, Any]) -> None:
        self._stdin.write(json.dumps(message).encode() + b"\n")

    async def _read(self) -> None:
        while line := await self._stdout.readline():
            message = cast("dict[str, Any]", json.loads(line))
            number: int = message.get("id", 0)
            if number and number == self._dies_at:
                self._process.kill()
            answer = self._waiting.pop(number, None)
            if answer is not None and not answer.done():
                answer.set_result(message)
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(ConnectionError("the server ended before it answered"))


@asynccontextmanager
async def piped(*commands: Sequence[str], env: dict[str, str] | None = None) -> AsyncGenerator[list[PipedServer]]:
    """Start one server for each command, all at once; none is left running."""
    started = await asyncio.gather(
        *(PipedServer.start(command, {**os.environ, **(env or {})}) for command in commands), return_exceptions=True
    )
    servers = [server for server in started if isinstance(server, PipedServer)]
    try:
        for server in started:
            if isinstance(server, BaseException):
                raise server
        yield servers
    finally:
        await asyncio.gather(*(server.close() for server in servers))


@asynccontextmanager
async def our_servers(data_dir: Path, count: int = 1) -> AsyncGenerator[list[PipedServer]]:
    """Start servers of ours on one data folder."""
    async with piped(*[[CTX_MCP]] * count, env=environment(CTX_MCP_DATA_DIR=data_dir)) as servers:
        yield servers


def _said(result: dict[str, Any]) -> Said:
    text = "\n".join(block["text"] for block in result["content"] if block["type"] == "text")
    meta: dict[str, Any] = result.get("_meta", {})
    facts: dict[str, Any] = result.get("structuredContent") or meta.get("ctx-mcp/facts", {})
    return Said(not result.get("isError", False), text, facts)
