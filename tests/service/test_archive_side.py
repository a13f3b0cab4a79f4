"""A binding's archive beside other writers, and syncs that end too early: nothing is lost, nothing comes back."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable, Generator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ctx_mcp.domain.errors import StoreUnusable
from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.domain.policies import SyncPolicy, UploadMode, UploadPolicy
from ctx_mcp.domain.sessions import ConflictRule, SyncMode
from ctx_mcp.domain.trees import ForgetBase, LocalFile, NewContent, Progress, PutFile
from ctx_mcp.service.sync_side import StoreSide
from ctx_mcp.store.store import Store, open_store
from ctx_mcp.sync.archive_reader import MARK
from ctx_mcp.sync.archive_side import ArchiveChanged
from ctx_mcp.sync.archives import open_archive_side
from ctx_mcp.sync.executor import SyncOptions, SyncResult, run_sync
from ctx_mcp.sync.local_tree import LocalTree
from ctx_mcp.sync.selection import Selection

ACCOUNT, PREFIX, ARCHIVE = "an account", "/data", "/data/data.zip"
NOW = datetime(2026, 1, 2, tzinfo=UTC)
UPLOAD, DOWNLOAD, BOTH = SyncMode.UPLOAD, SyncMode.DOWNLOAD, SyncMode.BOTH
PACKING = SyncPolicy(UploadPolicy(upload_mode=UploadMode.ARCHIVE))
LARGE = 200_000


class Killed(Exception):
    """The process ends here."""


def nothing() -> None:
    return None


class Bench:
    """One context, and folders that are synced with it by way of the archive below `/data`."""

    def __init__(self, home: Path, store: Store) -> None:
        self.home = home
        self.store = store
        self.context_id = store.contexts.get_or_create(ACCOUNT, "packed", now=NOW)[0].context_id

    def folder(self, name: str, files: dict[str, bytes] | None = None) -> Path:
        folder = self.home / name
        for path, content in (files or {}).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        return folder

    def side(self, name: str) -> StoreSide:
        replica = self.store.sync.open_replica(ACCOUNT, self.context_id, str(self.home / name), PREFIX, now=NOW)
        return StoreSide(
            self.store,
            replica,
            lease=None,
            actor="a test",
            limits=DEFAULT_LIMITS,
            clock=lambda: datetime.now(UTC),
            tell_changed=nothing,
        )

    def sync(
        self,
        name: str,
        mode: SyncMode,
        *,
        policy: SyncPolicy = PACKING,
        before_finish: Callable[[], object] = nothing,
        go_on: Callable[[], None] = nothing,
    ) -> SyncResult:
        side = self.side(name)
        with LocalTree.open(self.home / name, create=True) as tree, ExitStack() as resources:
            archive = open_archive_side(resources, side, prefix=PREFIX, policy=policy, mode=mode, spool_dir=self.home)
            options = SyncOptions(
                mode=mode,
                conflict=ConflictRule.KEEP_BOTH,
                delete=True,
                prefix=PREFIX,
                copy_stamp="then",
                selection=Selection.of_rows([]).without(None if archive is None else archive.hidden_path),
                archive=None if archive is None else archive.name,
                max_file_bytes=DEFAULT_LIMITS.max_file_bytes,
                max_notes=100,
            )
            result = run_sync(tree, archive or side, options, is_stopped=lambda: False)
            before_finish()
            if archive is not None:
                archive.finish(result.progress, go_on=go_on)
            return result

    def local(self, name: str) -> dict[str, bytes]:
        folder = self.home / name
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def put(self, path: str, content: bytes) -> None:
        """Write a file of the context as somebody else would."""
        side = self.side("somebody else's")
        standing = side.list_folder(PREFIX)[0].files.get(path.rpartition("/")[2])
        new = NewContent(hashlib.sha256(content).hexdigest(), len(content), object_key=side.keep([content]))
        look = LocalFile("", len(content), 1, 1, 0o644)
        changes = [PutFile(path, new, look, standing.version if standing else None), ForgetBase(path)]
        assert side.commit(changes, Progress(), ())[0].code is None

    def put_archive(self, members: dict[str, bytes], *, is_encrypted: bool = False) -> None:
        target = io.BytesIO()
        with zipfile.ZipFile(target, "w") as archive:
            for name, content in members.items():
                archive.writestr(zipfile.ZipInfo(name), content)
            archive.comment = MARK
        whole = bytearray(target.getvalue())
        if is_encrypted:
            whole[whole.index(b"PK\x01\x02") + 8] |= 1
        self.put(ARCHIVE, bytes(whole))

    def names(self) -> list[str]:
        listed = self.side("somebody else's").list_folder(PREFIX)[0]
        return sorted([*listed.files, *listed.folders])

    def members(self) -> dict[str, bytes]:
        side = self.side("somebody else's")
        content = b"".join(side.stream(ARCHIVE, side.list_folder(PREFIX)[0].files["data.zip"]))
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return {name: archive.read(name) for name in archive.namelist() if not name.startswith(".ctx-mcp-")}


@pytest.fixture
def bench(tmp_path: Path, data_dir: Path) -> Generator[Bench]:
    store = open_store(data_dir, DEFAULT_LIMITS)
    yield Bench(tmp_path, store)
    store.close()


def test_an_archive_that_changed_meanwhile_is_not_replaced_and_no_file_is_lost(bench: Bench) -> None:
    bench.folder("here", {"a": b"one", "gone": b"x"})
    bench.folder("there", {"b": b"two"})
    bench.sync("here", UPLOAD)
    bench.folder("here", {"new": b"nowhere else", "large": bytes(LARGE)})
    (bench.folder("here") / "gone").unlink()
    with pytest.raises(ArchiveChanged):
        bench.sync("here", BOTH, before_finish=lambda: bench.sync("there", UPLOAD))
    assert set(bench.members()) == {"a", "b", "gone"}
    bench.sync("here", BOTH)
    expected = {"a": b"one", "b": b"two", "new": b"nowhere else", "large": bytes(LARGE)}
    assert bench.local("here") == expected
    assert bench.members() == expected


def test_the_first_archives_of_two_folders_at_once_both_arrive(bench: Bench) -> None:
    bench.folder("here", {"a": b"one"})
    bench.folder("there", {"b": b"two"})
    with pytest.raises(ArchiveChanged):
        bench.sync("here", BOTH, before_finish=lambda: bench.sync("there", UPLOAD))
    bench.sync("here", BOTH)
    assert bench.local("here") == bench.members() == {"a": b"one", "b": b"two"}


def test_an_archive_emptied_here_and_filled_there_keeps_what_came(bench: Bench) -> None:
    bench.folder("here", {"a": b"one"})
    bench.sync("here", UPLOAD)
    bench.folder("there", {"b": b"two"})
    (bench.folder("here") / "a").unlink()
    with pytest.raises(ArchiveChanged):
        bench.sync("here", UPLOAD, before_finish=lambda: bench.sync("there", UPLOAD))
    bench.sync("here", UPLOAD)
    assert bench.members() == {"b": b"two"}


@pytest.mark.parametrize("chunk", range(4))
def test_a_sync_killed_while_it_packs_leaves_the_old_archive_and_goes_on(bench: Bench, chunk: int) -> None:
    bench.folder("here", {"a": b"one", "b": b"two"})
    bench.sync("here", UPLOAD)
    before = bench.members()
    bench.folder("here", {"a": b"changed", "c": bytes(LARGE)})
    (bench.folder("here") / "b").unlink()
    left = [chunk]

    def go_on() -> None:
        if not left[0]:
            raise Killed
        left[0] -= 1

    with pytest.raises(Killed):
        bench.sync("here", BOTH, go_on=go_on)
    assert bench.members() == before
    bench.sync("here", BOTH)
    assert bench.local("here") == bench.members() == {"a": b"changed", "c": bytes(LARGE)}
    leftovers = [path.name for path in bench.home.iterdir() if path.name not in ("here", "data")]
    assert leftovers == []


def test_a_sync_killed_behind_its_archive_finds_that_everything_is_there(bench: Bench) -> None:
    bench.folder("here", {"a": b"one", "b": b"two"})
    bench.sync("here", UPLOAD)
    packed = bench.members()
    # As if the archive had come to stand there, and nothing more been written.
    bench.put_archive({**packed, "a": b"changed", "new": b"three"})
    bench.folder("here", {"a": b"changed", "new": b"three"})
    result = bench.sync("here", BOTH)
    assert (result.error, result.progress.conflict_count) == (None, 0)
    assert bench.local("here") == bench.members() == {"a": b"changed", "b": b"two", "new": b"three"}


def test_a_single_file_over_an_equal_one_of_the_archive_does_not_bring_old_content_back(bench: Bench) -> None:
    bench.folder("here", {"a": b"new"})
    bench.put_archive({"a": b"new"})
    bench.put("/data/a", b"old")
    bench.sync("here", UPLOAD)
    bench.sync("here", BOTH)
    assert bench.local("here")["a"] == b"new"
    assert bench.members()["a"] == b"new"
    assert "a" not in bench.names()


def test_a_single_file_that_changed_meanwhile_stays_and_is_a_conflict(bench: Bench) -> None:
    bench.put("/data/a", b"old")
    bench.sync("here", DOWNLOAD)
    bench.folder("here", {"a": b"ours"})
    with pytest.raises(ArchiveChanged):
        bench.sync("here", UPLOAD, before_finish=lambda: bench.put("/data/a", b"theirs"))
    assert "a" in bench.names()
    bench.sync("here", BOTH)
    assert sorted(bench.local("here").values()) == [b"ours", b"theirs"]


def test_a_member_that_cannot_be_read_any_more_is_not_taken_for_deleted(bench: Bench) -> None:
    bench.folder("here", {"a": b"one", "b": b"two"})
    bench.sync("here", UPLOAD)
    bench.put_archive({"a": b"one", "b": b"two"}, is_encrypted=True)
    bench.sync("here", DOWNLOAD)
    assert bench.local("here") == {"a": b"one", "b": b"two"}


def test_a_damaged_archive_ends_the_sync_and_deletes_nothing(bench: Bench) -> None:
    bench.folder("here", {"a": b"one" * LARGE})
    bench.sync("here", UPLOAD)
    side = bench.side("here")
    bench.put(ARCHIVE, b"".join(side.stream(ARCHIVE, side.list_folder(PREFIX)[0].files["data.zip"])))
    for stored in (bench.home / "data" / "objects").rglob("*"):
        if stored.is_file():
            stored.chmod(0o600)
            stored.write_bytes(b"\0" + stored.read_bytes()[1:])
    for mode in (DOWNLOAD, BOTH, UPLOAD):
        for policy in (PACKING, SyncPolicy()) if mode is not UPLOAD else (PACKING,):
            with pytest.raises(StoreUnusable, match="damaged"):
                bench.sync("here", mode, policy=policy)
    assert bench.local("here") == {"a": b"one" * LARGE}


def test_permission_bits_alone_travel_by_way_of_the_archive(bench: Bench) -> None:
    bench.folder("here", {"a": b"one"})
    bench.sync("here", UPLOAD)
    bench.sync("there", DOWNLOAD)
    (bench.folder("here") / "a").chmod(0o700)
    bench.sync("here", UPLOAD)
    bench.sync("there", DOWNLOAD)
    assert (bench.folder("there") / "a").stat().st_mode & 0o777 == 0o700


def test_excluded_paths_are_found_however_they_are_spelled(bench: Bench) -> None:
    bench.folder("here", {"logs/x": b"1", "logs.md": b"2", "\u00fcber": b"3", "sub/logs": b"4"})
    policy = SyncPolicy(
        UploadPolicy(upload_mode=UploadMode.ARCHIVE, archive_exclude_paths=["./logs//", "u\u0308ber", ""])
    )
    bench.sync("here", UPLOAD, policy=policy)
    assert bench.names() == ["data.zip", "logs", "\u00fcber"]
    assert set(bench.members()) == {"logs.md", "sub/logs"}


def test_an_archive_whose_index_lies_about_moments_can_be_packed_again(bench: Bench) -> None:
    digest = hashlib.sha256(b"one").hexdigest()
    index = f'{{"version":1,"files":[["/a",3,"{digest}",420,{10**30}]]}}'
    bench.put_archive({"a": b"one", ".ctx-mcp-archive.json": index.encode()})
    bench.sync("here", DOWNLOAD)
    bench.folder("here", {"b": b"two"})
    bench.sync("here", UPLOAD)
    assert bench.members() == {"a": b"one", "b": b"two"}
