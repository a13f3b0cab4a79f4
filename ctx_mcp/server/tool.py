"""A tool is a value: its contract, and the coroutine that does it. The list of all is `ctx_mcp.server.tools.TOOLS`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import mcp_types

from ctx_mcp.client.async_service import AsyncContextService
from ctx_mcp.server.needs import Need
from ctx_mcp.server.progress import Progress
from ctx_mcp.server.schemas import OUTPUT_SCHEMA, Arguments, Facts, input_schema

A = TypeVar("A", bound=Arguments)
FACTS_KEY = "ctx-mcp/facts"
"""Where in a result's `_meta` the facts are, when they are not its structured content."""


class Image(NamedTuple):
    content: bytes
    mime_type: str


class Link(NamedTuple):
    """A resource of this server that the host may fetch itself."""

    uri: str
    name: str
    mime_type: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What a tool says: `text` is complete on its own for a model, `facts` say the same to a program.

    Stored text stands in `payload` and nowhere else: a block of its own, inside a fence that names its `source`.
    What the model may call next then stands behind it, in `after`. Where there is a payload, or the text is long, the
    facts go into the result's `_meta`: hosts show models either the text or the structured content.
    """

    text: str
    facts: Facts
    payload: str | None = None
    source: str = ""
    after: str = ""
    image: Image | None = None
    link: Link | None = None
    is_unchanged: bool = False
    """A tool that changes lists found everything as it should be already."""


class Question(NamedTuple):
    """What is asked before a call goes on. The call then has `context_id`, whatever it was named by."""

    text: str
    """Says what would be lost, by name and id, and ends as a sentence."""
    context_id: str


Confirms = Callable[[AsyncContextService, A, bool], Awaitable[Question | None]]
"""Tells what must be confirmed before a call, None where nothing must; changes nothing.

The flag is true where small losses are to be confirmed too. A tool that has such a function takes `context_id`, and
`confirm` unless its losses are all small.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract(Generic[A]):
    """What tools/list says of a tool. All four hints are always given; a tool either reads or writes, never both."""

    name: str
    toolset: str
    """The group it is chosen with: one of `offer.TOOLSETS`, or `tasks`, which goes with those that start tasks."""
    title: str
    description: str
    arguments: type[A]
    facts: type[Facts]
    read_only: bool
    destructive: bool = False
    idempotent: bool = False
    is_large: bool = False
    """Its answers can be long, so that not each has structured content, and no output schema promises it."""
    changes_list: bool = False
    """It may add, rename or remove a context, so that lists of them are out of date."""
    starts_job: bool = False
    """It takes `wait_s`; its facts name the `task_id` of the job it started, and `poll_after_s` while that runs."""
    confirms: Confirms[A] | None = None
    needs: Need | None = None
    """What a backend must have for it; without that it is not offered."""

    def accept(self, given: Mapping[str, Any] | None) -> A:
        """Return the arguments of one call.

        Raises:
            ValidationError: they do not fit.
        """
        return self.arguments.accept(given)

    def definition(self) -> mcp_types.Tool:
        """Return what tools/list says of it; `tools/<name>.json` is exactly this."""
        return mcp_types.Tool(
            name=self.name,
            title=self.title,
            description=self.description,
            input_schema=input_schema(self.arguments),
            output_schema=None if self.is_large else OUTPUT_SCHEMA,
            annotations=mcp_types.ToolAnnotations(
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

    async def answer(self, service: AsyncContextService, arguments: A, _: Progress) -> Answer:
        """Do what the tool does.

        Raises:
            AGBError: why it was not done.
        """
        return await self.run(service, arguments)


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingTool(Contract[A]):
    """One tool that can hold its call until a job ends, and reports progress meanwhile."""

    run: Callable[[AsyncContextService, A, Progress], Awaitable[Answer]]

    async def answer(self, service: AsyncContextService, arguments: A, progress: Progress) -> Answer:
        """Do what the tool does; raises as `Tool.answer`."""
        return await self.run(service, arguments, progress)


AnyTool = Tool[Any] | WaitingTool[Any]
