"""Who acts: the history of a file names the host that changed it, and the tool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from mcp_types import Implementation

from ctx_mcp.client.transport import MAX_ACTOR_CHARS, current_actor
from ctx_mcp.embedded import EmbeddedTransport
from ctx_mcp.wire.operations import Operation, Reply, WriteFile
from tests.server.hosts import ERAS, open_host, serving

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lifetimes import Lifetimes


class Watched(EmbeddedTransport):
    """Remembers for whom each write was made."""

    actors: list[str]

    async def send(self, operation: Operation[Any]) -> Reply[Any]:
        if isinstance(operation, WriteFile):
            self.actors.append(current_actor())
        return await super().send(operation)


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    ("name", "version", "actor"),
    [
        ("some-host", "1.2", "some-host 1.2: file_write"),
        ("Ein Wirt 漢", "", "Ein Wirt 漢: file_write"),
        ("", "", "unknown client: file_write"),
        ("two\nlines\x1b[31m\u202e", "\x00", "two lines [31m: file_write"),
        ("n" * 10_000, "v" * 10_000, f"{'n' * 80} {'v' * 40}: file_write"),
    ],
)
async def test_a_change_is_made_for_the_client_and_the_tool(
    hold: Lifetimes, data_dir: Path, era: str, name: str, version: str, actor: str
) -> None:
    transport = await hold(Watched(data_dir))
    transport.actors = []
    server = await hold(serving(transport))
    host = await open_host(hold, server, era, client_info=Implementation(name=name, version=version))
    await host.write(await host.new_context(), "/a.txt", "x")
    assert transport.actors == [actor]
    assert len(actor) <= MAX_ACTOR_CHARS
    assert current_actor() == ""
