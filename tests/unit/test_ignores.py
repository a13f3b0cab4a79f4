"""Ignore files, as git reads them."""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from ctx_mcp.sync.ignores import IgnoreRules

TREES = 60
FILES = 100_000
NAMES = ["a", "b", "src", "build", "x.py", "y.log", "keep.log", "a b"]
LINES = """*|*.log|*.py|!*/|!*.py|!keep.log|build/|/build|src/|!src/|src/*|!src/keep.log|**/a|a/**|!a/|/*|!/src|a|!a|b/a
**/build/**|!build/|a/b|?|[ab]|[!a]|!b|x.*|\\!a|# c|a\\ b|a b|  a|a |src/**/a|!/src/a|/src/*|!x.py|*/|*/a|**|!**/*.py
[[:alpha:]]|[[:punct:][:lower:]].py|[z-a]|[!z-a]|[a\\]x]|[^a]*|x[!a]y|[.-0]|src[.-0]a|[]x].py|[!]].py|[a|a\\|***|a***
**/src/**/|src/**b/a|\\*|keep[.]log|//a|[[:foo:]]|a\\ |!|/|*.l?g|[x-\\y].py|[[:]|[[:alpha]|[a-]|[-a]|s*/
**/|!**/
a\\/"""
PATTERNS = [pattern for line in LINES.split("\n") for pattern in line.split("|")]


def rules(git: str | None, own: str | None = None) -> IgnoreRules:
    return IgnoreRules.none().inside("/", git, own)


def ignores(git: str, path: str, *, is_folder: bool = False) -> bool:
    return rules(git).ignores(path, is_folder=is_folder)


def plant(folder: Path, chance: random.Random, depth: int = 0) -> None:
    for name in chance.sample(NAMES, chance.randint(2, 6)):
        if depth < 3 and chance.random() < 0.5 and "." not in name:
            (folder / name).mkdir()
            plant(folder / name, chance, depth + 1)
        else:
            (folder / name).touch()
    if depth == 0 or chance.random() < 0.25:
        lines = (chance.choice(PATTERNS) for _ in range(chance.randint(1, 6)))
        (folder / ".gitignore").write_text("\n".join(lines) + "\n")


def walk(folder: Path, above: IgnoreRules, path: str = "/") -> set[str]:
    """Return the files that a sync would take."""
    own = folder / ".gitignore"
    here = above.inside(path, own.read_text(), None) if own.is_file() else above
    taken: set[str] = set()
    for child in folder.iterdir():
        name = f"{path.rstrip('/')}/{child.name}"
        if child.name == ".git" or here.ignores(name, is_folder=child.is_dir()):
            continue
        taken |= walk(child, here, name) if child.is_dir() else {name[1:]}
    return taken


