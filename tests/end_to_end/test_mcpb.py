"""The two manifests hold: an MCPB host can launch the bundle, and the MCP Registry can list the package."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from ctx_mcp import __version__
from tests.npm_tools import NpmTools, run_tool

ROOT = Path(__file__).parents[2]
BUNDLED = ("manifest.json", "pyproject.toml", "README.md", "LICENSE", "ctx_mcp")
"""What `uv run` needs to build and start the server; the rest of the checkout is for developers."""
TIMEOUT_S = 60


@pytest.fixture(scope="module")
def bundle(npm: NpmTools, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packed `.mcpb` of a clean copy of the project."""
    folder = tmp_path_factory.mktemp("bundle")
    source = folder / "source"
    source.mkdir()
    for name in BUNDLED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    packed = folder / "ctx-mcp.mcpb"
    _run([*npm.mcpb, "pack", str(source), str(packed)])
    return packed


@pytest.fixture(scope="module")
def unpacked(npm: NpmTools, bundle: Path) -> Path:
    folder = bundle.with_name("unpacked")
    _run([*npm.mcpb, "unpack", str(bundle), str(folder)])
    return folder


def test_the_manifest_is_valid(npm: NpmTools) -> None:
    _run([*npm.mcpb, "validate", str(ROOT / "manifest.json")])


def test_the_bundle_is_small_and_readable(npm: NpmTools, bundle: Path) -> None:
    assert "Size:" in _run([*npm.mcpb, "info", str(bundle)])
    assert bundle.stat().st_size < 1024 * 1024, "something is bundled that does not belong there"


def test_a_host_launches_the_bundle_with_every_option_filled_in(npm: NpmTools, unpacked: Path) -> None:
    launch = _expand(npm, unpacked)
    assert "${" not in json.dumps(launch), "an option without a value stays a literal"
    assert [launch["command"], *launch["args"]] == ["uv", "run", "--directory", str(unpacked), "--no-dev", "ctx-mcp"]
    assert (unpacked / _read("manifest.json")["server"]["entry_point"]).is_file()
    chosen = {
        "data_dir": "/data",
        "backend": "agb",
        "endpoint": "https://example.invalid",
        "api_key": "k",
        "toolsets": "files",
        "tools": "context_list",
        "read_only": "golden",
        "confirm": "always",
    }
    assert _expand(npm, unpacked, chosen)["env"] == {
        "CTX_MCP_DATA_DIR": "/data",
        "CTX_MCP_BACKEND": "agb",
        "CTX_MCP_ENDPOINT": "https://example.invalid",
        "CTX_MCP_API_KEY": "k",
        "CTX_MCP_TOOLSETS": "files",
        "CTX_MCP_TOOLS": "context_list",
        "CTX_MCP_READ_ONLY": "golden",
        "CTX_MCP_CONFIRM": "always",
    }


def test_the_bundled_server_works_when_the_user_has_set_nothing(
    npm: NpmTools, unpacked: Path, server_env: dict[str, str], tmp_path: Path
) -> None:
    # uv would fetch what is installed here already, so the module is started as its command would start it.
    command = {"command": sys.executable, "args": ["-m", "ctx_mcp.cli.main"], "cwd": str(unpacked)}
    host = {"mcpServers": {"bundle": {**command, "env": _expand(npm, unpacked)["env"]}}}
    config = tmp_path / "host.json"
    config.write_text(json.dumps(host), "utf-8")
    options = ["--config", str(config), "--server", "bundle", "--method", "tools/list"]
    tools = npm.ask_inspector(*options, env=server_env)["tools"]
    assert {"context_create", "file_write"} <= {tool["name"] for tool in tools}


def test_the_registry_entry_keeps_the_rules_of_its_schema() -> None:
    """Source: MCP Registry, server.schema.json of 2025-12-11; PyPI ownership is read from the README."""
    entry = _read("server.json")
    assert re.fullmatch(r"[a-zA-Z0-9.-]+/[a-zA-Z0-9._-]+", entry["name"])
    assert 0 < len(entry["description"]) <= 100
    (package,) = entry["packages"]
    assert (package["registryType"], package["identifier"]) == ("pypi", "ctx-mcp")
    assert package["runtimeHint"] == "uvx"
    assert package["transport"] == {"type": "stdio"}
    assert f"mcp-name: {entry['name']}" in (ROOT / "README.md").read_text("utf-8")


def test_every_manifest_names_this_version_and_the_same_settings() -> None:
    manifest, entry = _read("manifest.json"), _read("server.json")
    (package,) = entry["packages"]
    assert {manifest["version"], entry["version"], package["version"]} == {__version__}
    settings = {variable["name"] for variable in package["environmentVariables"]}
    assert settings == manifest["server"]["mcp_config"]["env"].keys()
    secrets = {variable["name"] for variable in package["environmentVariables"] if variable.get("isSecret")}
    assert secrets == {"CTX_MCP_API_KEY"}
    assert [name for name, option in manifest["user_config"].items() if option.get("sensitive")] == ["api_key"]


def _expand(npm: NpmTools, folder: Path, chosen: dict[str, str] | None = None) -> dict[str, Any]:
    return json.loads(_run([*npm.script("expand_manifest.mjs"), str(folder), json.dumps(chosen or {})]))


def _read(name: str) -> dict[str, Any]:
    return json.loads((ROOT / name).read_text("utf-8"))


def _run(command: list[str]) -> str:
    done = run_tool(command, timeout_s=TIMEOUT_S)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout
