"""The official AgentBay SDK's sessions against our service, sync and async: every call about contexts succeeds."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from ctx_mcp.embedded import run_http_service
from ctx_mcp.settings import Settings
from tests.conformance.agentbay_sdk import ask, fail, open_async_client, open_client, sdk_module, succeed
from tests.conformance.backends import KEYS, Engines
from tests.lifetimes import Lifetimes

MOUNT = "/home/agent/data"
BROWSER = "/tmp/agentbay_browser"


LOOKS = {"max_retries": 600, "retry_interval": 50}
"""How often to look whether a sync has ended, and every how many milliseconds."""


@dataclass(frozen=True)
class Cloud:
    """The SDK's client, and where the sessions' private folders are."""

    bay: Any
    sessions_dir: Path
    is_async: bool

    def folder(self, session: Any, mount: str = MOUNT) -> Path:
        return self.sessions_dir / session.session_id / mount.strip("/")

    async def new_context(self, name: str, **files: str) -> str:
        made = await succeed(self.bay.context.create, name)
        for path, content in files.items():
            await self.put(made.context_id, f"{MOUNT}/{path}", content)
        return made.context_id

    async def put(self, context_id: str, path: str, content: str) -> None:
        url = (await succeed(self.bay.context.get_file_upload_url, context_id, path)).url
        async with httpx.AsyncClient(trust_env=False) as http:
            assert (await http.put(url, content=content)).status_code == 200

    async def new_session(self, *syncs: Any, **params: Any) -> Any:
        wanted = sdk_module("agentbay").CreateSessionParams(context_syncs=list(syncs), **params)
        return (await succeed(self.bay.create, wanted)).session

    async def file_names(self, context_id: str, folder: str = MOUNT) -> list[str]:
        listed = await succeed(self.bay.context.list_files, context_id, folder)
        return sorted(entry.file_name for entry in listed.entries)


@pytest_asyncio.fixture(params=["sync", "async"])
async def cloud(
    request: pytest.FixtureRequest, hold: Lifetimes, data_dir: Path, clean_home: Path, engines: Engines
) -> Cloud:
    settings = engines.applied_to(Settings(data_dir=data_dir, api_keys=KEYS))
    url = await hold(run_http_service(settings, host="127.0.0.1", port=0))
    is_async = request.param == "async"
    bay = (open_async_client if is_async else open_client)(url, "key-one")
    return Cloud(bay, data_dir / "sessions", is_async)


def sync_of(context_id: str, path: str = MOUNT, policy: Any = None) -> Any:
    return sdk_module("agentbay").ContextSync.new(context_id, path, policy)


async def rows_of(session: Any, *about: str) -> list[tuple[str, str, str]]:
    info = await succeed(session.context.info, *about)
    return sorted((row.path, row.task_type, row.status) for row in info.context_status_data)


async def bindings_of(session: Any) -> list[Any]:
    return (await succeed(session.context.list_bindings)).bindings


async def test_a_session_brings_its_files_and_takes_them_along(cloud: Cloud) -> None:
    context_id = await cloud.new_context("work", **{"old.md": "zero"})
    session = await cloud.new_session(sync_of(context_id))
    folder = cloud.folder(session)
    assert (folder / "old.md").read_text() == "zero"
    assert await rows_of(session) == [(MOUNT, "download", "Success")]
    (folder / "sub").mkdir()
    (folder / "plan.md").write_text("one")
    (folder / "sub" / "note.md").write_text("two")
    assert (await succeed(session.context.sync, context_id, MOUNT, mode="upload", **LOOKS)).success
    assert await cloud.file_names(context_id) == ["old.md", "plan.md", "sub"]
    assert await rows_of(session, context_id, MOUNT) == [(MOUNT, "download", "Success"), (MOUNT, "upload", "Success")]
    assert await rows_of(session, context_id, MOUNT, "upload") == [(MOUNT, "upload", "Success")]
    await cloud.put(context_id, f"{MOUNT}/down.md", "three")
    await succeed(session.context.sync, context_id, MOUNT, mode="download", **LOOKS)
    assert (folder / "down.md").read_text() == "three"
    (folder / "late.md").write_text("four")
    await succeed(session.delete, sync_context=True)
    assert await cloud.file_names(context_id) == ["down.md", "late.md", "old.md", "plan.md", "sub"]
    assert not folder.exists()
    gone = await ask(cloud.bay.get, session.session_id)
    assert not gone.success
    assert gone.code == "InvalidMcpSession.NotFound"


async def test_contexts_that_bring_nothing_do_not_hold_up_a_session(cloud: Cloud) -> None:
    kinds = sdk_module("agentbay")
    empty, kept = await cloud.new_context("empty"), await cloud.new_context("kept", a="x")
    no_download = kinds.SyncPolicy(download_policy=kinds.DownloadPolicy(auto_download=False))
    session = await cloud.new_session(sync_of(empty), sync_of(kept, "/tmp/kept", no_download))
    assert await rows_of(session) == [(MOUNT, "download", "Success"), ("/tmp/kept", "download", "Success")]
    assert not list(cloud.folder(session, "/tmp/kept").iterdir())
    assert (await succeed(cloud.bay.get, session.session_id)).session.session_id == session.session_id
    listed = await succeed(cloud.bay.context.list, kinds.ContextListParams(session_id=session.session_id))
    assert ({row.id for row in listed.contexts}, listed.total_count) == ({empty, kept}, 2)
    other = await cloud.new_session()
    listed = await succeed(cloud.bay.context.list, kinds.ContextListParams(session_id=other.session_id))
    assert listed.contexts == []


async def test_contexts_are_bound_to_a_running_session(cloud: Cloud) -> None:
    kinds = sdk_module("agentbay")
    first, second = await cloud.new_context("first", **{"a.md": "one"}), await cloud.new_context("second")
    session = await cloud.new_session()
    assert await bindings_of(session) == []
    nothing = await ask(session.context.bind)
    assert (nothing.success, nothing.error_message) == (False, "No contexts provided")
    policy = kinds.SyncPolicy(upload_policy=kinds.UploadPolicy(auto_upload=False))
    await succeed(session.context.bind, sync_of(first), sync_of(second, "/tmp/two", policy))
    assert (cloud.folder(session) / "a.md").read_text() == "one"
    rows = {row.path: row for row in await bindings_of(session)}
    assert {path: (row.context_id, row.context_name) for path, row in rows.items()} == {
        MOUNT: (first, "first"),
        "/tmp/two": (second, "second"),
    }
    assert rows[MOUNT].policy == ""
    assert json.loads(rows["/tmp/two"].policy) == policy.__dict__()
    assert rows[MOUNT].bind_time.endswith("Z")
    taken = await fail("PathAlreadyBound", session.context.bind, sync_of(second))
    assert taken.error_message == f"[PathAlreadyBound] Path {MOUNT} is already bound"
    await fail("Context.NotFound", session.context.bind, sync_of("SdkCtx-nowhere0000", "/tmp/three"))
    await fail("Operation.Unsupported", session.context.bind, kinds.BetaContextMount.new(second, "/mnt/m"))
    assert len(await bindings_of(session)) == 2
    await succeed(session.context.bind, sync_of(second, "/tmp/three"), wait_for_completion=False)
    assert len(await bindings_of(session)) == 3


async def test_files_are_mapped_from_where_they_were_made(cloud: Cloud) -> None:
    kinds = sdk_module("agentbay")
    context_id = await cloud.new_context("mapped", **{"a.md": "made elsewhere"})
    mapped = kinds.SyncPolicy(mapping_policy=kinds.MappingPolicy(path=MOUNT))
    session = await cloud.new_session(sync_of(context_id, "/tmp/here", mapped))
    assert (cloud.folder(session, "/tmp/here") / "a.md").read_text() == "made elsewhere"
    (cloud.folder(session, "/tmp/here") / "b.md").write_text("new")
    await succeed(session.context.sync, **LOOKS)
    assert await cloud.file_names(context_id) == ["a.md", "b.md"]


async def test_every_policy_of_the_sdk_is_understood(cloud: Cloud) -> None:
    kinds = sdk_module("agentbay")
    policy = kinds.SyncPolicy(
        upload_policy=kinds.UploadPolicy(auto_upload=False),
        download_policy=kinds.DownloadPolicy(auto_download=True),
        delete_policy=kinds.DeletePolicy(sync_local_file=False),
        extract_policy=kinds.ExtractPolicy(extract=True, delete_src_file=True),
        recycle_policy=kinds.RecyclePolicy(lifecycle=kinds.Lifecycle.LIFECYCLE_1DAY, paths=["logs"]),
        bw_list=kinds.BWList(white_lists=[kinds.WhiteList(path="keep", exclude_paths=["not"])]),
    )
    context_id = await cloud.new_context("policies")
    session = await cloud.new_session(sync_of(context_id, policy=policy))
    folder = cloud.folder(session)
    for name in ("keep/a.txt", "keep/not/b.txt", "other/c.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    await succeed(session.context.sync, context_id, MOUNT, mode="upload", **LOOKS)
    assert await cloud.file_names(context_id) == ["keep"]
    assert await cloud.file_names(context_id, f"{MOUNT}/keep") == ["a.txt"]
    (folder / "keep/a.txt").unlink()
    await succeed(session.context.sync, context_id, MOUNT, mode="upload", **LOOKS)
    assert await cloud.file_names(context_id, f"{MOUNT}/keep") == ["a.txt"]
    (folder / "keep/late.txt").write_text("not uploaded by itself")
    await succeed(session.delete)
    assert await cloud.file_names(context_id, f"{MOUNT}/keep") == ["a.txt"]


async def test_single_files_are_transferred(cloud: Cloud, tmp_path: Path) -> None:
    session = await cloud.new_session(sync_of(await cloud.new_context("work")))
    base = await ask(session.file_system.get_file_transfer_context_path)
    source, target = tmp_path / "source.bin", tmp_path / "target.bin"
    source.write_bytes(bytes(range(256)) * 1000)
    for name in ("source.bin", "deep/a b+c&d=e%20f.txt"):
        remote = f"{base}/{name}"
        sent = await ask(session.file_system.upload_file, str(source), remote, poll_interval=0.05)
        assert sent.success, sent.error
        assert cloud.folder(session, remote).read_bytes() == source.read_bytes()
        got = await ask(session.file_system.download_file, remote, str(target), poll_interval=0.05)
        assert got.success, got.error
        assert target.read_bytes() == source.read_bytes()
        target.unlink()
    missing = await ask(session.file_system.download_file, f"{base}/missing", str(target), poll_interval=0.05)
    assert not missing.success
    assert [row.name for row in (await succeed(cloud.bay.context.list)).contexts] == ["work"]


async def test_labels_lists_and_life_signs_work(cloud: Cloud) -> None:
    first = await cloud.new_session(labels={"project": "a", "kind": "é"})
    second = await cloud.new_session(labels={"project": "b"})
    assert (await succeed(first.get_labels)).data == {"project": "a", "kind": "é"}
    await succeed(first.set_labels, {"project": "c"})
    assert (await succeed(first.get_labels)).data == {"project": "c"}

    async def listed(**about: Any) -> list[str]:
        return [row["sessionId"] for row in (await succeed(cloud.bay.list, **about)).session_ids]

    assert await listed() == [second.session_id, first.session_id]
    assert await listed(labels={"project": "c"}) == [first.session_id]
    assert await listed(page=2, limit=1) == [first.session_id]
    assert await listed(status="RUNNING", labels={"project": "b"}) == [second.session_id]
    assert await listed(status="PAUSED") == []
    assert not (await ask(cloud.bay.list, image_id="x")).success
    await succeed(first.keep_alive)
    assert (await succeed(first.get_status)).status == "RUNNING"
    assert (await succeed(first.info)).data.session_id == first.session_id
    assert (await succeed(cloud.bay.get, first.session_id)).session.session_id == first.session_id
    await succeed(cloud.bay.delete, first)
    await succeed(second.delete)
    assert await listed() == []
    assert not (await ask(second.delete)).success


async def test_what_concerns_no_session_is_refused_by_its_code(cloud: Cloud) -> None:
    kinds = sdk_module("agentbay")
    refused = await ask(cloud.bay.create, kinds.CreateSessionParams(context_syncs=[sync_of("SdkCtx-nowhere0000")]))
    assert not refused.success
    assert "SdkCtx-nowhere0000" in refused.error_message
    session = await cloud.new_session(sync_of(await cloud.new_context("work")))
    other = await cloud.new_context("other")
    await fail("Session.NotBound", session.context.sync, other, "/elsewhere", mode="upload")
    await succeed(session.delete)
    for call in (session.context.info, session.context.sync, session.context.list_bindings):
        await fail("InvalidMcpSession.NotFound", call)
    await fail("InvalidMcpSession.NotFound", session.context.bind, sync_of(other))
    refused = await ask(session.keep_alive)
    assert (refused.success, refused.request_id != "") == (False, True)


async def test_what_needs_a_machine_is_not_taken_for_done(cloud: Cloud) -> None:
    session = await cloud.new_session()
    for call in (session.get_link, session.list_mcp_tools):
        with pytest.raises(Exception, match="InvalidAction"):
            await ask(call)
    for result in (
        await ask(session.command.execute_command, "ls"),
        await ask(session.file_system.read_file, "/home/agent/a.txt"),
    ):
        assert not result.success


async def test_a_browser_brings_its_extensions_and_keeps_its_cookies(cloud: Cloud, tmp_path: Path) -> None:
    archive = tmp_path / "extension.zip"
    archive.write_bytes(b"PK\x05\x06" + bytes(18))
    kinds = sdk_module("agentbay")
    service = (kinds.AsyncExtensionsService if cloud.is_async else kinds.ExtensionsService)(cloud.bay, "extensions")
    extension = await ask(service.create, str(archive))
    assert [found.id for found in await ask(service.list)] == [extension.id]
    option = await ask(service.create_extension_option, [extension.id])
    context_id = await cloud.new_context("browser")
    wanted = kinds.BrowserContext(context_id, auto_upload=True, extension_option=option)
    session = await cloud.new_session(browser_context=wanted)
    assert ("/tmp/extensions/", "download", "Success") in await rows_of(session)
    assert (cloud.folder(session, "/tmp/extensions") / extension.id).read_bytes() == archive.read_bytes()
    profile = cloud.folder(session, BROWSER)
    (profile / "Default").mkdir()
    (profile / "Default" / "Cookies").write_text("kept")
    (profile / "Default" / "Cache").write_text("not kept")
    await succeed(session.delete, sync_context=True)
    assert await cloud.file_names(context_id, f"{BROWSER}/Default") == ["Cookies"]
    assert await ask(service.delete, extension.id)
