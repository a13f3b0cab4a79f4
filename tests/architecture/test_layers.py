"""The structure: layers, sizes, and what is imported when."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import ctx_mcp

PACKAGE = Path(ctx_mcp.__file__).parent
ROOT = PACKAGE.parent
MAX_LINES = 400
HEAVY = ("sqlalchemy", "alembic", "httpx", "obstore", "uvicorn", "starlette")
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if "migrations" not in path.parts
)
FILES = sorted(str(path.relative_to(ROOT)) for path in PACKAGE.rglob("*.py"))


def test_the_import_contracts_hold() -> None:
    lint = Path(sysconfig.get_path("scripts")) / "lint-imports"
    result = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("file", FILES)
def test_a_file_has_one_subject(file: str) -> None:
    assert len((ROOT / file).read_text().splitlines()) < MAX_LINES


@pytest.mark.parametrize("file", FILES)
def test_a_module_says_what_it_is_for(file: str) -> None:
    text = (ROOT / file).read_text()
    assert not text.strip() or text.startswith('"""')


def _loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return set(result.stdout.split())


def test_the_package_itself_loads_nothing_but_itself() -> None:
    loaded = _loaded_by("import ctx_mcp")
    assert loaded.isdisjoint({*HEAVY, "pydantic", "anyio", "mcp"})


@pytest.mark.parametrize(
    "module",
    [
        name
        for name in MODULES
        if name
        in (
            "ctx_mcp.cli.main",
            "ctx_mcp.settings",
            "ctx_mcp.connect",
            "ctx_mcp.embedded",
            "ctx_mcp.folders",
            "ctx_mcp.server.app",
            "ctx_mcp.cli.serve",
        )
    ],
)
def test_what_a_host_waits_for_loads_no_database(module: str) -> None:
    assert _loaded_by(f"import {module}").isdisjoint({"sqlalchemy", "alembic", "obstore"})


@pytest.mark.parametrize(
    "module", [name for name in MODULES if name.startswith(("ctx_mcp.domain", "ctx_mcp.wire.operations"))]
)
def test_the_inner_layers_load_no_outer_library(module: str) -> None:
    assert _loaded_by(f"import {module}").isdisjoint({*HEAVY, "mcp"})


@pytest.mark.parametrize("name", ctx_mcp.__all__)
def test_every_name_of_the_package_can_be_imported(name: str) -> None:
    assert getattr(ctx_mcp, name) is not None


def test_a_name_the_package_has_not_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError):
        _ = ctx_mcp.no_such_name
