"""An installation without extras, in an environment that holds nothing else: it works, and says what they are for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deployment.dockerfile import ROOT
from tests.end_to_end.conftest import run_server

WAIT_S = 300
KEYS = {"CTX_MCP_API_KEYS": "key=a"}
POSTGRES = {"CTX_MCP_DATABASE_URL": "postgresql://a:b@127.0.0.1:1/c"}
METRICS = {"CTX_MCP_METRICS_ADDRESS": "127.0.0.1:0"}
TRACES = {"OTEL_TRACES_EXPORTER": "otlp"}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program as it is installed from this tree."""
    target = tmp_path_factory.mktemp("base") / "venv"
    environ = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    for command in (["venv", "--python", sys.executable, target], ["pip", "install", "--python", target, "."]):
        done = subprocess.run(
            ["uv", *command], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=WAIT_S, check=False
        )
        assert done.returncode == 0, done.stderr
    return str(target / ("Scripts" if sys.platform == "win32" else "bin") / "ctx-mcp")


def _environ(tmp_path: Path, settings: dict[str, str]) -> dict[str, str]:
    return {**os.environ, "CTX_MCP_DATA_DIR": str(tmp_path / "data"), **settings}


def test_files_are_kept_without_any_extra(program: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("kept")
    _run(program, tmp_path, "contexts", "create", "a")
    _run(program, tmp_path, "put", "a", str(tmp_path / "a.txt"))
    assert _run(program, tmp_path, "cat", "a", "/a.txt") == "kept"


def _run(program: str, tmp_path: Path, *arguments: str) -> str:
    """Run a command that must succeed, and return what it said."""
    command, environ = [program, *arguments], _environ(tmp_path, {})
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("arguments", [("service",), ("serve", "--transport", "http")], ids="_".join)
def test_a_server_starts_without_any_extra(program: str, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    with run_server([program, *arguments, "--port", "0"], _environ(tmp_path, KEYS)) as url:
        assert url.startswith("http://127.0.0.1:")


@pytest.mark.parametrize(
    ("arguments", "settings", "extra"),
    [
        (("service", "--port", "0"), POSTGRES, "postgres"),
        (("service", "--migrate"), POSTGRES, "postgres"),
        (("contexts",), POSTGRES, "postgres"),
        (("service", "--port", "0"), METRICS, "metrics"),
        (("serve", "--transport", "http", "--port", "0"), METRICS, "metrics"),
        (("service", "--port", "0"), TRACES, "otel"),
        ((), TRACES, "otel"),
    ],
)
def test_what_takes_an_extra_names_it_in_one_line(
    program: str, tmp_path: Path, arguments: tuple[str, ...], settings: dict[str, str], extra: str
) -> None:
    done = subprocess.run(
        [program, *arguments],
        env=_environ(tmp_path, {**KEYS, **settings}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert f"pip install 'ctx-mcp[{extra}]'" in done.stderr
