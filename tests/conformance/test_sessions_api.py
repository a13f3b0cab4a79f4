"""Sessions through our clients, on every backend that has them: files come down, go up, and outlive the session."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from ctx_mcp import (
    AsyncClient,
    AsyncSession,
    Client,
    ContextSync,
    CreateSessionParams,
    DownloadPolicy,
    SyncPolicy,
    UploadPolicy,
)
from ctx_mcp.domain.policies import policy_from_json
from ctx_mcp.embedded import run_http_service
from ctx_mcp.settings import Settings
from tests.conformance.backends import KEYS, Engines, list_folder, new_context
from tests.lifetimes import Lifetimes

WAIT_S = 30
BACKENDS = ("embedded", "http-native", "http-agb", "http-agentbay")
NO_UPLOAD = SyncPolicy(UploadPolicy(auto_upload=False))
pytestmark = pytest.mark.usefixtures("data_dir")


@dataclass(frozen=True)
class Place:
    """A client, and where a mount path of its sessions is on this machine."""

    client: AsyncClient
    mount: str
    sessions_dir: Path | None = None

    def folder(self, session: AsyncSession, mount: str | None = None) -> Path:
        """Return the mount path's folder: the machine's own, or one below the session's private root."""
        path = Path(mount or self.mount)
        if self.sessions_dir is None:
            return path
        return self.sessions_dir / session.session_id / path.relative_to("/")


async def _open(name: str, hold: Lifetimes, tmp_path: Path, engines: Engines) -> Place:
    data_dir, mount = tmp_path / "data", tmp_path / "mount"
    mount.mkdir()
    if name == "embedded":
        return Place(await hold(AsyncClient(data_dir=data_dir)), str(mount))
    settings = engines.applied_to(Settings(data_dir=data_dir, api_keys=KEYS))
    url = await hold(run_http_service(settings, host="127.0.0.1", port=0))
    native = AsyncClient(backend=url, api_key="key-one")
    cloud = name.removeprefix("http-")
    client = native if cloud == "native" else AsyncClient(backend=cloud, endpoint=url, api_key="key-one")
    return Place(await hold(client), str(mount), data_dir / "sessions")


@pytest_asyncio.fixture(params=BACKENDS)
async def place(
    request: pytest.FixtureRequest, hold: Lifetimes, tmp_path: Path, clean_home: Path, engines: Engines
) -> Place:
    return await _open(request.param, hold, tmp_path, engines)


@pytest_asyncio.fixture(params=[name for name in BACKENDS if name != "http-agb"])
async def binding_place(
    request: pytest.FixtureRequest, hold: Lifetimes, tmp_path: Path, clean_home: Path, engines: Engines
) -> Place:
    """Only the backends that bind at run time; the AGB API has no call for it."""
    return await _open(request.param, hold, tmp_path, engines)


async def _create(place: Place, *syncs: ContextSync, labels: dict[str, str] | None = None) -> AsyncSession:
    made = await place.client.create(CreateSessionParams(labels, "image", context_syncs=syncs))
    assert made.success, made.error_message
    assert made.session is not None
    return made.session


async def test_create_returns_when_the_files_are_there(place: Place) -> None:
    context = await new_context(place.client.context)
    await place.client.context.write_file(context.id, f"{place.mount}/d/f.txt", b"from the context")
    session = await _create(place, ContextSync(context.id, place.mount))
    assert (place.folder(session) / "d/f.txt").read_bytes() == b"from the context"
    rows = (await session.context.info(task_type="download")).context_status_data
    assert [(row.context_id, row.path, row.status) for row in rows] == [(context.id, place.mount, "Success")]
    assert 0 < rows[0].start_time <= rows[0].finish_time
    assert (await session.delete()).success


