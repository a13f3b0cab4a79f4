"""The same work asked of each server in its own words: ours, the official filesystem and the official memory server.

A place is a file, or for the memory server an entity. What a server has no words for, it is not asked.
"""

from __future__ import annotations

import sys
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from tests.npm_tools import NpmTools
from tests.server.pipes import PipedServer, Said, piped

END = "<end>"


class Contestant(Protocol):
    name: str

    def servers(self, home: Path, count: int) -> AbstractAsyncContextManager[list[PipedServer]]:
        """Start so many processes of the server on one folder."""
        ...

    async def lay_out(self, server: PipedServer, place: str, lines: list[str]) -> None: ...

    async def edit(self, server: PipedServer, place: str, old: str, new: str) -> bool:
        """Replace a line, and return whether the server says that it is done."""
        ...

    async def append(self, server: PipedServer, place: str, line: str) -> bool: ...

    async def claim(self, server: PipedServer, place: str, old: str, new: str) -> bool:
        """Replace a line that others are replacing too, only if it is still the old one."""
        ...

    async def read(self, server: PipedServer, place: str) -> str: ...


class OurServer:
    name = "ctx-mcp"

    def servers(self, home: Path, count: int) -> AbstractAsyncContextManager[list[PipedServer]]:
        return piped(*[[sys.executable, "-m", "ctx_mcp.cli.main", "--data-dir", str(home / "contexts")]] * count)

    async def lay_out(self, server: PipedServer, place: str, lines: list[str]) -> None:
        _check(await server.call("context_create", name="benchmark"))
        content = "".join(f"{line}\n" for line in lines)
        _check(await server.call("file_write", context_id="benchmark", file_path=f"/{place}", content=content))

    async def edit(self, server: PipedServer, place: str, old: str, new: str) -> bool:
        edits = [{"old_text": old, "new_text": new}]
        said = await server.call("file_edit", context_id="benchmark", file_path=f"/{place}", edits=edits)
        return said.is_ok

    async def append(self, server: PipedServer, place: str, line: str) -> bool:
        said = await server.call(
            "file_write", context_id="benchmark", file_path=f"/{place}", content=f"{line}\n", mode="append"
        )
        return said.is_ok

    async def claim(self, server: PipedServer, place: str, old: str, new: str) -> bool:
        return await self.edit(server, place, old, new)

    async def read(self, server: PipedServer, place: str) -> str:
        return _check(await server.call("file_read", context_id="benchmark", file_path=f"/{place}"))


class FilesystemServer:
    """It has no append: an edit that puts the line in front of the last one stands for it."""

    name = "filesystem 2026.8.31"

    def __init__(self, npm: NpmTools) -> None:
        self._command = npm.filesystem_server
        self._home = Path()

    def servers(self, home: Path, count: int) -> AbstractAsyncContextManager[list[PipedServer]]:
        self._home = home.resolve()
        return piped(*[[*self._command, str(self._home)]] * count)

    async def lay_out(self, server: PipedServer, place: str, lines: list[str]) -> None:
        content = "".join(f"{line}\n" for line in [*lines, END])
        _check(await server.call("write_file", path=str(self._home / place), content=content))

    async def edit(self, server: PipedServer, place: str, old: str, new: str) -> bool:
        edits = [{"oldText": old, "newText": new}]
        return (await server.call("edit_file", path=str(self._home / place), edits=edits)).is_ok

    async def append(self, server: PipedServer, place: str, line: str) -> bool:
        return await self.edit(server, place, END, f"{line}\n{END}")

    async def claim(self, server: PipedServer, place: str, old: str, new: str) -> bool:
        return await self.edit(server, place, old, new)

    async def read(self, server: PipedServer, place: str) -> str:
        return _check(await server.call("read_text_file", path=str(self._home / place)))


class MemoryServer:
    """It edits no text: each line is an entity of the graph, and an edit adds an observation to its own one.

    A claim makes an entity, of which there can be one: who is answered no new entity has been told.
    """

    name = "memory 2026.8.31"

    def __init__(self, npm: NpmTools) -> None:
        self._command = npm.memory_server

    def servers(self, home: Path, count: int) -> AbstractAsyncContextManager[list[PipedServer]]:
        return piped(*[self._command] * count, env={"MEMORY_FILE_PATH": str(home.resolve() / "memory.jsonl")})

    async def lay_out(self, server: PipedServer, place: str, lines: list[str]) -> None:
        entities = [_entity(name, []) for name in [place, *(f"{place} {line}" for line in lines)]]
        _check(await server.call("create_entities", entities=entities))

    async def edit(self, server: PipedServer, place: str, old: str, new: str) -> bool:
        return await self._observe(server, f"{place} {old}", new)

    async def append(self, server: PipedServer, place: str, line: str) -> bool:
        return await self._observe(server, place, line)

    async def claim(self, server: PipedServer, place: str, old: str, new: str) -> bool:
        said = await server.call("create_entities", entities=[_entity(f"{place} taken {old}", [new])])
        return said.is_ok and bool(said.facts["entities"])

    async def read(self, server: PipedServer, place: str) -> str:
        return _check(await server.call("search_nodes", query=place))

    async def _observe(self, server: PipedServer, entity: str, observation: str) -> bool:
        observations = [{"entityName": entity, "contents": [observation]}]
        return (await server.call("add_observations", observations=observations)).is_ok


def _entity(name: str, observations: list[str]) -> dict[str, object]:
    return {"name": name, "entityType": "line", "observations": observations}


def _check(said: Said) -> str:
    if not said.is_ok:
        raise RuntimeError(said.text)
    return said.text
