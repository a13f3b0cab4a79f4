"""The commands for people and shell scripts: what they print, where they write, and what a broken pipe does to them."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from ctx_mcp import AsyncClient
from ctx_mcp.cli.local_files import local_name
from ctx_mcp.cli.main import main
from ctx_mcp.domain.errors import InvalidArgument
from tests.server.processes import CTX_MCP, WAIT_S, environment, run_to_end

READER_LEFT = 141
FULL = Path("/dev/full")
BIG = bytes(range(256)) * 8192


@pytest.fixture
def here(tmp_path: Path) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    return folder


class Shell:
    """Runs commands on one data folder in this process, which takes a tenth of the time of one of their own."""

    def __init__(self, data_dir: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self._data_dir = data_dir
        self._capfd = capfd

    def run(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        """Run a command that ends with `code`, and return what it prints and what it says."""
        assert main([*arguments, "--data-dir", str(self._data_dir)]) == code
        return self._capfd.readouterr()

    def done(self, *arguments: str) -> str:
        """Run a command that must succeed in silence, and return what it prints."""
        out, err = self.run(*arguments)
        assert err == ""
        return out


@pytest.fixture
def shell(data_dir: Path, capfd: pytest.CaptureFixture[str]) -> Generator[Shell]:
    """A command logs to the stream it finds, which is gone after the test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield Shell(data_dir, capfd)
    root.handlers[:] = handlers
    root.setLevel(level)


async def done(*arguments: str, cwd: Path | None = None, **settings: str | Path) -> str:
    """Run a command that must succeed in silence, and return what it prints."""
    code, out, err = await run_to_end(*arguments, cwd=cwd, **settings)
    assert (code, err) == (0, "")
    return out


async def stored(data_dir: Path, content: bytes = b"content", path: str = "/file") -> str:
    """Return the id of a fresh context that holds one file."""
    async with AsyncClient(data_dir=data_dir) as client:
        context_id = (await client.context.create("notes")).context_id
        await client.context.write_file(context_id, path, content)
    return context_id


async def printing_to(stdout: int, *arguments: str, data_dir: Path, unbuffered: str = "") -> tuple[int | None, str]:
    """Run a command with that standard output, and return its exit code and what it says of it."""
    process = await asyncio.create_subprocess_exec(
        CTX_MCP,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=stdout,
        stderr=asyncio.subprocess.PIPE,
        env=environment(CTX_MCP_DATA_DIR=data_dir, PYTHONUNBUFFERED=unbuffered),
    )
    _, err = await asyncio.wait_for(process.communicate(), WAIT_S)
    return process.returncode, err.decode()


COMMANDS = (["cat", "notes", "/file"], ["ls", "notes"], ["--help"])
"""Those that print bytes, rows and what the parser says."""


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
async def test_a_reader_that_leaves_ends_a_command_in_silence(data_dir: Path, command: list[str]) -> None:
    await stored(data_dir, BIG)
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        assert await printing_to(write_end, *command, data_dir=data_dir) == (READER_LEFT, "")
    finally:
        os.close(write_end)


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
@pytest.mark.parametrize(("command", "unbuffered"), [*((command, "") for command in COMMANDS), (COMMANDS[0], "1")])
async def test_an_output_that_takes_no_more_is_told_in_one_line(
    data_dir: Path, command: list[str], unbuffered: str
) -> None:
    await stored(data_dir, BIG)
    full = os.open(FULL, os.O_WRONLY)
    try:
        code, err = await printing_to(full, *command, data_dir=data_dir, unbuffered=unbuffered)
    finally:
        os.close(full)
    assert code == 1
    assert err == "ctx-mcp: cannot write to standard output: No space left on device [Output.Failed]\n"


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
async def test_output_is_utf8_whatever_the_locale(data_dir: Path, encoding: str) -> None:
    settings: dict[str, Any] = {"CTX_MCP_DATA_DIR": data_dir, "PYTHONIOENCODING": encoding}
    out = await done("contexts", "create", "grüße 😀", **settings)
    assert out.split("\t")[1] == "grüße 😀\n"
    assert "grüße 😀" in await done("contexts", **settings)
    code, _, err = await run_to_end("contexts", "delete", "missing 😀", **settings)
    assert code == 1
    assert "missing 😀" in err


def test_flags_may_stand_behind_an_action(shell: Shell, data_dir: Path) -> None:
    # Each is run with the flag at its end.
    shell.done("contexts", "create", "one")
    shell.done("contexts", "rename", "one", "two")
    assert shell.done("contexts").endswith("\ttwo\n")
    shell.done("contexts", "--data-dir", "elsewhere", "delete", "two")
    assert shell.done("contexts") == ""


async def test_get_leaves_every_other_file_alone(data_dir: Path, here: Path) -> None:
    await stored(data_dir)
    (here / "file.part").write_text("mine")
    (here / "file").write_text("older")
    await done("get", "notes", "/file", cwd=here, CTX_MCP_DATA_DIR=data_dir)
    assert {path.name: path.read_bytes() for path in here.iterdir()} == {"file.part": b"mine", "file": b"content"}