async def test_a_binding_that_downloads_nothing_has_a_finished_row_at_once(place: Place) -> None:
    context = await new_context(place.client.context)
    await place.client.context.write_file(context.id, f"{place.mount}/f.txt", b"stays")
    policy = SyncPolicy(download_policy=DownloadPolicy(auto_download=False))
    session = await _create(place, ContextSync(context.id, place.mount, policy))
    rows = (await session.context.info()).context_status_data
    assert [(row.context_id, row.status) for row in rows] == [(context.id, "Success")]
    assert not (place.folder(session) / "f.txt").exists()


async def test_sync_carries_files_up_and_down(place: Place) -> None:
    context = await new_context(place.client.context)
    session = await _create(place, ContextSync(context.id, place.mount))
    folder = place.folder(session)
    (folder / "up.txt").write_bytes(b"from the folder")
    result = await session.context.sync(context.id, place.mount)
    assert result.success, result.error_message
    listed = await list_folder(place.client.context, context.id, place.mount)
    assert [entry.file_path for entry in listed] == [f"{place.mount}/up.txt"]
    await place.client.context.write_file(context.id, f"{place.mount}/down.txt", b"from the context")
    assert (await session.context.sync(mode="download")).success
    assert (folder / "down.txt").read_bytes() == b"from the context"
    rows = (await session.context.info()).context_status_data
    assert {(row.task_type, row.status) for row in rows} == {("upload", "Success"), ("download", "Success")}


async def test_a_callback_hears_of_the_end(place: Place) -> None:
    context = await new_context(place.client.context)
    session = await _create(place, ContextSync(context.id, place.mount))
    (place.folder(session) / "up.txt").write_bytes(b"x")
    told: asyncio.Queue[bool] = asyncio.Queue()
    assert (await session.context.sync(callback=told.put_nowait)).success
    assert await asyncio.wait_for(told.get(), WAIT_S) is True
    assert len(await list_folder(place.client.context, context.id, place.mount)) == 1


async def test_deleting_a_session_uploads_what_its_policies_say(place: Place) -> None:
    context = await new_context(place.client.context)
    session = await _create(place, ContextSync(context.id, place.mount))
    (place.folder(session) / "kept.txt").write_bytes(b"kept")
    assert (await place.client.delete(session)).success
    listed = await list_folder(place.client.context, context.id, place.mount)
    assert [entry.file_name for entry in listed] == ["kept.txt"]
    lost = await place.client.get(session.session_id)
    assert (lost.success, lost.error_code) == (False, "InvalidMcpSession.NotFound")
    assert not (await session.delete()).success


@pytest.mark.parametrize(("sync_context", "names"), [(True, ["f.txt"]), (False, [])])
async def test_deleting_with_sync_uploads_everything(place: Place, sync_context: bool, names: list[str]) -> None:
    context = await new_context(place.client.context)
    session = await _create(place, ContextSync(context.id, place.mount, NO_UPLOAD))
    (place.folder(session) / "f.txt").write_bytes(b"x")
    assert (await session.delete(sync_context=sync_context)).success
    listed = await place.client.context.list_files(context.id, place.mount)
    assert [entry.file_name for entry in listed.entries] == names


async def test_a_context_outlives_its_sessions(place: Place) -> None:
    context = await new_context(place.client.context)
    first = await _create(place, ContextSync(context.id, place.mount))
    (place.folder(first) / "notes.md").write_bytes(b"remember")
    assert (await first.delete(sync_context=True)).success
    second = await _create(place, ContextSync(context.id, place.mount))
    assert (place.folder(second) / "notes.md").read_bytes() == b"remember"


async def test_a_session_of_an_unknown_context_is_not_made(place: Place) -> None:
    made = await place.client.create(
        CreateSessionParams(image_id="image", context_syncs=[ContextSync("ctx-aaaaaaaaaaaaaaaaa", place.mount)])
    )
    assert (made.success, made.session) == (False, None)
    assert "Context not found" in made.error_message
    assert made.request_id
    assert (await place.client.list()).session_ids == []


