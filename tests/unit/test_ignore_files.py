"""What `.gitignore` and `.ctxignore` leave alone: as git itself does, and nearer files win."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from ctx_mcp.sync.ignores import IgnoreRules

PATTERNS = """
# a comment
*.log
!keep.log
build/
/only-here
docs/*.txt
**/deep/**/x
trailing\\
a[bc]d
\\!odd
 spaced
foo/**
!foo/bar
[
"""
PATHS = [
    "a.log",
    "keep.log",
    "sub/a.log",
    "sub/keep.log",
    "build/x",
    "sub/build/x",
    "builder/x",
    "only-here",
    "sub/only-here",
    "docs/a.txt",
    "docs/sub/a.txt",
    "sub/docs/a.txt",
    "deep/x",
    "a/deep/b/c/x",
    "abd",
    "aed",
    "!odd",
    "foo/x",
    "foo/bar",
    "#x",
    "plain",
]


def ignored(rules: IgnoreRules, path: str) -> bool:
    """Ask as the walk does: a folder that is ignored is not entered."""
    parts = path.split("/")
    above = ["/" + "/".join(parts[: count + 1]) for count in range(len(parts) - 1)]
    return any(rules.ignores(folder, is_folder=True) for folder in above) or rules.ignores(f"/{path}", is_folder=False)


@pytest.mark.skipif(shutil.which("git") is None and "CI" not in os.environ, reason="compares with git itself")
def test_git_agrees_about_every_path(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text(PATTERNS)
    for path in PATHS:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    listed = subprocess.run(
        ["git", "-C", str(tmp_path), "ls-files", "-z", "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\0")
    rules = IgnoreRules.none().inside("/", PATTERNS, None)
    assert [path for path in PATHS if not ignored(rules, path)] == [path for path in PATHS if path in listed]


def test_the_nearer_file_wins_and_ctxignore_over_gitignore() -> None:
    outer = IgnoreRules.none().inside("/", "*.log\n", "*.tmp\n")
    inner = outer.inside("/sub", "!*.log\n*.md\n", "!*.md\n")
    assert outer.ignores("/a.log", is_folder=False)
    assert outer.ignores("/a.tmp", is_folder=False)
    assert not inner.ignores("/sub/a.log", is_folder=False)
    assert not inner.ignores("/sub/a.md", is_folder=False)
    assert inner.ignores("/sub/a.tmp", is_folder=False)


def test_patterns_are_relative_to_their_own_folder() -> None:
    rules = IgnoreRules.none().inside("/sub", "/x\n", None)
    assert rules.ignores("/sub/x", is_folder=False)
    assert not rules.ignores("/sub/deep/x", is_folder=False)


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "[\n", "\udcff\n", "!\n"])
def test_lines_that_are_no_patterns_ignore_nothing(text: str) -> None:
    rules = IgnoreRules.none().inside("/", text, None)
    assert rules.ignores_nothing or not rules.ignores("/x", is_folder=False)


def test_a_pattern_that_explodes_elsewhere_is_answered_at_once() -> None:
    rules = IgnoreRules.none().inside("/", "*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b\n", None)
    began = time.process_time()
    assert not rules.ignores("/" + "a" * 250, is_folder=False)
    assert time.process_time() - began < 10
