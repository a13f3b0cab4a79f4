"""Tool definitions before an independent checker: `tdqs lint`, its deterministic part, without a model."""

from __future__ import annotations

import asyncio
import json
import sysconfig
from pathlib import Path

from ctx_mcp.server.tools import TOOLS

TDQS = Path(sysconfig.get_path("scripts")) / "tdqs"
ROOT = Path(__file__).parents[2]
WAIT_S = 30


async def test_tdqs_finds_nothing_to_say(tmp_path: Path) -> None:
    contracts = [json.loads(path.read_text("utf-8")) for path in sorted((ROOT / "tools").iterdir())]
    listed = tmp_path / "tools.json"
    listed.write_text(json.dumps({"tools": contracts}), "utf-8")
    process = await asyncio.create_subprocess_exec(
        TDQS, "lint", "--file", listed, "--format", "json", "--fail-on", "warning", stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(process.communicate(), WAIT_S)
    report = json.loads(out)
    findings = [*report["findings"], *(finding for tool in report["tools"] for finding in tool["findings"])]
    # Answers that can be long promise no structured content: hosts would carry a large payload twice. Arguments whose
    # name says it all have no description: every model reads the list before every task.
    large = [tool.name for tool in TOOLS if tool.is_large]
    assert {found["rule"] for found in findings} <= {"no-output-schema", "undocumented-parameters"}
    assert {found["severity"] for found in findings} <= {"info"}
    assert {found["tool"] for found in findings if found["rule"] == "no-output-schema"} <= {*large}
    assert report["shadowCandidates"] == []
    assert report["server"]["toolCount"] == len(contracts)
    assert process.returncode == 0
