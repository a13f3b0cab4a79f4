"""Write the exact version of every package of the tree into pyproject.toml, from the lock that uv resolved.

    uv run python .ci/pin_versions.py            keep what is pinned, add what is missing, drop what is gone
    uv run python .ci/pin_versions.py --upgrade  resolve anew within the bounds, then pin that
    uv run python .ci/pin_versions.py --check    change nothing; fail on any difference

The lock itself is not committed, because it names the registry it was resolved from.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
_BLOCK = re.compile(r"(\[tool\.uv\]\nconstraint-dependencies = \[\n)(.*?)(\]\n)", re.DOTALL)


def pinned(pyproject: str) -> str:
    """Return the lines of the constraints as they stand."""
    match = _BLOCK.search(pyproject)
    if match is None:
        raise SystemExit("pyproject.toml has no [tool.uv] constraint-dependencies")
    return match[2]


def resolved(lock: Path) -> str:
    """Return the lines that pin what the lock resolved to; markers where versions differ by environment."""
    packages = tomllib.loads(lock.read_text("utf-8"))["package"]
    lines: list[str] = []
    for package in packages:
        if "registry" not in package["source"]:
            continue
        markers: list[str] = package.get("resolution-markers", [])
        requirement = f"{package['name']}=={package['version']}"
        if markers:
            requirement += " ; " + " or ".join(f"({marker})" for marker in markers)
        lines.append(f"    {requirement!r},\n".replace('"', "§").replace("'", '"').replace("§", "'"))
    return "".join(sorted(lines))


def main(arguments: list[str]) -> int:
    path = ROOT / "pyproject.toml"
    text = path.read_text("utf-8")
    if "--upgrade" in arguments:
        text = _BLOCK.sub(r"\1\3", text)
        path.write_text(text, "utf-8")
    subprocess.run(
        ["uv", "lock", "--quiet", *(["--upgrade"] if "--upgrade" in arguments else [])], cwd=ROOT, check=True
    )
    wanted = resolved(ROOT / "uv.lock")
    if "--check" in arguments:
        if pinned(text) == wanted:
            return 0
        print("the pins differ from what uv resolves; run `uv run python .ci/pin_versions.py`", file=sys.stderr)
        return 1
    path.write_text(_BLOCK.sub(lambda match: match[1] + wanted + match[3], text), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
