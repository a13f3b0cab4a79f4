"""A tool is a value: its contract, and the coroutine that does it. The list of all is `ctx_mcp.server.tools.TOOLS`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import mcp_types

from ctx_mcp.client.async_service import AsyncContextService
from ctx_mcp.server.progress import Progress
from ctx_mcp.server.schemas import Arguments, Facts, input_schema, output_schema

A = TypeVar("A", bound=Arguments)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a tool says: `text` is complete on its own for a model, `facts` say the same to a program.

    A large payload stands in `payload` and nowhere else; it follows the text as a block of its own.
    """

    text: str
    facts: Facts
    payload: str | None = None
    is_unchanged: bool = False
    """A tool that changes lists found everything as it should be already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract(Generic[A]):
    """What tools/list says of a tool. All four hints are always given; a tool either reads or writes, never both."""

    name: str
    title: str
    description: str
    arguments: type[A]
    facts: type[Facts]
    read_only: bool
    destructive: bool = False
    idempotent: bool = False
    changes_list: bool = False
    """It may add, rename or remove a context, so that lists of them are out of date."""

    def definition(self) -> mcp_types.Tool:
        """Return what tools/list says of it; `tools/<name>.json` is exactly this."""
        return mcp_types.Tool(
            name=self.name,
            title=self.title,
            description=self.description,
            input_schema=input_schema(self.arguments),
            output_schema=output_schema(self.facts),
            annotations=mcp_types.ToolAnnotations(
                title=self.title,
                read_only_hint=self.read_only,
                destructive_hint=self.destructive,
                idempotent_hint=self.idempotent or self.read_only,
                open_world_hint=False,
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool(Contract[A]):
    """One tool that answers as soon as it can."""

    run: Callable[[AsyncContextService, A], Awaitable[Answer]]

    async def answer(self, service: AsyncContextService, given: Mapping[str, Any] | None, _: Progress) -> Answer:
        """Do what the tool does.

        Raises:
            ValidationError: the arguments do not fit.
            AGBError: why it was not done.
        """
        return await self.run(service, self.arguments.accept(given))


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingTool(Contract[A]):
    """One tool that can hold its call until a job ends, and reports progress meanwhile."""

    run: Callable[[AsyncContextService, A, Progress], Awaitable[Answer]]

    async def answer(self, service: AsyncContextService, given: Mapping[str, Any] | None, progress: Progress) -> Answer:
        """Do what the tool does; raises as `Tool.answer`."""
        return await self.run(service, self.arguments.accept(given), progress)


AnyTool = Tool[Any] | WaitingTool[Any]
