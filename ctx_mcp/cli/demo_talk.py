"""What the parts of the demo share: calling tools, and saying how long each step took."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from typing import Any, TypeVar, cast

from mcp.client.client import Client
from mcp_types import TextContent

from ctx_mcp.cli.output import flush, write_line
from ctx_mcp.domain.errors import AGBError
from ctx_mcp.domain.limits import MIB

T = TypeVar("T")


class DemoFailed(AGBError):
    """What came back is not what went in, or a tool refused."""

    code = "Demo.Failed"


async def call_tool(client: Client, tool: str, **arguments: object) -> dict[str, Any]:
    """Call a tool and return its structured answer.

    Raises:
        DemoFailed: it refused.
    """
    answer = await client.call_tool(tool, arguments)
    if answer.is_error:
        texts = [block.text for block in answer.content if isinstance(block, TextContent)]
        raise DemoFailed(f"{tool}: {' '.join(texts)}")
    return cast("dict[str, Any]", answer.structured_content)


async def timed(step: str, work: Awaitable[T], byte_count: int | None = None) -> T:
    """Await some work and say how long it took, and at what rate it moved `byte_count` bytes."""
    started = time.perf_counter()
    result = await work
    elapsed_s = time.perf_counter() - started
    rate = f"  {byte_count / MIB / max(elapsed_s, 1e-9):.0f} MiB/s" if byte_count else ""
    say(f"{step:<28}{elapsed_s:8.2f} s{rate}")
    return result


def say(line: str) -> None:
    write_line(line)
    flush()
