"""`ctx-mcp contracts`: what the tools are, written down where people and hosts read it.

Writes `tools/<tool>.json` (exactly what tools/list says), the `tools` of `manifest.json` and the table in the
README; with `--check` writes nothing and fails on any difference, in both directions.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from ctx_mcp.cli.output import write_line
from ctx_mcp.domain.errors import InvalidArgument
from ctx_mcp.server.tool import AnyTool
from ctx_mcp.server.tools import TOOLS

_TABLE = re.compile(r"(<!-- tools:begin -->\n).*?(<!-- tools:end -->)", re.DOTALL)


def run_contracts(*, check: bool) -> int:
    """Write or check the contracts of the checkout that the working directory is in.

    Raises:
        InvalidArgument: the working directory is in no checkout of this project.
    """
    root = _checkout()
    wanted = _wanted(root)
    present = {path for path in (root / "tools").glob("*") if path.is_file()} | {
        root / "manifest.json",
        root / "README.md",
    }
    stale = sorted(present - wanted.keys())
    changed = sorted(path for path, text in wanted.items() if not path.exists() or path.read_text("utf-8") != text)
    if check:
        for path in changed:
            sys.stderr.write(f"{path.relative_to(root)} differs from the code\n")
        for path in stale:
            sys.stderr.write(f"{path.relative_to(root)} belongs to no tool\n")
        if changed or stale:
            sys.stderr.write("run `ctx-mcp contracts` and commit what it writes\n")
        return 1 if changed or stale else 0
    for path in changed:
        path.parent.mkdir(exist_ok=True)
        path.write_text(wanted[path], "utf-8")
        write_line(f"wrote {path.relative_to(root)}")
    for path in stale:
        path.unlink()
        write_line(f"removed {path.relative_to(root)}")
    return 0


def _checkout() -> Path:
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "ctx_mcp").is_dir() and (folder / "manifest.json").is_file():
            return folder
    raise InvalidArgument("contracts belong to a checkout of ctx-mcp; run this inside one")


def _wanted(root: Path) -> dict[Path, str]:
    """Return the text each file should have."""
    files = {root / "tools" / f"{tool.name}.json": _contract(tool) for tool in TOOLS}
    manifest: dict[str, Any] = json.loads((root / "manifest.json").read_text("utf-8"))
    manifest["tools"] = [{"name": tool.name, "description": tool.description} for tool in TOOLS]
    files[root / "manifest.json"] = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    readme = (root / "README.md").read_text("utf-8")
    if not _TABLE.search(readme):
        raise InvalidArgument("README.md has no place for the table: <!-- tools:begin --> … <!-- tools:end -->")
    table = _table()
    files[root / "README.md"] = _TABLE.sub(lambda match: match[1] + table + match[2], readme)
    return files


def _contract(tool: AnyTool) -> str:
    definition = tool.definition().model_dump(by_alias=True, exclude_none=True, mode="json")
    return json.dumps(definition, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _table() -> str:
    rows = ["| tool | effect | what it does |", "|---|---|---|"]
    for tool in TOOLS:
        effect = "read" if tool.read_only else "destructive" if tool.destructive else "write"
        rows.append(f"| `{tool.name}` | {effect} | {tool.description} |")
    return "\n".join(rows) + "\n"
