"""Our servers in processes of their own."""

from __future__ import annotations

import asyncio
import os
import sysconfig
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mcp.client.stdio import StdioServerParameters, stdio_client

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from mcp.client._transport import Transport

CTX_MCP = str(Path(sysconfig.get_path("scripts")) / "ctx-mcp")
WAIT_S = 120.0


@dataclass(frozen=True)
class Running:
    url: str
    pid: int
    said: Callable[[], str]
    """Returns what it has said on standard error so far."""


def environment(**settings: str | Path) -> dict[str, str]:
    """Return the environment of a server: this one, cleaned by the fixtures, and these settings."""
    return {**os.environ, **{name: str(value) for name, value in settings.items()}}


def stdio_server(*arguments: str, **settings: str | Path) -> Transport:
    """Return the transport to a fresh stdio server, started when it is entered."""
    return stdio_client(StdioServerParameters(command=CTX_MCP, args=list(arguments), env=environment(**settings)))


@asynccontextmanager
async def running(*arguments: str, **settings: str | Path) -> AsyncGenerator[Running]:
    """Run `ctx-mcp` with a command that serves HTTP; it must say where, and end at SIGTERM without a traceback."""
    process = await asyncio.create_subprocess_exec(
        CTX_MCP,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=environment(**settings),
    )
    assert process.stderr is not None
    lines = _Lines(process.stderr)
    reading = asyncio.create_task(lines.read())
    try:
        yield Running(await lines.url(), process.pid, lambda: lines.text)
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), WAIT_S)
        except TimeoutError:
            process.kill()
            await process.wait()
        await reading
    assert "Traceback" not in lines.text, lines.text
    assert process.returncode == 0, lines.text


class _Lines:
    """What the process says on standard error, read to the end: it would block otherwise."""

    def __init__(self, stream: asyncio.StreamReader) -> None:
        self._stream = stream
        self._url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.text = ""

    async def read(self) -> None:
        while line := (await self._stream.readline()).decode():
            self.text += line
            if " ready at http" in line and not self._url.done():
                self._url.set_result(line.split()[-1])
        if not self._url.done():
            self._url.set_exception(AssertionError(f"ctx-mcp said no URL: {self.text}"))

    async def url(self) -> str:
        return await asyncio.wait_for(self._url, WAIT_S)


async def run_to_end(*arguments: str, cwd: Path | None = None, **settings: str | Path) -> tuple[int, str, str]:
    """Run `ctx-mcp` without input and return its exit code, standard output and standard error."""
    process = await asyncio.create_subprocess_exec(
        CTX_MCP,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=cwd,
        env=environment(**settings),
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), WAIT_S)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()
