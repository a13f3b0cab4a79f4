"""Which files a policy's white lists let through. Source: docs/sync.md, `bwList.whiteLists`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NamedTuple

from ctx_mcp.domain.errors import InvalidArgument
from ctx_mcp.domain.paths import ROOT

_MAX_REGEX_BYTES = 8 * 1024 * 1024
_Test = Callable[[str], bool]


class WhiteListRow(NamedTuple):
    """One row: a path, and what below it is left out, exact or as regular expressions."""

    path: str
    exclude_paths: tuple[str, ...] = ()
    is_path_regex: bool = False
    is_exclude_regex: bool = False


class Selection:
    """Paths are relative to the mount, absolute in spelling (`/src/a.txt`)."""

    def __init__(self, rows: Sequence[_Row], hidden: str | None = None) -> None:
        self._rows = tuple(rows)
        self._hidden = hidden
        self._takes_all_rows = not self._rows or any(row.takes_everything for row in self._rows)

    @classmethod
    def of_rows(cls, rows: Sequence[WhiteListRow]) -> Selection:
        """Return what these rows let through; no row lets everything through.

        Raises:
            InvalidArgument: a path with `..`, or a regular expression that cannot be.
        """
        return cls([_Row(row) for row in rows])

    def without(self, path: str | None) -> Selection:
        """Return the selection that does not take one file."""
        return Selection(self._rows, path)

    @property
    def takes_everything(self) -> bool:
        return self._takes_all_rows and self._hidden is None

    def takes(self, path: str) -> bool:
        """Tell whether a file is synced."""
        return path != self._hidden and (self._takes_all_rows or any(row.takes(path) for row in self._rows))

    def enters(self, path: str) -> bool:
        """Tell whether a folder may hold something that is synced."""
        return self._takes_all_rows or any(row.enters(path) for row in self._rows)


class _Row:
    def __init__(self, row: WhiteListRow) -> None:
        self._path = None if row.is_path_regex else _exact(row.path)
        self._matches = _regex(row.path) if row.is_path_regex else None
        self._excluded: tuple[str, ...] = ()
        self._exclude_tests: tuple[_Test, ...] = ()
        if row.is_exclude_regex:
            self._exclude_tests = tuple(_regex(text) for text in row.exclude_paths)
        else:
            self._excluded = tuple(self._below(text) for text in row.exclude_paths)
        self.takes_everything = self._path == "" and not row.exclude_paths

    def _below(self, text: str) -> str:
        """Return an exclude as a path relative to the mount; one that names the row's own path is not doubled."""
        exact = _exact(text)
        base = self._path or ""
        if text.startswith(ROOT) and base and (exact == base or exact.startswith(base + "/")):
            return exact
        return base + exact

    def takes(self, path: str) -> bool:
        base = self._base_of(path)
        return base is not None and not self._excludes(path, base)

    def enters(self, path: str) -> bool:
        if self._path is not None and self._path.startswith(path + "/"):
            return True
        base = self._base_of(path)
        if base is None:
            # What a regular expression matches may be anywhere below.
            return self._path is None
        return not self._excludes(path, base)

    def _base_of(self, path: str) -> str | None:
        """Return the path that the row names and `path` is at or below; None when it does not concern it."""
        if self._path is not None:
            return self._path if _is_at_or_below(path, self._path) else None
        assert self._matches is not None
        for end in (*_ends_of_segments(path), len(path)):
            if self._matches(path[:end]):
                return path[:end]
        return None

    def _excludes(self, path: str, base: str) -> bool:
        if any(_is_at_or_below(path, excluded) for excluded in self._excluded):
            return True
        if not self._exclude_tests:
            return False
        rest = path[len(base) :]
        return any(
            test(rest[:end]) for test in self._exclude_tests for end in (*_ends_of_segments(rest), len(rest)) if end
        )


def _is_at_or_below(path: str, folder: str) -> bool:
    return folder == "" or path == folder or path.startswith(folder + "/")


def _ends_of_segments(path: str) -> list[int]:
    return [index for index, character in enumerate(path) if character == "/" and index]


def _exact(text: str) -> str:
    """Return a path in the spelling of the walk: `/a/b`, and `""` for the mount itself."""
    segments = [segment for segment in text.split("/") if segment not in ("", ".")]
    if ".." in segments or "\0" in text:
        raise InvalidArgument(f"{text!r} cannot be a path of a white list: it must stay below the mount path")
    return "".join(f"/{segment}" for segment in segments)


def _regex(text: str) -> _Test:
    """Return a test that matches a whole path, which begins with no slash unless the expression does."""
    # Imported here: few policies have regular expressions. It is not typed.
    re2: Any = import_module("re2")
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MAX_REGEX_BYTES
    try:
        compiled = re2.compile(text, options)
    except re2.error as error:
        raise InvalidArgument(f"{text!r} is no regular expression that RE2 takes: {error}") from error
    if text.startswith("/"):
        return lambda path: compiled.fullmatch(path) is not None
    return lambda path: compiled.fullmatch(path.removeprefix("/")) is not None
