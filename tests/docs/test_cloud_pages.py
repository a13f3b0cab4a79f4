"""The pages for the clouds and for programs that come from their SDKs: the programs run, and no method is left out."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from subprocess import PIPE
from typing import Any

import anyio
import pytest

import ctx_mcp.agb
import ctx_mcp.agentbay
from ctx_mcp.embedded import run_http_service
from ctx_mcp.settings import Settings
from tests.conformance import agb_sdk, agentbay_sdk
from tests.docs.test_docs import blocks, page, section, table_rows

KEY = "a-key"
PAGES = {"from_agb_sdk.md": "AGB", "from_agentbay_sdk.md": "AGENTBAY"}


@pytest.mark.parametrize(("name", "prefix"), PAGES.items(), ids=PAGES)
async def test_the_program_before_and_the_one_after_print_what_they_say(
    name: str, prefix: str, tmp_path: Path, clean_home: Path
) -> None:
    programs = blocks(page(name), "python")
    assert len(programs) == 2
    settings = Settings(data_dir=tmp_path / "data", api_keys={KEY: "an account"})
    async with run_http_service(settings, host="127.0.0.1", port=0) as url:
        environment = {**os.environ, f"{prefix}_ENDPOINT": url, f"{prefix}_API_KEY": KEY}
        for program in programs:
            said = re.findall(r"# prints (.+)$", program, re.MULTILINE)
            assert len(said) >= 5
            done = await anyio.run_process(
                [sys.executable, "-c", program], check=False, stdout=PIPE, stderr=PIPE, cwd=tmp_path, env=environment
            )
            assert (done.returncode, done.stdout.decode().splitlines()) == (0, said), done.stderr.decode()


def _methods(kind: Any) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_") and callable(getattr(kind, name))}


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        (
            "from_agb_sdk.md",
            {
                "agb": "AGB",
                "agb.context": "ContextService",
                "agb.context_manager": "ContextManager",
                "agb.session": "Session",
            },
        ),
        (
            "from_agentbay_sdk.md",
            {
                "agentbay": "AsyncAgentBay",
                "agentbay._async.context": "AsyncContextService",
                "agentbay._async.context_manager": "AsyncContextManager",
                "agentbay._async.session": "AsyncSession",
            },
        ),
    ],
    ids=PAGES,
)
def test_every_method_of_the_sdk_is_in_the_table_and_what_it_calls_the_same_is(
    name: str, kinds: dict[str, str]
) -> None:
    sdk_module = agb_sdk.sdk_module if "agb" in kinds else agentbay_sdk.sdk_module
    theirs = set[str]().union(*(_methods(getattr(sdk_module(module), kind)) for module, kind in kinds.items()))
    rows = table_rows(section(page(name), "Name by name"))
    named = {word for left, _ in rows for word in re.findall(r"`(?:\w+\.)?(\w+)`", left)}
    assert theirs <= named
    flavour = ctx_mcp.agb if "agb" in kinds else ctx_mcp.agentbay
    ours = _methods(flavour.AsyncClient) | _methods(flavour.AsyncSession)
    ours |= (
        _methods(flavour.AsyncContextService)
        | _methods(flavour.AsyncContextManager)
        | {"context", "session", "agb", "bay"}
    )
    same = {word for left, right in rows if right == "the same" for word in re.findall(r"`(?:\w+\.)?(\w+)`", left)}
    assert len(same) > 15
    assert same <= ours
