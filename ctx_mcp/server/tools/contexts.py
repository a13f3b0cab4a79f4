"""Tools for contexts: list, get, create, rename, delete."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ctx_mcp.client.async_service import AsyncContextService
from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.server.bounds import fits, fitting_count
from ctx_mcp.server.needs import lacks_of
from ctx_mcp.server.schemas import Arguments, Facts
from ctx_mcp.server.tool import Answer, Question, Tool
from ctx_mcp.server.tools.facts import (
    Confirm,
    ContextFacts,
    ContextId,
    DoneFacts,
    context_facts,
    context_id_of,
    context_line,
)
from ctx_mcp.server.tools.questions import described
from ctx_mcp.wire.operations import DeleteContext, GetContext, ListContexts, UpdateContext

_DEFAULT_RESULTS = DEFAULT_LIMITS.default_list_count
ContextName = Annotated[str, Field(description="Up to 255 characters.")]


class ListArguments(Arguments):
    max_results: int = Field(default=_DEFAULT_RESULTS, ge=1, le=DEFAULT_LIMITS.max_list_count, description="Up to 100.")
    next_token: str | None = Field(default=None, description="From the page before.")


class ListFacts(Facts):
    contexts: list[ContextFacts]
    total_count: int | None = None
    next_token: str | None = None


class ContextArguments(Arguments):
    context_id: ContextId


class DeleteArguments(Arguments):
    context_id: ContextId
    confirm: Confirm = False


class CreateArguments(Arguments):
    name: ContextName


class FoundFacts(ContextFacts):
    lacks: list[str] | None = Field(default=None, description="What this backend cannot do.")


class CreatedFacts(ContextFacts):
    created: bool | None = Field(default=None, description="False: it was there before. Absent: not known.")


class UpdateArguments(Arguments):
    context_id: ContextId
    name: ContextName


async def list_contexts(service: AsyncContextService, arguments: ListArguments) -> Answer:
    count = arguments.max_results
    while True:
        answer, rows = await _list_page(service, arguments, count)
        if fits(answer):
            return answer
        # Asked again, the token goes on right behind the last row shown.
        count = fitting_count([context_line(row) for row in rows], rows)


async def _list_page(
    service: AsyncContextService, arguments: ListArguments, count: int
) -> tuple[Answer, list[ContextFacts]]:
    page = await service.call(ListContexts(count, arguments.next_token))
    rows = [context_facts(context) for context in page.contexts]
    total = f" of {page.total_count}" if page.total_count is not None else ""
    lines = [f"{len(rows)}{total} contexts, newest first:", *map(context_line, rows)]
    if not rows:
        lines = ["No contexts here; context_create makes one."]
    if page.next_token:
        size = "" if arguments.max_results == _DEFAULT_RESULTS else f"max_results={arguments.max_results}, "
        lines.append(f"More: context_list({size}next_token={page.next_token!r})")
    facts = ListFacts(contexts=rows, total_count=page.total_count, next_token=page.next_token)
    return Answer("\n".join(lines), facts), rows


async def get_context(service: AsyncContextService, arguments: ContextArguments) -> Answer:
    found = context_facts(await service.find(arguments.context_id))
    lacks = lacks_of(service.capabilities)
    facts = FoundFacts(**found.model_dump(), lacks=[need.name for need in lacks] or None)
    lines = [f"{context_line(facts)}, created {facts.created_at}", *(need.told for need in lacks)]
    return Answer("\n".join(lines), facts)


async def create_context(service: AsyncContextService, arguments: CreateArguments) -> Answer:
    found = await service.call(GetContext(name=arguments.name, create=True))
    facts = CreatedFacts(**context_facts(found.context).model_dump(), created=found.created)
    how = {True: "Created", False: "Existed already:", None: "Ready:"}[found.created]
    return Answer(f"{how} {context_line(facts)}", facts, is_unchanged=found.created is False)


async def update_context(service: AsyncContextService, arguments: UpdateArguments) -> Answer:
    context_id = await context_id_of(service, arguments.context_id)
    await service.call(UpdateContext(context_id, arguments.name))
    facts = context_facts(await service.find(context_id))
    return Answer(f"Renamed: {context_line(facts)}", facts)


async def ask_delete(service: AsyncContextService, arguments: DeleteArguments, _: bool) -> Question:
    context = await service.find(arguments.context_id)
    return Question(f"Delete {await described(service, context)}?", context.context_id)


async def delete_context(service: AsyncContextService, arguments: DeleteArguments) -> Answer:
    context_id = await context_id_of(service, arguments.context_id)
    await service.call(DeleteContext(context_id))
    return Answer(f"Deleted context {context_id} with all its files.", DoneFacts())


LIST = Tool(
    name="context_list",
    toolset="contexts",
    title="List contexts",
    description="List the contexts, newest first, in pages. To look up one by name use context_get.",
    arguments=ListArguments,
    facts=ListFacts,
    run=list_contexts,
    read_only=True,
)
GET = Tool(
    name="context_get",
    toolset="contexts",
    title="Get context",
    description="Look up one context: its id, state and times. For its files use file_list.",
    arguments=ContextArguments,
    facts=FoundFacts,
    run=get_context,
    read_only=True,
)
CREATE = Tool(
    name="context_create",
    toolset="contexts",
    title="Create context",
    description=(
        "Create a context (a durable, named file store), or return the one that has this name already; safe to repeat."
    ),
    arguments=CreateArguments,
    facts=CreatedFacts,
    run=create_context,
    read_only=False,
    idempotent=True,
    changes_list=True,
)
UPDATE = Tool(
    name="context_update",
    toolset="contexts",
    title="Rename context",
    description="Rename a context; its id and files stay. Refused when another context has the name.",
    arguments=UpdateArguments,
    facts=ContextFacts,
    run=update_context,
    read_only=False,
    idempotent=True,
    changes_list=True,
)
DELETE = Tool(
    name="context_delete",
    toolset="contexts",
    title="Delete context",
    description="Delete a context with all its files. To only remove the files use context_clear_start.",
    arguments=DeleteArguments,
    facts=DoneFacts,
    run=delete_context,
    confirms=ask_delete,
    read_only=False,
    destructive=True,
    changes_list=True,
)
