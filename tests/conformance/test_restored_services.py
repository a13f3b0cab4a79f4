"""A service that was restored from a backup, and the machines whose folders are synced with it: nothing that any of
them has is out of reach afterwards, counted by content.

Contents differ in size, because a cloud's listing tells nothing else of files that are written within one second.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, Generator, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree

import httpx
import pytest

from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.domain.sessions import RESTORED, BindingRequest
from ctx_mcp.embedded import run_http_service
from ctx_mcp.service.backups import back_up
from ctx_mcp.settings import Settings
from ctx_mcp.store.lineages import begin_lineage
from ctx_mcp.store.store import open_store
from ctx_mcp.wire.http_messages import LINEAGE_HEADER
from ctx_mcp.wire.operations import CreateSession, ReleaseSession, StartSync
from tests.conformance.backends import KEYS
from tests.conformance.synced import EMBEDDED, KEY, Ended, SyncedFolders, files_of, open_synced, settings_of
from tests.lifetimes import Lifetimes
from tests.postgres import PostgresServer
from tests.round_robin import RoundRobin, round_robin

LARGE = bytes(range(256)) * 500
TREE = {
    "/stays": b"the same all the time",
    "/changes": b"first",
    "/goes": b"what is deleted later",
    "/sub/changes": b"first, in a folder",
    "/sub/deep/large": LARGE,
    "/other/file": b"in another folder",
}
TOLD = ("skipped", "/", RESTORED)
MODES = ("both", "upload", "download")
SITES = [
    *(("http-native", "sqlite", mode) for mode in MODES),
    ("http-native", "postgres", "both"),
    ("http-native", "postgres", "download"),
    ("http-agb", "sqlite", "both"),
    ("http-agentbay", "sqlite", "download"),
]


@dataclass(frozen=True)
class Rows:
    """A store: its data folder, and its database where that is elsewhere."""

    data_dir: Path
    database_url: str | None = None

    @asynccontextmanager
    async def served(self) -> AsyncGenerator[str]:
        settings = Settings(data_dir=self.data_dir, database_url=self.database_url, api_keys=KEYS)
        async with run_http_service(settings, host="127.0.0.1", port=0) as url:
            yield url


@dataclass
class Site:
    """One address, whichever store is behind it."""

    balancer: RoundRobin
    rows: Rows
    home: Path
    postgres: PostgresServer | None = None

    @asynccontextmanager
    async def serving(self, rows: Rows) -> AsyncGenerator[None]:
        async with rows.served() as url:
            self.balancer.replicas = [url]
            yield

    async def back_up(self) -> Rows:
        """Return a copy of the store as it is now, as it is restored; nobody serves it meanwhile."""
        target = self.home / "restored"
        if self.postgres is None or self.rows.database_url is None:
            with closing(open_store(self.rows.data_dir, DEFAULT_LIMITS)) as store:
                await back_up(store, target, DEFAULT_LIMITS)
            return Rows(target)
        copytree(self.rows.data_dir, target)
        name = self.postgres.make_database(self.rows.database_url.rpartition("/")[2])
        url = self.postgres.url(name)
        begin_lineage(target, url)
        return Rows(target, url)

    async def machine(self, hold: Lifetimes, name: str, backend: str = "http-native") -> SyncedFolders:
        """Return the client of one machine; call it while the service runs."""
        home = self.home / name
        home.mkdir()
        return await open_synced(hold, settings_of(backend, self.balancer.url, home / "mine"), home)


@pytest.fixture
def balancer() -> Generator[RoundRobin]:
    with round_robin() as balancer:
        yield balancer


@pytest.fixture
def site(balancer: RoundRobin, tmp_path: Path, clean_home: Path) -> Site:
    return Site(balancer, Rows(tmp_path / "service"), tmp_path)


def fill(folder: Path, files: dict[str, bytes]) -> None:
    for path, content in files.items():
        target = folder / path.removeprefix("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def contents(machine: SyncedFolders) -> set[bytes]:
    return set(files_of(machine.folder()).values())


async def work(anna: SyncedFolders, ben: SyncedFolders) -> None:
    """Change, add and delete files in both folders until both have all of it, and a little that nobody has sent yet."""
    fill(anna.folder(), {"/changes": b"second, by Anna", "/new/anna": b"new, by Anna", "/new/large": LARGE[::-1]})
    (anna.folder() / "goes").unlink()
    await synced(anna, ben)
    fill(ben.folder(), {"/sub/changes": b"second in a folder, by Ben", "/sub/deep/ben": b"new and deep, by Ben"})
    await synced(ben, anna)
    assert files_of(anna.folder()) == files_of(ben.folder()) == await anna.files()
    fill(anna.folder(), {"/unsent": b"not sent yet", "/other/file": b"changed and not sent yet"})


async def synced(*machines: SyncedFolders, mode: str = "both") -> list[Ended]:
    ended = [await machine.sync(mode=mode, delete=True) for machine in machines]
    assert [each.task.state for each in ended] == ["completed"] * len(ended), ended
    return ended


@pytest.mark.parametrize(("backend", "engine", "mode"), SITES)
async def test_nothing_that_any_machine_has_is_lost_to_a_restored_service(
    backend: str, engine: str, mode: str, site: Site, hold: Lifetimes, request: pytest.FixtureRequest
) -> None:
    if engine == "postgres":
        site.postgres = request.getfixturevalue("postgres")
        site.rows = Rows(site.rows.data_dir, request.getfixturevalue("postgres_url"))
    async with site.serving(site.rows):
        anna = await site.machine(hold, "anna", backend)
        ben = await site.machine(hold, "ben", backend)
        fill(anna.folder(), TREE)
        await synced(anna, ben)
    restored = await site.back_up()
    async with site.serving(site.rows):
        await work(anna, ben)
    had = {name: contents(machine) for name, machine in (("anna", anna), ("ben", ben))}
    assert sum(map(len, had.values())) == 9 + 8
    async with site.serving(restored):
        assert await anna.files() == TREE
        first = await synced(anna, ben, mode=mode)
        again = await synced(anna, ben, anna, ben, mode=mode)
        reachable = set((await anna.files()).values())
        assert set(TREE.values()) <= reachable
        assert had["anna"] <= contents(anna) | reachable
        assert had["ben"] <= contents(ben) | reachable
        if mode != "download":
            assert had["anna"] | had["ben"] <= reachable
    assert [TOLD in each.notes for each in (*first, *again)] == [True, True, False, False, False, False]
    if site.postgres is not None and restored.database_url is not None:
        site.postgres.drop_database(restored.database_url.rpartition("/")[2])


async def test_a_dry_run_on_a_restored_service_plans_no_deletion_and_forgets_nothing(
    site: Site, hold: Lifetimes
) -> None:
    async with site.serving(site.rows):
        anna = await site.machine(hold, "anna")
        await synced(anna)
    restored = await site.back_up()
    async with site.serving(site.rows):
        fill(anna.folder(), TREE)
        await synced(anna)
    async with site.serving(restored):
        for _ in range(2):
            planned = await anna.sync(dry_run=True)
            assert planned.notes[0] == TOLD
            assert {code for kind, _, code in planned.notes if kind == "planned"} == {"upload"}
        (ended,) = await synced(anna)
        assert TOLD in ended.notes
        assert await anna.files() == files_of(anna.folder()) == TREE
        (anna.folder() / "goes").unlink()
        await synced(anna)
        assert "/goes" not in await anna.files(), "from then on deletions travel again"


async def test_a_folder_whose_place_in_the_context_is_a_file_after_the_restore_keeps_its_files(
    site: Site, hold: Lifetimes
) -> None:
    async with site.serving(site.rows):
        anna = await site.machine(hold, "anna")
        await anna.write("/place", b"a file")
    restored = await site.back_up()
    async with site.serving(site.rows):
        await anna.delete("/place")
        fill(anna.folder(), TREE)
        assert (await anna.sync(context_path="/place")).task.state == "completed"
    async with site.serving(restored):
        await anna.sync(context_path="/place")
        assert files_of(anna.folder()) == TREE


class Turning(Sequence[str]):
    """The replicas of a balancer: one store's, and from some request on another's."""

    def __init__(self, before: str, after: str, turn: int) -> None:
        self._before = before
        self._after = after
        self._left = turn

    def __iter__(self) -> Iterator[str]:
        self._left -= 1
        yield self._before if self._left >= 0 else self._after

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: object) -> str:  # type: ignore[override]
        raise NotImplementedError


@pytest.mark.parametrize("mode", ["both", "download"])
async def test_a_sync_that_a_restore_comes_into_takes_nothing_away(mode: str, site: Site, hold: Lifetimes) -> None:
    async with site.serving(site.rows):
        anna = await site.machine(hold, "anna")
        fill(anna.folder(), TREE)
        await synced(anna)
    restored = await site.back_up()
    async with site.rows.served() as former, restored.served() as present:
        for turn in (1, 2, 4, 6):
            site.balancer.replicas = [former]
            machine = await site.machine(hold, f"machine {turn}")
            fill(machine.folder(), {f"/new {turn}/{'x' * number}": b"." * (20 * turn + number) for number in (1, 2, 3)})
            await synced(machine)
            had = contents(machine)
            site.balancer.replicas = Turning(former, present, turn)
            await synced(machine, mode=mode)
            site.balancer.replicas = [present]
            await synced(machine, mode=mode)
            assert had <= contents(machine) | set((await anna.files()).values()), f"turned after {turn} requests"


async def test_replicas_with_different_stores_are_told_and_take_nothing_away(site: Site, hold: Lifetimes) -> None:
    async with site.serving(site.rows):
        anna = await site.machine(hold, "anna")
        await synced(anna)
    restored = await site.back_up()
    async with site.serving(site.rows):
        fill(anna.folder(), TREE)
        await synced(anna)
    async with site.rows.served() as former, restored.served() as present:
        site.balancer.replicas = [former, present]
        ended = await anna.sync()
    assert (ended.task.state, ended.task.error_code) == ("failed", "Backend.ProtocolError")
    assert files_of(anna.folder()) == TREE


async def test_a_base_of_before_there_were_lineages_is_taken_over_with_the_first_that_is_told(
    site: Site, hold: Lifetimes
) -> None:
    async with site.serving(site.rows):
        anna = await site.machine(hold, "anna")
        fill(anna.folder(), TREE)
        await synced(anna)
        (known,) = (anna.home / "mine" / "remotes").iterdir()
        with closing(sqlite3.connect(known / "ctx.db")) as rows:
            assert rows.execute("UPDATE replicas SET lineage = NULL WHERE lineage IS NOT NULL").rowcount == 1
            rows.commit()
        await anna.delete("/goes")
        assert (await synced(anna))[0].notes == []
        assert not (anna.folder() / "goes").exists()
    restored = await site.back_up()
    async with site.serving(restored):
        assert TOLD in (await synced(anna))[0].notes


@pytest.mark.parametrize(
    ("path", "code"), [("/ctx/v1/ListContexts", 200), ("/ctx/v1/ReadFile", 400), ("/?Action=ListContexts", 200)]
)
async def test_every_answer_tells_the_lineage_and_strangers_are_told_none(
    path: str, code: int, site: Site, hold: Lifetimes
) -> None:
    fields = {"context_id": "ctx-none", "file_path": "/f"} if "ReadFile" in path else {}
    told: list[str | None] = []
    async with site.serving(site.rows), httpx.AsyncClient(base_url=site.balancer.url) as http:
        for key in (KEY, KEY, "none such"):
            if "Action" in path:
                answer = await http.post(path, data={"Authorization": f"Bearer {key}"})
            else:
                answer = await http.post(path, headers={"Authorization": f"Bearer {key}"}, json=fields)
            assert key != KEY or answer.status_code in (code, 404)
            told.append(answer.headers.get(LINEAGE_HEADER))
    assert told[0] == told[1] is not None
    assert told[2] is None


@pytest.mark.parametrize("mode", ["upload", "both"])
async def test_a_session_that_was_restored_without_its_folder_deletes_nothing(
    mode: str, site: Site, hold: Lifetimes
) -> None:
    async with site.serving(site.rows):
        anna = await site.machine(hold, "anna")
        fill(anna.folder(), TREE)
        await synced(anna)
        asked = CreateSession((BindingRequest(anna.context_id, "/srv/work", "/"),))
        session_id = (await anna.service.call(asked)).session_id
        start = StartSync(anna.context_id, "/srv/work", session_id, mode, delete=True)
        (task,) = (await anna.service.call(start)).tasks
        assert (await anna.end(task)).task.state == "completed"
        assert files_of(site.rows.data_dir / "sessions" / session_id / "srv" / "work") == TREE
    restored = await site.back_up()
    assert not (restored.data_dir / "sessions").exists()
    async with site.serving(restored):
        (task,) = (await anna.service.call(start)).tasks
        await anna.end(task)
        assert await anna.files() == TREE
        await anna.service.call(ReleaseSession(session_id))
        assert await anna.files() == TREE


@pytest.mark.parametrize("mode", MODES)
async def test_folders_synced_with_a_restored_data_folder_lose_nothing(
    mode: str, tmp_path: Path, clean_home: Path, hold: Lifetimes
) -> None:
    """Of the embedded backend: what the folders and the store had in common is restored with it."""
    data_dir = tmp_path / "data"

    async def machines(data_dir: Path) -> tuple[SyncedFolders, SyncedFolders]:
        settings = settings_of(EMBEDDED, "", data_dir)
        opened = await open_synced(hold, settings, tmp_path / "anna")
        return opened, SyncedFolders(opened.service, settings, opened.context_id, tmp_path / "ben")

    for name in ("anna", "ben"):
        (tmp_path / name).mkdir()
    anna, ben = await machines(data_dir)
    fill(anna.folder(), TREE)
    await synced(anna, ben)
    with closing(open_store(data_dir, DEFAULT_LIMITS)) as store:
        await back_up(store, tmp_path / "backup", DEFAULT_LIMITS)
    await work(anna, ben)
    # What Anna changed since takes its former content's place at Ben's too, as in any sync.
    had = {name: contents(machine) - {TREE["/other/file"]} for name, machine in (("anna", anna), ("ben", ben))}
    await hold.close_last()
    data_dir.rename(tmp_path / "lost")
    copytree(tmp_path / "backup", data_dir)
    anna, ben = await machines(data_dir)
    await synced(anna, ben, mode=mode)
    await synced(anna, ben, mode=mode)
    reachable = set((await anna.files()).values())
    assert had["anna"] <= contents(anna) | reachable
    assert had["ben"] <= contents(ben) | reachable
    if mode != "download":
        assert had["anna"] | had["ben"] <= reachable
