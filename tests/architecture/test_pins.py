"""Every version of the tree is pinned in pyproject.toml, bounded where it is direct, and no lock names a registry."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, cast

ROOT = Path(__file__).parent.parent.parent


def _pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def test_the_pins_are_what_uv_resolves() -> None:
    command = [sys.executable, str(ROOT / ".ci" / "pin_versions.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_every_direct_dependency_has_an_upper_bound() -> None:
    project = _pyproject()
    direct = [
        *cast("list[str]", project["project"]["dependencies"]),
        *cast("list[str]", project["dependency-groups"]["dev"]),
    ]
    assert [requirement for requirement in direct if "<" not in requirement and "==" not in requirement] == []


def test_nothing_committed_names_a_registry() -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, timeout=60).stdout
    paths = [ROOT / name for name in tracked.decode().split("\0") if name]
    host = re.compile(rb"(pypi|npmjs|pythonhosted|debian)\.(org|com)/|registry\.[a-z]+\.[a-z]+/")
    named = [str(path) for path in paths if path.is_file() and host.search(path.read_bytes())]
    assert named == []
    assert (ROOT / "uv.lock") not in paths
