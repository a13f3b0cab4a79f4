"""Folders of this machine synced with contexts of a service over HTTP, in every dialect: by content, not by name."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from ctx_mcp.client.connections import Connections
from ctx_mcp.client.http_transport import HttpTransport
from ctx_mcp.domain.errors import LeaseLost, UnsupportedOperation
from ctx_mcp.domain.sessions import ConflictRule, SyncMode
from ctx_mcp.domain.trees import KeepVersion, LocalFile, NewContent, Progress
from ctx_mcp.embedded import run_http_service
from ctx_mcp.settings import Settings
from ctx_mcp.sync.executor import Stopped
from ctx_mcp.wire.agb import AgbDialect
from ctx_mcp.wire.agentbay import AgentBayDialect
from ctx_mcp.wire.dialect import Dialect
from ctx_mcp.wire.native import NativeDialect
from ctx_mcp.wire.operations import DeleteFile, GetContext, ListFiles, ReadFile, WriteFile
from tests.conformance.backends import KEYS, Engines
from tests.lifetimes import Lifetimes
from tests.remote_replicas import QUICK, RemoteReplica

KEY = "key-one"
DIALECTS: dict[str, Dialect] = {"native": NativeDialect(), "agb": AgbDialect(), "agentbay": AgentBayDialect()}
LARGE = bytes(range(256)) * 4096
pytestmark = pytest.mark.usefixtures("data_dir")


@dataclass
class Remote:
    """A context of a service; `owner` changes it behind everybody's back."""

    name: str
    transport: HttpTransport
    connections: Connections
    owner: HttpTransport
    context_id: str
    home: Path

    def replica(self, name: str = "here") -> RemoteReplica:
        folder = self.home / name
        folder.mkdir()
        return RemoteReplica(self.transport, self.connections, self.context_id, folder)

    async def write(self, path: str, content: bytes) -> None:
        await self.owner.send(WriteFile(self.context_id, path, content))

    async def delete(self, path: str) -> None:
        await self.owner.send(DeleteFile(self.context_id, path))

    async def files(self, folder: str = "/") -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for entry in (await self.owner.send(ListFiles(self.context_id, folder, page_size=1000))).result.entries:
            if entry.kind == "FOLDER":
                found |= await self.files(entry.path)
            else:
                read = await self.owner.send(ReadFile(self.context_id, entry.path))
                found[entry.path.strip("/")] = read.result.content
        return found

    async def agrees(self, *replicas: RemoteReplica) -> bool:
        """Tell whether folders, context, and what the bases say of contents are all the same."""
        there = await self.files()
        digests = {f"/{name}": hashlib.sha256(content).hexdigest() for name, content in there.items()}
        return all(
            replica.files() == there and {path: file.digest for path, file in replica.base.files.items()} == digests
            for replica in replicas
        )


@asynccontextmanager
async def connected(url: str) -> AsyncGenerator[Connections]:
    connections = Connections(url, 10)
    try:
        yield connections
    finally:
        await connections.aclose()


@pytest_asyncio.fixture(params=DIALECTS)
async def remote(request: pytest.FixtureRequest, hold: Lifetimes, tmp_path: Path, engines: Engines) -> Remote:
    settings = engines.applied_to(Settings(data_dir=tmp_path / "data", api_keys=KEYS))
    url = await hold(run_http_service(settings, host="127.0.0.1", port=0))
    transport = await hold(HttpTransport(url, KEY, DIALECTS[request.param], policy=QUICK))
    owner = await hold(HttpTransport(url, KEY, NativeDialect()))
    made = (await owner.send(GetContext(name="synced", create=True))).result.context
    connections = await hold(connected(url))
    return Remote(request.param, transport, connections, owner, made.context_id, tmp_path)


def tree(edition: str = "1", count: int = 20) -> dict[str, bytes]:
    """Return files in several folders, one of them of more than a page at 130; one is empty and one large."""
    files = {f"many/f{number}": f"{edition} {number}".encode() for number in range(count)}
    deep = {f"d{number}/e/f": f"{edition} deep {number}".encode() for number in range(12)}
    return files | deep | {"empty": b"", "large.bin": LARGE + edition.encode(), "a b/ü & ?.txt": b"odd name"}


async def test_what_is_sent_is_there_is_in_the_base_and_comes_down_elsewhere(remote: Remote) -> None:
    files = tree(count=130)
    here, there = remote.replica(), remote.replica("there")
    here.put(files)
    assert (await here.sync()).error is None
    assert (await there.sync()).error is None
    assert here.files() == there.files() == files
    assert await remote.agrees(here, there)
    assert all(content == b"" for content in here.base.kept.values()), "a spool that nobody needs is dropped"


async def test_a_second_sync_moves_nothing(remote: Remote) -> None:
    here, there = remote.replica(), remote.replica("there")
    here.put(tree())
    await here.sync()
    await there.sync()
    for replica in (here, there, here, there):
        result = await replica.sync()
        # A file may be read again that was sent in the moment it was written; none travels.
        assert (result.progress.bytes_done, result.error) == (0, None)
    assert await remote.agrees(here, there)


