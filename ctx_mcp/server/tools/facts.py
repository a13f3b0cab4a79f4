"""Arguments and facts that several tools share, and how they read as text."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ctx_mcp.client.async_service import AsyncContextService
from ctx_mcp.domain.clock import to_iso
from ctx_mcp.domain.models import ContextRecord, FileEntry
from ctx_mcp.domain.paths import looks_like_context_id
from ctx_mcp.server.schemas import Facts

ContextId = Annotated[str, Field(description="Id or name.")]
FilePath = Annotated[str, Field(description="Such as /notes/plan.md.")]
WaitS = Annotated[int, Field(ge=0, le=20, description="Wait for its end, up to 20 s.")]
Confirm = Annotated[bool, Field(description="The user agreed.")]
SessionId = Annotated[str | None, Field(default=None, description="Else this machine's folders.")]


class ContextFacts(Facts):
    context_id: str
    name: str
    state: str = Field(description="available or clearing.")
    created_at: str | None = None
    last_used_at: str | None = None


class FileFacts(Facts):
    name: str
    path: str
    kind: str = Field(description="FILE or FOLDER.")
    size_bytes: int
    modified_at: str | None = None
    etag: str | None = Field(default=None, description="Token of this version.")


class DoneFacts(Facts):
    done: bool = True


def context_facts(context: ContextRecord) -> ContextFacts:
    return ContextFacts(
        context_id=context.context_id,
        name=context.name,
        state=str(context.state),
        created_at=to_iso(context.created_at),
        last_used_at=to_iso(context.last_used_at),
    )


def context_line(facts: ContextFacts) -> str:
    used = f", last used {facts.last_used_at}" if facts.last_used_at else ""
    return f"{facts.name!r} id {facts.context_id}, {facts.state}{used}"


def file_facts(entry: FileEntry) -> FileFacts:
    return FileFacts(
        name=entry.name,
        path=entry.path,
        kind=str(entry.kind),
        size_bytes=entry.size_bytes,
        modified_at=to_iso(entry.modified_at),
        etag=entry.etag,
    )


async def context_id_of(service: AsyncContextService, reference: str) -> str:
    """Return the id of the context that an id or an exact name means; an id is taken as it is.

    Raises:
        InvalidArgument: the reference is empty.
        ContextNotFound: no context has this name.
    """
    text = reference.strip()
    return text if looks_like_context_id(text) else (await service.find(reference)).context_id
