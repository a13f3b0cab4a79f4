"""The contracts in the checkout are what the server says, and `ctx-mcp contracts` sees every difference."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from mcp.client.client import Client

from ctx_mcp.cli.contracts import run_contracts
from ctx_mcp.client.async_service import AsyncContextService
from ctx_mcp.domain.errors import InvalidArgument
from ctx_mcp.embedded import EmbeddedTransport
from ctx_mcp.server.app import ContextServer
from tests.server.processes import run_to_end

if TYPE_CHECKING:
    from mcp_types import Tool

ROOT = Path(__file__).parents[2]
CONTRACTS = {path.stem: json.loads(path.read_text("utf-8")) for path in (ROOT / "tools").glob("*.json")}


@pytest.fixture(params=["legacy", "auto"])
async def tools(request: pytest.FixtureRequest, tmp_path: Path) -> list[Tool]:
    """What a client of each era is shown."""
    server = ContextServer(AsyncContextService(EmbeddedTransport(tmp_path)))
    async with Client(server, mode=request.param) as client:
        return (await client.list_tools()).tools


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what contracts are written to, as the working directory."""
    (tmp_path / "ctx_mcp").mkdir()
    shutil.copytree(ROOT / "tools", tmp_path / "tools")
    for name in ("manifest.json", "README.md"):
        shutil.copy(ROOT / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


async def test_the_checkout_is_in_order() -> None:
    assert await run_to_end("contracts", "--check", cwd=ROOT) == (0, "", "")


async def test_contracts_are_exactly_what_clients_are_shown(tools: list[Tool]) -> None:
    shown = {tool.name: tool.model_dump(by_alias=True, exclude_none=True, mode="json") for tool in tools}
    assert shown == CONTRACTS


async def test_the_manifest_lists_the_same_tools_in_the_same_order(tools: list[Tool]) -> None:
    manifest = json.loads((ROOT / "manifest.json").read_text("utf-8"))
    assert manifest["tools"] == [{"name": tool.name, "description": tool.description} for tool in tools]


async def test_the_readme_shows_every_tool(tools: list[Tool]) -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    table = readme.partition("<!-- tools:begin -->")[2].partition("<!-- tools:end -->")[0]
    rows = [row.split(" | ") for row in table.strip().splitlines()[2:]]
    assert [row[0] for row in rows] == [f"| `{tool.name}`" for tool in tools]
    assert [row[2] for row in rows] == [f"{tool.description} |" for tool in tools]


def test_contracts_have_their_keys_sorted() -> None:
    for path in (ROOT / "tools").iterdir():
        text = path.read_text("utf-8")
        assert text == json.dumps(json.loads(text), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _change_contract(root: Path) -> str:
    path = root / "tools" / "file_read.json"
    path.write_text(path.read_text("utf-8").replace("Read a text file", "Read some file"), "utf-8")
    return "tools/file_read.json differs"


def _change_order_of_keys(root: Path) -> str:
    path = root / "tools" / "file_read.json"
    contract: dict[str, Any] = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(dict(reversed(contract.items())), indent=2, ensure_ascii=False) + "\n", "utf-8")
    return "tools/file_read.json differs"


def _add_stale_contract(root: Path) -> str:
    (root / "tools" / "file_gone.json").write_text("{}\n")
    return "tools/file_gone.json belongs to no tool"


def _add_other_file(root: Path) -> str:
    (root / "tools" / "notes.txt").touch()
    return "tools/notes.txt belongs to no tool"


def _remove_contract(root: Path) -> str:
    (root / "tools" / "context_get.json").unlink()
    return "tools/context_get.json differs"


def _remove_all_contracts(root: Path) -> str:
    shutil.rmtree(root / "tools")
    return "tools/context_get.json differs"


def _change_manifest(root: Path) -> str:
    path = root / "manifest.json"
    manifest: dict[str, Any] = json.loads(path.read_text("utf-8"))
    manifest["tools"].pop()
    path.write_text(json.dumps(manifest), "utf-8")
    return "manifest.json differs"


def _change_readme(root: Path) -> str:
    path = root / "README.md"
    path.write_text(path.read_text("utf-8").replace("| `file_read` |", "| `file_rread` |"), "utf-8")
    return "README.md differs"


@pytest.mark.parametrize(
    "change",
    [
        _change_contract,
        _change_order_of_keys,
        _add_stale_contract,
        _add_other_file,
        _remove_contract,
        _remove_all_contracts,
        _change_manifest,
        _change_readme,
    ],
)
def test_a_difference_fails_the_check_and_is_written_away(
    checkout: Path, capsys: pytest.CaptureFixture[str], change: Callable[[Path], str]
) -> None:
    assert run_contracts(check=True) == 0
    said = change(checkout)
    assert run_contracts(check=True) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert said in told.err
    assert "ctx-mcp contracts" in told.err
    assert run_contracts(check=True) == 1
    assert run_contracts(check=False) == 0
    capsys.readouterr()
    assert run_contracts(check=True) == 0
    assert capsys.readouterr() == ("", "")
    assert {path.stem for path in (checkout / "tools").iterdir()} == set(CONTRACTS)


def test_contracts_are_found_from_a_folder_below(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkout / "tools")
    assert run_contracts(check=True) == 0


def test_outside_a_checkout_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidArgument, match="inside one"):
        run_contracts(check=True)


def test_a_readme_without_a_place_for_the_table_is_told(checkout: Path) -> None:
    (checkout / "README.md").write_text("no table\n")
    with pytest.raises(InvalidArgument, match="tools:begin"):
        run_contracts(check=True)