async def test_a_get_that_fails_leaves_the_target_as_it_was(data_dir: Path, here: Path) -> None:
    await stored(data_dir)
    (here / "file").write_text("older")
    (here / "file.part").write_text("mine")
    for arguments in (("/missing", "file"), ("/file", "missing/file"), ("/file", "/dev/null")):
        code, out, err = await run_to_end("get", "notes", *arguments, cwd=here, CTX_MCP_DATA_DIR=data_dir)
        assert (code, out) == (1, "")
        assert err.count("\n") == 1
    assert {path.name: path.read_text() for path in here.iterdir()} == {"file.part": "mine", "file": "older"}
    assert Path("/dev/null").is_char_device()


async def test_a_name_of_the_greatest_length_is_fetched(data_dir: Path, here: Path) -> None:
    await stored(data_dir, path="/" + "n" * 255)
    await done("get", "notes", "/" + "n" * 255, cwd=here, CTX_MCP_DATA_DIR=data_dir)
    assert [path.name for path in here.iterdir()] == ["n" * 255]


@pytest.mark.parametrize(
    "name",
    ["a\\b", "..\\b", "C:b", "a:stream", "nul", "NUL.txt", "com1", "LPT9 .x", "a.", "a ", "a?", 'a"b', "<a>", "a|b"],
)
def test_a_name_that_leads_elsewhere_on_windows_needs_a_target(name: str) -> None:
    with pytest.raises(InvalidArgument, match="say where to"):
        local_name(f"/folder/{name}", on_windows=True)
    assert local_name(f"/folder/{name}", on_windows=False) == name


@pytest.mark.parametrize("name", ["plain.txt", "grüße 😀", ".hidden", "console", "nulls.txt", "com", "com10", "a b.c"])
def test_a_plain_name_is_taken_on_windows_too(name: str) -> None:
    assert local_name(f"/folder/{name}", on_windows=True) == name


@pytest.mark.parametrize("path", ["", "/", "/..", "/a/."])
def test_what_is_no_name_needs_a_target_everywhere(path: str) -> None:
    with pytest.raises(InvalidArgument):
        local_name(path, on_windows=False)


def test_a_file_is_moved_deleted_and_brought_back(shell: Shell, data_dir: Path) -> None:
    asyncio.run(stored(data_dir, b"first", "/a/file"))
    local = data_dir.with_name("to be stored")
    local.write_bytes(b"second")
    shell.done("put", "notes", str(local), "/a/file")
    shell.done("mv", "notes", "/a", "/b/c")
    assert shell.done("cat", "notes", "/b/c/file") == "second"
    shell.done("rm", "-r", "notes", "/b")
    assert shell.done("ls", "notes") == ""
    lines = [line.split("\t") for line in shell.done("history", "notes").splitlines()]
    assert [(kind, path) for _, _, kind, _, path, _ in lines] == [
        ("delete", "/b/c/file"),
        ("delete", "/a/file"),
        ("write", "/b/c/file"),
        ("write", "/a/file"),
        ("write", "/a/file"),
    ]
    assert lines[0][5].startswith("ctx-mcp rm on ")
    etag, moment = lines[4][:2]
    assert shell.done("cat", "notes", "/a/file", "--version", etag) == "first"
    said = shell.done("restore", "notes", "/a/file", "--version", etag)
    assert said == "1 restored\t0 removed\n"
    assert shell.done("cat", "notes", "/a/file") == "first"
    shell.done("mv", "--copy", "notes", "/a/file", "/copy")
    said = shell.done("restore", "notes", "/", "--as-of", moment)
    assert said == "0 restored\t1 removed\n"
    assert "no time" in shell.run("restore", "notes", "/", "--as-of", "yesterday", code=1)[1]


def test_text_and_names_are_found(shell: Shell, data_dir: Path) -> None:
    asyncio.run(stored(data_dir, b"one\nA Needle\there\n", "/a/one.md"))
    local = data_dir.with_name("to be stored")
    local.write_bytes(b"needle\nneedle\n")
    shell.done("put", "notes", str(local), "/b/two.txt")
    out = shell.done("search", "notes", "needle")
    assert out == "/a/one.md\t2\tA Needle here\n/b/two.txt\t1\tneedle\n/b/two.txt\t2\tneedle\n"
    out = shell.done("search", "notes", "needle", "--count", "--case-sensitive")
    assert out == "/b/two.txt\t2\n"
    assert shell.done("search", "notes", "--glob", "*.md") == "/a/one.md\n"
    out = shell.done("search", "notes", "N.*e$", "--regex", "--files", "--max", "1")
    assert out == "/a/one.md\n"
    assert "give a query" in shell.run("search", "notes", code=1)[1]
