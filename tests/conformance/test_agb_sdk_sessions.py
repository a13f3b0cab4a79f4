"""The official AGB SDK's sessions against our service, unmodified: every call about contexts succeeds."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from ctx_mcp.embedded import run_http_service
from ctx_mcp.settings import Settings
from tests.conformance.agb_sdk import open_client, sdk_module
from tests.conformance.backends import KEYS, Engines
from tests.lifetimes import Lifetimes

MOUNT = "/home/agent/data"
TRANSFERS = "/tmp/file_transfer"
BROWSER = "/tmp/agb_browser_data"
WAIT_S = 30
POLL_S = 0.05
WAITING: dict[str, Any] = {"wait_timeout": WAIT_S, "poll_interval": POLL_S}


@dataclass(frozen=True)
class Cloud:
    """The SDK's client, and where the sessions' private folders are."""

    agb: Any
    sessions_dir: Path

    def folder(self, session: Any, mount: str = MOUNT) -> Path:
        return self.sessions_dir / session.session_id / mount.strip("/")

    def new_context(self, name: str) -> str:
        found = self.agb.context.get(name, create=True)
        assert found.success, found.error_message
        return found.context.id

    def new_session(self, *syncs: Any, labels: dict[str, str] | None = None) -> Any:
        params = sdk_module("agb.session_params").CreateSessionParams(
            image_id="agb-code-space-1", context_syncs=list(syncs), labels=labels or {}
        )
        made = self.agb.create(params)
        assert made.success, made.error_message
        return made.session

    def file_names(self, context_id: str, folder: str = MOUNT) -> list[str]:
        listed = self.agb.context.list_files(context_id, folder)
        assert listed.success, listed.error_message
        return sorted(entry.file_name for entry in listed.entries)


@pytest_asyncio.fixture
async def cloud(hold: Lifetimes, data_dir: Path, clean_home: Path, engines: Engines) -> Cloud:
    settings = engines.applied_to(Settings(data_dir=data_dir, api_keys=KEYS))
    url = await hold(run_http_service(settings, host="127.0.0.1", port=0))
    return Cloud(open_client(url, "key-one"), data_dir / "sessions")


def sync_of(context_id: str, path: str = MOUNT, policy: Any = None) -> Any:
    """Return a binding; always with a policy, because the SDK does not send one that has none."""
    kinds = sdk_module("agb.context_sync")
    return kinds.ContextSync.new(context_id, path, policy or kinds.SyncPolicy())


def rows_of(session: Any, *about: str) -> list[tuple[str, str, str]]:
    info = session.context.info(*about)
    assert info.success, info.error_message
    return sorted((row.path, row.task_type, row.status) for row in info.context_status_data)


async def test_a_session_brings_its_files_and_takes_them_along(cloud: Cloud) -> None:
    await asyncio.to_thread(_bring_and_take, cloud)


def _bring_and_take(cloud: Cloud) -> None:
    context_id = cloud.new_context("work")
    session = cloud.new_session(sync_of(context_id))
    assert rows_of(session) == [(MOUNT, "download", "Success")]
    (cloud.folder(session) / "sub").mkdir()
    (cloud.folder(session) / "plan.md").write_text("one")
    (cloud.folder(session) / "sub" / "note.md").write_text("two")
    uploaded = _sync(session, context_id, MOUNT, mode="upload")
    assert uploaded.success, uploaded.error_message
    assert cloud.file_names(context_id) == ["plan.md", "sub"]
    assert rows_of(session, context_id, MOUNT) == [(MOUNT, "download", "Success"), (MOUNT, "upload", "Success")]
    assert rows_of(session, context_id, MOUNT, "upload") == [(MOUNT, "upload", "Success")]
    (cloud.folder(session) / "late.md").write_text("three")
    deleted = cloud.agb.delete(session, sync_context=True)
    assert deleted.success, deleted.error_message
    assert cloud.file_names(context_id) == ["late.md", "plan.md", "sub"]
    assert not cloud.folder(session).exists()
    later = cloud.new_session(sync_of(context_id))
    assert (cloud.folder(later) / "sub" / "note.md").read_text() == "two"
    (cloud.folder(later) / "plan.md").unlink()
    assert cloud.agb.delete(later).success
    assert cloud.file_names(context_id) == ["late.md", "sub"]
    gone = cloud.agb.get(later.session_id)
    assert not gone.success
    assert "NotFound" in gone.error_message or "not found" in gone.error_message


async def test_a_callback_hears_of_the_end_of_a_sync(cloud: Cloud) -> None:
    await asyncio.to_thread(_call_back, cloud)


def _call_back(cloud: Cloud) -> None:
    context_id = cloud.new_context("work")
    session = cloud.new_session(sync_of(context_id))
    told: list[bool] = []
    ended = threading.Event()

    def note(success: bool) -> None:
        told.append(success)
        ended.set()

    started = _sync(session, context_id, MOUNT, mode="download", callback=note)
    assert started.success, started.error_message
    assert ended.wait(30)
    assert told == [True]
    every = _sync(session)
    assert every.success, every.error_message


async def test_single_files_are_transferred(cloud: Cloud, tmp_path: Path) -> None:
    await asyncio.to_thread(_transfer, cloud, tmp_path)


def _transfer(cloud: Cloud, tmp_path: Path) -> None:
    session = cloud.new_session(sync_of(cloud.new_context("work")))
    source, target = tmp_path / "source.bin", tmp_path / "target.bin"
    source.write_bytes(bytes(range(256)) * 1000)
    remote = f"{TRANSFERS}/deep/er/source.bin"
    sent = session.file.upload(str(source), remote, **WAITING)
    assert sent.success, sent.error_message
    assert cloud.folder(session, remote).read_bytes() == source.read_bytes()
    got = session.file.download(remote, str(target), **WAITING)
    assert got.success, got.error_message
    assert target.read_bytes() == source.read_bytes()
    target.unlink()
    (cloud.folder(session, TRANSFERS) / "made.txt").write_text("made in the session")
    got = session.file.download(f"{TRANSFERS}/made.txt", str(target), **WAITING)
    assert got.success, got.error_message
    assert target.read_text() == "made in the session"
    listed = cloud.agb.context.list()
    assert [context.name for context in listed.contexts] == ["work"]
    assert cloud.agb.delete(session).success


async def test_labels_lists_and_life_signs_work(cloud: Cloud) -> None:
    await asyncio.to_thread(_live, cloud)


def _live(cloud: Cloud) -> None:
    first = cloud.new_session(labels={"project": "a", "kind": "x"})
    second = cloud.new_session(labels={"project": "b"})
    assert first.get_labels().data == {"project": "a", "kind": "x"}
    assert first.set_labels({"project": "c"}).success
    assert first.get_labels().data == {"project": "c"}
    assert set(cloud.agb.list().session_ids) == {first.session_id, second.session_id}
    assert cloud.agb.list(labels={"project": "c"}).session_ids == [first.session_id]
    assert cloud.agb.list(labels={"project": "z"}).session_ids == []
    assert first.keep_alive().success
    assert first.get_status().status == "RUNNING"
    assert first.info().data["session_id"] == first.session_id
    assert cloud.agb.get_session(first.session_id).data.status == "RUNNING"
    again = cloud.agb.get(first.session_id)
    assert again.success, again.error_message
    assert again.session.session_id == first.session_id
    for session in (first, second):
        assert session.delete().success
    assert cloud.agb.list().session_ids == []


async def test_every_policy_of_the_sdk_is_understood(cloud: Cloud) -> None:
    await asyncio.to_thread(_apply_policies, cloud)


def _apply_policies(cloud: Cloud) -> None:
    kinds = sdk_module("agb.context_sync")
    policy = kinds.SyncPolicy(
        upload_policy=kinds.UploadPolicy(auto_upload=False),
        download_policy=kinds.DownloadPolicy(auto_download=True),
        delete_policy=kinds.DeletePolicy(sync_local_file=False),
        extract_policy=kinds.ExtractPolicy(extract=True, delete_src_file=True),
        recycle_policy=kinds.RecyclePolicy(lifecycle=kinds.Lifecycle.LIFECYCLE_1DAY, paths=["logs"]),
        bw_list=kinds.BWList(white_lists=[kinds.WhiteList(path="keep", exclude_paths=["not"])]),
    )
    context_id = cloud.new_context("work")
    session = cloud.new_session(sync_of(context_id, policy=policy))
    folder = cloud.folder(session)
    for name in ("keep/a.txt", "keep/not/b.txt", "other/c.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    assert _sync(session, context_id, MOUNT, mode="upload").success
    assert cloud.file_names(context_id) == ["keep"]
    assert cloud.file_names(context_id, f"{MOUNT}/keep") == ["a.txt"]
    (folder / "keep/a.txt").unlink()
    assert _sync(session, context_id, MOUNT, mode="upload").success
    assert cloud.file_names(context_id, f"{MOUNT}/keep") == ["a.txt"]
    (folder / "keep/late.txt").write_text("not uploaded by itself")
    assert cloud.agb.delete(session).success
    assert cloud.file_names(context_id, f"{MOUNT}/keep") == ["a.txt"]


async def test_wrong_calls_say_what_is_wrong(cloud: Cloud) -> None:
    await asyncio.to_thread(_misuse, cloud)


def _misuse(cloud: Cloud) -> None:
    params = sdk_module("agb.session_params").CreateSessionParams(
        image_id="x", context_syncs=[sync_of("SdkCtx-nowhere0000")]
    )
    refused = cloud.agb.create(params)
    assert not refused.success
    assert "SdkCtx-nowhere0000" in refused.error_message
    session = cloud.new_session(sync_of(cloud.new_context("work")))
    unbound = _sync(session, cloud.new_context("other"), "/elsewhere", mode="upload")
    assert not unbound.success
    assert cloud.agb.delete(session).success
    assert not cloud.agb.delete(session).success


async def test_names_of_any_kind_are_transferred(cloud: Cloud, tmp_path: Path) -> None:
    await asyncio.to_thread(_transfer_odd_names, cloud, tmp_path)


def _transfer_odd_names(cloud: Cloud, tmp_path: Path) -> None:
    """The SDK waits for a row whose path is the text it sent, so the spelling comes back as it came."""
    session = cloud.new_session()
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"content")
    base = session.file.transfer_path()
    for remote in (
        f"{base}/a b+c&d=e%20f.txt",
        f"{base[1:]}/relative/de\u0301compose\u0301/n\u0303.txt",
    ):
        sent = session.file.upload(str(source), remote, content_type="text/plain", **WAITING)
        assert sent.success, sent.error_message
        got = session.file.download(remote, str(target), **WAITING)
        assert got.success, got.error_message
        assert target.read_bytes() == b"content"
    source.write_bytes(b"")
    assert session.file.upload(str(source), f"{base}/empty", wait=False).success
    missing = session.file.download(f"{base}/missing", str(target))
    assert not missing.success
    # As the SDK's guide tidies up.
    assert cloud.agb.context.delete_file(session.file._file_transfer.context_id, f"{base}/empty").success
    assert cloud.agb.delete(session).success


async def test_a_browser_brings_its_extensions_and_keeps_its_cookies(cloud: Cloud, tmp_path: Path) -> None:
    await asyncio.to_thread(_browse, cloud, tmp_path)


def _browse(cloud: Cloud, tmp_path: Path) -> None:
    archive = tmp_path / "extension.zip"
    archive.write_bytes(b"PK\x05\x06" + bytes(18))
    extensions = sdk_module("agb.extension").ExtensionsService(cloud.agb, "extensions")
    extension = extensions.create(str(archive))
    assert [found.id for found in extensions.list()] == [extension.id]
    params = sdk_module("agb.session_params")
    context_id = cloud.new_context("browser")
    wanted = params.BrowserContext(context_id, extension_option=extensions.create_extension_option([extension.id]))
    made = cloud.agb.create(params.CreateSessionParams(image_id="agb-browser-use-1", browser_context=wanted))
    assert made.success, made.error_message
    session = made.session
    # Bound with a slash at the end, which is how its row is looked for.
    assert ("/tmp/extensions/", "download", "Success") in rows_of(session)
    assert (cloud.folder(session, "/tmp/extensions") / extension.id).read_bytes() == archive.read_bytes()
    profile = cloud.folder(session, BROWSER)
    (profile / "Default").mkdir()
    (profile / "Default" / "Cookies").write_text("kept")
    (profile / "Default" / "Cache").write_text("not kept")
    assert cloud.agb.delete(session, sync_context=True).success
    assert cloud.file_names(context_id, f"{BROWSER}/Default") == ["Cookies"]
    assert extensions.delete(extension.id)


async def test_files_are_mapped_from_where_they_were_made_and_packed_into_an_archive(cloud: Cloud) -> None:
    await asyncio.to_thread(_map_and_pack, cloud)


def _map_and_pack(cloud: Cloud) -> None:
    kinds = sdk_module("agb.context_sync")
    packed = kinds.UploadPolicy(upload_mode=kinds.UploadMode.ARCHIVE)
    context_id = cloud.new_context("work")
    session = cloud.new_session(sync_of(context_id, "/tmp/mapping", kinds.SyncPolicy(upload_policy=packed)))
    (cloud.folder(session, "/tmp/mapping") / "sub").mkdir()
    (cloud.folder(session, "/tmp/mapping") / "sub" / "a.txt").write_text("made here")
    assert _sync(session).success
    assert cloud.file_names(context_id, "/tmp/mapping") == ["mapping.zip"]
    assert cloud.agb.delete(session).success
    mapped = kinds.SyncPolicy(upload_policy=packed, mapping_policy=kinds.MappingPolicy(path="/tmp/mapping"))
    later = cloud.new_session(sync_of(context_id, policy=mapped))
    assert (cloud.folder(later) / "sub" / "a.txt").read_text() == "made here"
    assert cloud.agb.delete(later).success


async def test_asking_for_its_state_does_not_keep_a_session(cloud: Cloud) -> None:
    await asyncio.to_thread(_idle, cloud)


def _idle(cloud: Cloud) -> None:
    params = sdk_module("agb.session_params").CreateSessionParams(image_id="x", idle_release_timeout=1)
    session = cloud.agb.create(params).session
    deadline = time.monotonic() + WAIT_S
    while (status := session.get_status()).success and time.monotonic() < deadline:
        time.sleep(0.1)
    assert status.code == "InvalidMcpSession.NotFound"


async def test_a_session_outlives_its_context(cloud: Cloud) -> None:
    await asyncio.to_thread(_lose_context, cloud)


def _lose_context(cloud: Cloud) -> None:
    context = cloud.agb.context.get("lost", create=True).context
    session = cloud.new_session(sync_of(context.id))
    assert cloud.agb.context.delete(context).success
    assert not _sync(session, context.id, MOUNT).success
    assert session.context.info().success
    assert cloud.agb.delete(session).success


async def test_what_needs_a_machine_is_refused_and_not_raised(cloud: Cloud) -> None:
    await asyncio.to_thread(_want_machine, cloud)


def _want_machine(cloud: Cloud) -> None:
    session = cloud.new_session()
    for result in (
        session.get_link(),
        session.list_mcp_tools(),
        session.get_metrics(),
        session.call_mcp_tool("shell", {"command": "ls"}),
        session.command.execute("ls"),
        session.file.read("/home/agent/a.txt"),
    ):
        assert not result.success
        assert result.error_message
    assert cloud.agb.delete(session).success


def _sync(session: Any, *about: str, **options: Any) -> Any:
    """Return the result of a sync, looked at more often than every 1.5 s; some versions of the SDK give a coroutine."""
    looks = {"max_retries": int(WAIT_S / POLL_S), "retry_interval": int(POLL_S * 1000)}
    result = session.context.sync(*about, **looks, **options)
    return asyncio.run(result) if asyncio.iscoroutine(result) else result


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AGB_API_KEY", "AGB_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
