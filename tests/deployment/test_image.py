"""The image's recipe: linted, its steps carried out without an engine, and its command run as an engine would."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path
from typing import cast

import httpx
import pytest

from ctx_mcp import Client, __version__
from ctx_mcp.cli.parser import build_parser
from ctx_mcp.settings import VARIABLES
from tests.deployment.boxes import UID, run_boxed
from tests.deployment.dockerfile import ROOT, TEXT, read_stages

WAIT_S = 300
BUILD, FINAL = read_stages()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
ENVIRONMENT = dict(re.findall(r'(\w+)=("[^"]*"|\S+)', FINAL.last("ENV")))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The virtual environment that the recipe's own commands make of the files it copies, in folders of the test."""
    source, target = tmp_path_factory.mktemp("src"), tmp_path_factory.mktemp("opt") / "ctx-mcp"
    for names in BUILD.all("COPY"):
        *files, to = names.split()
        for name in files:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, source / to, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, source / to)
    # The first one brings uv into the image; here it is the one that runs the tests.
    for command in BUILD.all("RUN")[1:]:
        here = command.replace("/opt/ctx-mcp", shlex.quote(str(target))).replace(
            "--python python ", f"--python {shlex.quote(sys.executable)} "
        )
        environ = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
        done = subprocess.run(
            ["sh", "-euc", here], cwd=source, env=environ, capture_output=True, text=True, timeout=WAIT_S, check=False
        )
        assert done.returncode == 0, done.stderr
    return target


def test_the_recipe_has_no_lint() -> None:
    hadolint = Path(sysconfig.get_path("scripts")) / "hadolint"
    done = subprocess.run([hadolint, ROOT / "docker" / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_both_stages_stand_on_one_base_that_can_be_given_by_its_digest() -> None:
    assert {BUILD.base, FINAL.base} == {"${BASE_IMAGE}"}
    (base,) = re.findall(r"^ARG BASE_IMAGE=(\S+)$", TEXT, re.MULTILINE)
    version = re.search(r"python:(\d+\.\d+)-slim", base)
    assert version is not None
    # The one that the tests run on, and not one that is merely allowed.
    assert version[1] == "{}.{}".format(*sys.version_info[:2])


def test_the_image_runs_as_a_number_that_is_not_root_and_gets_signals_itself() -> None:
    assert FINAL.last("USER") == f"{UID}:{UID}"
    assert FINAL.command("ENTRYPOINT") == ["ctx-mcp"]
    options = build_parser().parse_args(FINAL.command("CMD"))
    assert (options.command, options.host) == ("service", "0.0.0.0")
    assert str(options.port) in FINAL.last("EXPOSE").split()
    assert f":{options.port}/" in FINAL.last("HEALTHCHECK")
    assert FINAL.last("HEALTHCHECK").partition("CMD ")[2].startswith('["python", "-c"')
    assert ENVIRONMENT["CTX_MCP_DATA_DIR"] == FINAL.last("VOLUME")
    assert {name for name in ENVIRONMENT if name.startswith("CTX_MCP_")} <= set(VARIABLES)


def test_nothing_but_the_environment_leaves_the_build() -> None:
    assert FINAL.all("COPY") == ["--from=build /opt/ctx-mcp /opt/ctx-mcp"]
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {name for names in BUILD.all("COPY") for name in names.split()[:-1]}
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)


def test_the_builder_is_the_one_of_the_checks() -> None:
    (version,) = re.findall(r"uv==(\d+\.\d+)\.\d+", BUILD.all("RUN")[0])
    minor = int(version.partition(".")[2])
    assert f'"uv>={version},<0.{minor + 1}"' in (ROOT / ".ci" / "run").read_text()


def test_every_package_of_the_image_has_the_version_that_was_tested(built: Path) -> None:
    listed = subprocess.run(
        ["uv", "pip", "list", "--format", "freeze", "--python", built], capture_output=True, text=True, check=True
    )
    found = {line for line in listed.stdout.splitlines() if not line.startswith("ctx-mcp")}
    pins = set(cast("list[str]", PROJECT["tool"]["uv"]["constraint-dependencies"]))
    assert found <= pins
    names = {line.partition("==")[0] for line in found}
    assert {"mcp", "obstore", "psycopg", "psycopg-binary"} <= names
    assert names.isdisjoint({"pip", "uv", "setuptools", "hatchling", "pytest"})
    said = subprocess.run([built / "bin" / "ctx-mcp", "--version"], capture_output=True, text=True, check=True)
    assert said.stdout == f"ctx-mcp {__version__}\n"


@pytest.mark.skipif(sys.platform != "linux", reason="namespaces are Linux's")
def test_it_serves_as_the_first_process_without_rights_on_a_root_that_cannot_be_written(
    built: Path, postgres_url: str, tmp_path: Path
) -> None:
    _, *arguments = FINAL.command("CMD")
    command = [built / "bin" / "ctx-mcp", "service", *arguments, "--host", "127.0.0.1", "--port", "0"]
    environ = {name: value.strip('"') for name, value in ENVIRONMENT.items() if name.startswith("PYTHON")}
    settings = {"CTX_MCP_DATA_DIR": str(tmp_path), "CTX_MCP_DATABASE_URL": postgres_url, "CTX_MCP_API_KEYS": "key=a"}
    with run_boxed(command, tmp_path, **environ, **settings) as box:
        assert box.status("NSpid")[-1] == "1"
        assert (box.status("CapEff"), box.status("NoNewPrivs")) == (["0" * 16], ["1"])
        with Client(backend=box.url, api_key="key") as client, httpx.Client(timeout=WAIT_S) as http:
            made = client.context.create("a").context_id
            url = client.context.get_file_upload_url(made, "/large").url
            assert http.put(url, content=b"x" * 200_000).status_code == 200
            assert client.context.read_file(made, "/large").entry.size_bytes == 200_000
    assert box.exit_code == 0