async def test_sessions_are_found_by_their_labels_and_paged(place: Place) -> None:
    ids = [(await _create(place, labels={"owner": "ann", "number": str(number)})).session_id for number in range(3)]
    await _create(place, labels={"owner": "bob"})
    found = await place.client.list({"owner": "ann"})
    assert (found.success, found.session_ids, found.total_count) == (True, ids[::-1], 3)
    assert (await place.client.list({"owner": "ann"}, page=2, limit=2)).session_ids == ids[:1]
    beyond = await place.client.list({"owner": "ann"}, page=3, limit=2)
    assert (beyond.success, beyond.session_ids) == (False, [])
    assert (await place.client.list({"owner": "eve"})).session_ids == []


async def test_a_session_found_by_its_id_is_the_same_one(place: Place) -> None:
    made = await _create(place, labels={"a": "b"})
    found = (await place.client.get(made.session_id)).session
    assert found is not None
    assert (await found.get_labels()).data == {"a": "b"}
    assert (await found.set_labels({"c": "d é"})).success
    assert (await made.get_labels()).data == {"c": "d é"}
    assert (await found.keep_alive()).success
    assert (await found.get_status()).status == "RUNNING"
    assert (await found.info()).data["session_id"] == made.session_id


async def test_calls_on_a_session_that_is_gone_fail_with_its_code(place: Place) -> None:
    session = await _create(place)
    assert (await session.delete()).success
    for result in (
        await session.info(),
        await session.get_status(),
        await session.keep_alive(),
        await session.get_labels(),
        await session.set_labels({"a": "b"}),
        await session.context.info(),
        await session.context.sync(),
    ):
        assert (result.success, result.error_code) == (False, "InvalidMcpSession.NotFound")
        assert result.request_id


async def test_a_context_is_bound_while_the_session_runs(binding_place: Place, tmp_path: Path) -> None:
    place, more = binding_place, str(tmp_path / "more")
    Path(more).mkdir()
    context = await new_context(place.client.context)
    await place.client.context.write_file(context.id, f"{more}/f.txt", b"later")
    session = await _create(place)
    policy = SyncPolicy(UploadPolicy(auto_upload=False))
    bound = await session.context.bind(ContextSync(context.id, more, policy))
    assert bound.success, bound.error_message
    assert (place.folder(session, more) / "f.txt").read_bytes() == b"later"
    binding = (await session.context.list_bindings()).bindings[0]
    assert (binding.context_id, binding.context_name, binding.path) == (context.id, context.name, more)
    assert policy_from_json(binding.policy) == policy
    assert binding.bind_time.endswith("Z")
    again = await session.context.bind(ContextSync(context.id, more))
    assert (again.success, again.error_code) == (False, "PathAlreadyBound")


async def test_a_path_that_is_not_bound_cannot_be_synced(place: Place) -> None:
    context = await new_context(place.client.context)
    session = await _create(place, ContextSync(context.id, place.mount))
    result = await session.context.sync(context.id, "/never/bound")
    assert (result.success, result.error_code) == (False, "Session.NotBound")


def test_the_blocking_client_does_the_same(tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    mount.mkdir()
    done = threading.Event()
    told: list[bool] = []

    def call(outcome: bool) -> None:
        told.append(outcome)
        done.set()

    with Client(data_dir=tmp_path / "data") as client:
        context = client.context.create("name").context
        assert context is not None
        made = client.create(CreateSessionParams(context_syncs=[ContextSync(context.id, str(mount))]))
        assert made.session is not None
        (mount / "f.txt").write_bytes(b"x")
        assert made.session.context.sync(callback=call).success
        assert done.wait(WAIT_S)
        assert told == [True]
        assert client.context.read_file(context.id, f"{mount}/f.txt").content == b"x"
        assert client.delete(made.session, sync_context=True).success
        assert client.list().session_ids == []
