"""What `.gitignore` and `.ctxignore` files leave alone, in git's syntax. Source: gitignore(5), docs/sync.md."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any, NamedTuple, Protocol, cast

from ctx_mcp.domain.paths import ROOT
from ctx_mcp.sync.ignore_patterns import FOLDER_MARK, Pattern, read_pattern

_SET_PATTERNS = 100
_SET_BYTES = 8 * 1024 * 1024


class IgnoreRules:
    """The ignore files of a folder and of those above it, nearest first. Immutable.

    A folder that is ignored is not entered, so nothing below it can be taken in again, as in git.
    """

    def __init__(self, layers: tuple[_Layer, ...]) -> None:
        self._layers = layers

    @classmethod
    def none(cls) -> IgnoreRules:
        return cls(())

    @property
    def ignores_nothing(self) -> bool:
        return not self._layers

    def inside(self, path: str, git: str | None, own: str | None) -> IgnoreRules:
        """Return the rules with those of a folder's files in front: its `.ctxignore`, then its `.gitignore`."""
        skip = 1 if path == ROOT else len(path) + 1
        files = [_IgnoreFile(text) for text in (own, git) if text is not None]
        return IgnoreRules((*(_Layer(skip, file) for file in files if not file.is_empty), *self._layers))

    def ignores(self, path: str, *, is_folder: bool) -> bool:
        """Tell whether the nearest file that says anything about `path`, relative to the sync's root, ignores it.

        It is taken for granted that the folders above it are not ignored.
        """
        for skip, file in self._layers:
            verdict = file.verdict(path[skip:], is_folder=is_folder)
            if verdict is not None:
                return verdict
        return False


class _IgnoreFile:
    """The patterns of one file, of which the last that matches decides; they are known by their line numbers."""

    def __init__(self, text: str) -> None:
        self._ignoring: dict[int, bool] = {}
        self._names = _Literals()
        self._paths = _Literals()
        special: list[tuple[int, str]] = []
        for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
            pattern = read_pattern(line)
            if pattern is None:
                continue
            self._ignoring[number] = pattern.ignores
            if pattern.regex is not None:
                special.append((number, pattern.regex))
            else:
                (self._names if pattern.of_names else self._paths).add(number, pattern)
        self._sets = tuple(_sets_of(special))

    @property
    def is_empty(self) -> bool:
        return not self._ignoring

    def verdict(self, path: str, *, is_folder: bool) -> bool | None:
        """Tell whether a path, relative to the file's folder, is ignored; None when nothing is said about it."""
        last = max(
            self._names.last(path.rpartition("/")[2], is_folder=is_folder),
            self._paths.last(path, is_folder=is_folder),
        )
        if self._sets:
            # A name that is not UTF-8 has no spelling that a pattern could match.
            text = (path + FOLDER_MARK if is_folder else path).encode("utf-8", "replace")
            for numbers, matcher in self._sets:
                last = max(last, max((numbers[index] for index in matcher.Match(text) or ()), default=0))
        return self._ignoring[last] if last else None


class _Layer(NamedTuple):
    """One ignore file; `skip` is how many characters of a path lead to its folder."""

    skip: int
    file: _IgnoreFile


class _Literals:
    """Patterns without special characters: looked up, however many there are."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}
        self._last_of_folders: dict[str, int] = {}

    def add(self, number: int, pattern: Pattern) -> None:
        self._last_of_folders[pattern.literal] = number
        if not pattern.of_folders_only:
            self._last[pattern.literal] = number

    def last(self, text: str, *, is_folder: bool) -> int:
        """Return the number of the last one that is this text, 0 for none."""
        return (self._last_of_folders if is_folder else self._last).get(text, 0)


class _Matcher(Protocol):
    def Match(self, text: bytes) -> list[int] | None: ...  # noqa: N802 - RE2's name


def _sets_of(patterns: Sequence[tuple[int, str]]) -> Iterator[tuple[tuple[int, ...], _Matcher]]:
    """Yield sets that hold all patterns, few in each, so that none outgrows its memory."""
    for start in range(0, len(patterns), _SET_PATTERNS):
        yield from _compiled(patterns[start : start + _SET_PATTERNS])


def _compiled(patterns: Sequence[tuple[int, str]]) -> Iterator[tuple[tuple[int, ...], _Matcher]]:
    # Imported here: few folders have such a file. It is not typed. RE2 takes linear time whatever the pattern; others
    # can be made to hang a sync.
    re2: Any = import_module("re2")
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    options.dot_nl = True
    options.max_mem = _SET_BYTES
    matcher = re2.Set.FullMatchSet(options)
    try:
        for _, regex in patterns:
            matcher.Add(regex)
        matcher.Compile()
    except re2.error:
        if len(patterns) > 1:
            middle = len(patterns) // 2
            yield from _compiled(patterns[:middle])
            yield from _compiled(patterns[middle:])
        # One alone that is too large is longer than any path.
        return
    yield tuple(number for number, _ in patterns), cast("_Matcher", matcher)
