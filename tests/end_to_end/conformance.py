"""Runs of the official conformance suite, side by side, and what they found against what is known."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from tests.npm_tools import NpmTools, run_tool

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

VERSIONS = ("2025-06-18", "2025-11-25", "2026-07-28")
PENDING = "pending"
"""What the suite leaves out of `--suite all` with a version: extensions, on the newest wire."""
TIMEOUT_S = 150

Known = dict[str, dict[str, str]]
"""Reason -> scenario/check -> what the suite's message must contain: a check may not fail for another reason."""


@dataclass(frozen=True)
class Run:
    """One process of the suite against one server."""

    npm: NpmTools
    suite: str
    process: subprocess.Popen[bytes]
    folder: Path

    def finish(self) -> dict[str, list[dict[str, Any]]]:
        """Wait for the end and return every scenario's checks; all that the suite lists must have run."""
        self.process.wait(TIMEOUT_S)
        checks = _read_checks(self.folder)
        said = (self.folder / "output.txt").read_text("utf-8")
        if self.suite == PENDING:
            ran = set(re.findall(r"^=== Running scenario: (\S+) ===$", said, re.MULTILINE))
        else:
            ran = _list_scenarios(self.npm, self.suite)
        assert ran == checks.keys(), said
        assert ran, said
        return checks


def start_runs(npm: NpmTools, url: str, suites: tuple[str, ...], folder: Path) -> dict[str, Run]:
    """Start the suites on one server, all at once: most of their time they wait."""
    runs: dict[str, Run] = {}
    for suite in suites:
        results = folder / suite
        results.mkdir()
        scope = ("--suite", PENDING) if suite == PENDING else ("--suite", "all", *_scope(suite))
        command = [*npm.conformance, "server", "--url", url, *scope, "--output-dir", str(results)]
        with (results / "output.txt").open("wb") as output:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        runs[suite] = Run(npm, suite, process, results)
    return runs


def end_runs(runs: dict[str, Run]) -> None:
    """End what a failed test left running."""
    for run in runs.values():
        run.process.kill()
        run.process.wait()


def assert_known(
    checks: Mapping[str, list[dict[str, Any]]], known: Known, *, idle: frozenset[str] = frozenset()
) -> None:
    """Fail for a finding that is not known, for one known for another reason, and for one no longer found.

    Args:
        idle: scenarios that need not have checked anything; none else may be without a success or a known finding.
    """
    says = {check: text for entries in known.values() for check, text in entries.items()}
    findings = [
        (f"{scenario}/{check['id']}", f"{check['status']}: {check.get('errorMessage', '')}")
        for scenario, found in checks.items()
        for check in found
        if check["status"] not in ("SUCCESS", "INFO")
    ]
    unexpected = [f"{name} {text}" for name, text in findings if name not in says or says[name] not in text]
    assert not unexpected, "\n".join(unexpected)
    stale = {name for name in says if name.partition("/")[0] in checks} - {name for name, _ in findings}
    assert not stale, f"no longer found, take them out of the list: {sorted(stale)}"
    excused = {name.partition("/")[0] for name in says} | idle
    silent = {name for name, found in checks.items() if not any(check["status"] == "SUCCESS" for check in found)}
    assert silent <= excused, f"these scenarios checked nothing: {sorted(silent - excused)}"


@cache
def _list_scenarios(npm: NpmTools, version: str) -> set[str]:
    listed = run_tool([*npm.conformance, "list", "--server", *_scope(version)], timeout_s=TIMEOUT_S)
    return set(re.findall(r"^ +- (\S+)", listed.stdout, re.MULTILINE))


def _scope(version: str) -> tuple[str, str]:
    return ("--spec-version", version)


def _read_checks(results: Path) -> dict[str, list[dict[str, Any]]]:
    """Read the suite's files: scenario -> its checks. A folder is named server-<scenario>-<ISO time>."""
    return {
        re.sub(r"^server-(.+?)-\d{4}-\d\d-\d\dT.*$", r"\1", file.parent.name): json.loads(file.read_text("utf-8"))
        for file in results.glob("*/checks.json")
    }
