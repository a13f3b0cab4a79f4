"""The unit of systemd: linted where systemd is, and its parts held against the program everywhere."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

from ctx_mcp.cli.parser import build_parser
from ctx_mcp.embedded import _SERVICE_GRACE_S  # pyright: ignore[reportPrivateUsage] - what the unit must outwait
from ctx_mcp.settings import VARIABLES

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "packaging" / "systemd" / "ctx-mcp.service"
TEXT = UNIT.read_text("utf-8")
SETTINGS = re.findall(r"^(\w+)=(.*)$", TEXT, re.MULTILINE)
HAS_SYSTEMD = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
_MAX_EXPOSURE = "20"
"""Tenths, of a scale from 0 to 10."""


def _value(name: str) -> str:
    (value,) = [text for found, text in SETTINGS if found == name]
    return value


def test_the_unit_starts_what_can_be_started() -> None:
    program, *arguments = shlex.split(_value("ExecStart"))
    assert Path(program).name == "ctx-mcp"
    assert build_parser().parse_args(arguments).command == "service"
    assert _value("Environment").partition("=")[0] in VARIABLES
    assert _value("Environment").endswith(f"%S/{_value('StateDirectory')}")


def test_systemd_waits_longer_than_requests_are_given_to_end() -> None:
    assert int(_value("TimeoutStopSec").removesuffix("s")) >= 2 * _SERVICE_GRACE_S
    assert _value("Restart") == "on-failure"


@HAS_SYSTEMD
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    installed = str(Path(sysconfig.get_path("scripts")) / "ctx-mcp")
    unit.write_text(TEXT.replace(shlex.split(_value("ExecStart"))[0], installed))
    command = ["systemd-analyze", "verify", "--recursive-errors=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@HAS_SYSTEMD
def test_the_unit_is_confined_as_systemd_measures_it() -> None:
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={_MAX_EXPOSURE}", str(UNIT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