async def test_changes_and_deletions_of_both_sides_cross(remote: Remote) -> None:
    here, there = remote.replica(), remote.replica("there")
    here.put(tree())
    await here.sync()
    await there.sync()
    here.put({"many/f1": b"changed here", "large.bin": LARGE[::-1], "new/n": b"new here"})
    (here.folder / "many/f2").unlink()
    (here.folder / "d1/e/f").unlink()
    await remote.write("/many/f3", b"changed there")
    await remote.write("/many/added", b"added there")
    await remote.delete("/many/f4")
    await remote.delete("/d2/e/f")
    for replica in (here, there):
        assert (await replica.sync()).error is None
    assert here.files()["many/f1"] == b"changed here"
    assert there.files()["many/f3"] == b"changed there"
    assert not {"many/f2", "many/f4", "d1/e/f", "d2/e/f"} & here.files().keys()
    assert await remote.agrees(here, there)


async def test_a_file_that_both_changed_is_kept_twice(remote: Remote) -> None:
    here = remote.replica()
    here.put({"f": b"one", "g": b"one"})
    await here.sync()
    here.put({"f": b"ours", "g": b"same"})
    await remote.write("/f", b"theirs")
    await remote.write("/g", b"same")
    assert (await here.sync()).error is None
    assert here.files() == {"f": b"theirs", "f (conflict 2026-11-21 10-00-00)": b"ours", "g": b"same"}
    assert await remote.agrees(here)


async def test_a_conflict_that_only_goes_up_is_copied_in_the_context(remote: Remote) -> None:
    here = remote.replica()
    here.put({"f": b"one", "large": LARGE})
    await here.sync()
    here.put({"f": b"ours", "large": LARGE + b"ours"})
    await remote.write("/f", b"theirs")
    await remote.write("/large", LARGE + b"theirs")
    assert (await here.sync(SyncMode.UPLOAD)).error is None
    copy = " (conflict 2026-11-21 10-00-00)"
    ours = {"f": b"ours", "large": LARGE + b"ours"}
    assert await remote.files() == ours | {f"f{copy}": b"theirs", f"large{copy}": LARGE + b"theirs"}


async def test_equal_files_on_both_sides_are_taken_for_one(remote: Remote) -> None:
    here = remote.replica()
    here.put({"same": b"the same", "other": b"ours!", "large": LARGE})
    for path, content in {"/same": b"the same", "/other": b"their", "/large": LARGE}.items():
        await remote.write(path, content)
    assert (await here.sync()).error is None
    assert sorted(here.files()) == ["large", "other", "other (conflict 2026-11-21 10-00-00)", "same"]
    assert await remote.agrees(here)


async def test_a_dry_run_tells_everything_and_does_nothing(remote: Remote) -> None:
    here = remote.replica()
    here.put({"f": b"ours"})
    await remote.write("/g", b"theirs")
    result = await here.sync(dry_run=True)
    assert result.progress.files_total == 2
    assert [(note.path, note.code) for note in here.base.notes] == [("/f", "upload"), ("/g", "download")]
    assert (here.files(), await remote.files(), here.base.files) == ({"f": b"ours"}, {"g": b"theirs"}, {})


async def test_with_the_rule_to_fail_a_conflict_stops_everything(remote: Remote) -> None:
    here = remote.replica()
    here.put({"f": b"ours", "g": b"new"})
    await remote.write("/f", b"theirs, longer")
    result = await here.sync(conflict=ConflictRule.FAIL)
    assert result.error is not None
    assert await remote.files() == {"f": b"theirs, longer"}


async def test_folders_and_files_change_places(remote: Remote) -> None:
    here, there = remote.replica(), remote.replica("there")
    here.put({"a": b"a file", "b/c": b"in a folder", "b/d": b"too"})
    await here.sync()
    await there.sync()
    (here.folder / "a").unlink()
    here.put({"a/b": b"in a folder now"})
    for name in ("c", "d"):
        (here.folder / "b" / name).unlink()
    (here.folder / "b").rmdir()
    here.put({"b": b"a file now"})
    for replica in (here, there):
        assert (await replica.sync()).error is None
    assert there.files() == {"a/b": b"in a folder now", "b": b"a file now"}
    assert await remote.agrees(here, there)


async def test_a_lost_lease_ends_the_sync_and_nothing_more_is_recorded(remote: Remote) -> None:
    here = remote.replica()
    here.put(tree())
    side = here.side()
    here.base.is_lost = True
    with pytest.raises(LeaseLost):
        await here.sync(side=side)
    assert here.base.files == {}
    here.base.is_lost = False
    assert (await here.sync()).error is None
    assert await remote.agrees(here)


async def test_a_stopped_sync_is_carried_on_by_the_next_one(remote: Remote) -> None:
    here = remote.replica()
    here.put(tree())
    for questions in (1, 3, 10):
        left = iter(range(questions))
        with pytest.raises(Stopped):
            await here.sync(is_stopped=lambda left=left: next(left, None) is None)
    there = await remote.files()
    assert all(here.files()[path.strip("/")] == there[path.strip("/")] for path in here.base.files)
    assert (await here.sync()).error is None
    assert await remote.agrees(here)


async def test_what_is_to_go_into_a_history_alone_is_refused(remote: Remote) -> None:
    side = remote.replica().side()
    change = KeepVersion("/f", NewContent("", 1, inline=b"x"), LocalFile("f", 1, 0, 0, 0o644))
    with pytest.raises(UnsupportedOperation):
        await asyncio.to_thread(side.commit, [change], Progress(), ())