@pytest.mark.skipif(shutil.which("git") is None, reason="git says what is right")
def test_any_tree_is_ignored_as_git_ignores_it(tmp_path: Path) -> None:
    for seed in range(TREES):
        (tmp_path / str(seed)).mkdir()
        plant(tmp_path / str(seed), random.Random(seed))
    # All in one repository: git takes a file of rules for the folder that it is in.
    git = ["git", "-c", f"core.excludesFile={tmp_path / 'none'}"]
    subprocess.run([*git, "init", "--quiet"], cwd=tmp_path, check=True)
    listing = [*git, "ls-files", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(listing, cwd=tmp_path, check=True, capture_output=True).stdout.decode()
    taken: dict[str, set[str]] = {str(seed): set() for seed in range(TREES)}
    for name in filter(None, listed.split("\0")):
        seed, _, path = name.partition("/")
        taken[seed].add(path)
    assert any(taken.values())
    for seed, names in taken.items():
        assert walk(tmp_path / seed, IgnoreRules.none()) == names, f"seed {seed}"


def test_the_nearer_file_wins_and_ctxignore_wins_over_gitignore() -> None:
    above = rules("*.log\n!b.txt\n", "!own.log\nb.txt\n")
    assert above.ignores("/a.log", is_folder=False)
    assert not above.ignores("/own.log", is_folder=False)
    assert above.ignores("/b.txt", is_folder=False)
    below = above.inside("/sub", "!a.log\n/x\n", None)
    assert not below.ignores("/sub/a.log", is_folder=False)
    assert below.ignores("/sub/x", is_folder=False)
    assert not below.ignores("/sub/sub/x", is_folder=False)
    assert below.ignores("/sub/c.log", is_folder=False)


def test_taking_a_folder_in_again_takes_in_none_of_its_ignored_files() -> None:
    below = rules(".env\ndist\n").inside("/app", "!dist/\n", None)
    assert not below.ignores("/app/dist", is_folder=True)
    assert below.ignores("/app/dist/.env", is_folder=False)


@pytest.mark.parametrize("text", ["", "\n\n", "# only this\n", "!\n/\n[a\na\\\n"])
def test_a_file_without_patterns_ignores_nothing(text: str) -> None:
    assert rules(text).ignores_nothing
    assert IgnoreRules.none().ignores_nothing
    assert not rules("a\n").ignores_nothing


@pytest.mark.parametrize(
    "line", ["[z-a]", "[[:nope:]]", "[a", "a\\", "!", "/", "a\0b", "\udcff", "(", "a{1,2}", "?" * 9000]
)
def test_a_line_that_is_no_pattern_spoils_no_other(line: str) -> None:
    assert ignores(f"*.log\n{line}\n*.tmp\n", "/a.log")
    assert ignores(f"*.log\n{line}\n*.tmp\n", "/a.tmp")
    assert not ignores(f"*.log\n{line}\n*.tmp\n", "/plain")


def test_lines_end_where_git_ends_them() -> None:
    assert ignores("*.log\r\n*.tmp\r\n", "/a.log")
    assert ignores("\ufeff*.log\n", "/a.log")
    for character in "\x0b\x0c\x1c\x85\u2028":
        assert not ignores(f"# said {character}*.log\n", "/a.log")


def test_names_are_compared_in_the_spelling_that_contexts_have() -> None:
    assert ignores("u\u0308.txt\n", "/\u00fc.txt")
    assert ignores("u\u0308*.txt\n", "/\u00fcber.txt")


def test_a_name_that_is_not_utf8_can_be_asked_about() -> None:
    assert not ignores("a*\n", "/\udcff.log")
    assert ignores("*.log\n", "/\udcff.log")


def test_the_folder_of_git_is_a_folder_like_others() -> None:
    assert not ignores("*.log\n", "/.git", is_folder=True)


@pytest.mark.parametrize("template", ["name{}", "/some/path{}", "*a{}*b*c{}*", "**/x{}*/**/y*/**/z{}?*"])
def test_thousands_of_patterns_are_obeyed_to_the_last(template: str) -> None:
    text = "".join(template.format(number, number) + "\n" for number in range(5_000))
    sample = template.replace("**/", "").replace("/**", "").replace("*", "").replace("?", "q").format(4_999, 4_999)
    began = time.process_time()
    assert ignores(text, "/" + sample.lstrip("/"))
    assert not ignores(text, "/other")
    assert time.process_time() - began < 5


def test_a_pattern_that_would_hang_others_takes_linear_time() -> None:
    began = time.process_time()
    assert not ignores("*a" * 40 + "b\n", "/" + "a" * 250)
    assert not ignores("**/" * 40 + "b\n", "/" + "a/" * 120 + "c")
    assert time.process_time() - began < 1


def test_a_large_tree_is_asked_about_in_little_time() -> None:
    lines = "*.log|build/|!keep.log|node_modules/|*.py[cod]|/dist|**/cache|docs/*.tmp|*.swp|.env|*.o|*.a|*.so|*~"
    asked = rules("\n".join([*lines.split("|"), ".DS_Store", "target/", "coverage", "*.tmp", "out/", "!/out/keep"]))
    began = time.process_time()
    assert not any(asked.ignores(f"/d{n % 100}/e{n % 1000}/f{n}.txt", is_folder=False) for n in range(FILES))
    assert time.process_time() - began < 3
