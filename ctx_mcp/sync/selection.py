"""Which files a policy's white lists let through. Source: docs/sync.md, `bwList.whiteLists`.

Paths are relative to the mount, absolute in spelling (`/src/a.txt`); the mount itself is `""`.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
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
    """What rows let through. Rows without regular expressions are looked up, however many there are."""

    def __init__(self, rows: Sequence[WhiteListRow], hidden: str | None = None) -> None:
        self._rows = tuple(rows)
        self._hidden = hidden
        self._exact: defaultdict[str, list[_Excludes]] = defaultdict(list)
        self._above: set[str] = set()
        self._regex: list[tuple[_Test, _Excludes]] = []
        for row in self._rows:
            excludes = _Excludes(row)
            if row.is_path_regex:
                self._regex.append((_regex(row.path), excludes))
            else:
                path = _exact(row.path)
                self._exact[path].append(excludes)
                self._above.update(above for above in _at_and_above(path) if above != path)
        self._takes_all_rows = not self._rows or any(row.is_empty for row in self._exact.get("", ()))

    @classmethod
    def of_rows(cls, rows: Sequence[WhiteListRow]) -> Selection:
        """Return what these rows let through; no row lets everything through.

        A regular expression of a path has to match the whole of it, or of a folder above it; the path begins with a
        slash when the expression does (behind `^`), else without one.

        Raises:
            InvalidArgument: a path with `..`, or a regular expression that cannot be.
        """
        return cls(rows)

    def without(self, path: str | None) -> Selection:
        """Return the selection that does not take one file."""
        return Selection(self._rows, path)

    @property
    def takes_everything(self) -> bool:
        return self._takes_all_rows and self._hidden is None

    def takes(self, path: str) -> bool:
        """Tell whether a file is synced."""
        return path != self._hidden and self._rows_take(path)

    def hides(self, path: str) -> bool:
        """Tell whether a file would be synced, were it not the one that `without` names."""
        return path == self._hidden and self._rows_take(path)

    def _rows_take(self, path: str) -> bool:
        if self._takes_all_rows:
            return True
        return any(base is not None and not row.hold(path, base) for base, row in self._rows_of(path))

    def enters(self, path: str) -> bool:
        """Tell whether a folder may hold something that is synced."""
        if self._takes_all_rows or path in self._above:
            return True
        # What a regular expression matches may be anywhere below.
        return any(base is None or not row.hold(path, base) for base, row in self._rows_of(path))

    def _rows_of(self, path: str) -> Iterator[tuple[str | None, _Excludes]]:
        """Yield the rows that name the path or a folder above it, each with what it names.

        Rows with regular expressions come in any case, with None where the expression matches neither.
        """
        for base in _at_and_above(path):
            for excludes in self._exact.get(base, ()):
                yield base, excludes
        for matches, excludes in self._regex:
            yield next((base for base in _at_and_above(path) if base and matches(base)), None), excludes


class _Excludes:
    """What one row leaves out of what it names.

    A path that begins with a slash, and then with what the row names, is relative to the mount; every other one is
    relative to what the row names.
    """

    def __init__(self, row: WhiteListRow) -> None:
        self.is_empty = not row.exclude_paths
        self._tests: tuple[_Test, ...] = ()
        self._absolute: frozenset[str] = frozenset()
        self._relative: frozenset[str] = frozenset()
        if row.is_exclude_regex:
            self._tests = tuple(_regex(text) for text in row.exclude_paths)
        else:
            self._absolute = frozenset(_exact(text) for text in row.exclude_paths if text.startswith(ROOT))
            self._relative = frozenset(_exact(text) for text in row.exclude_paths if not text.startswith(ROOT))

    def hold(self, path: str, base: str) -> bool:
        """Tell whether `path`, at or below what the row names, is left out, by itself or by a folder above it."""
        if self.is_empty:
            return False
        return any(self._name(rest, base) for rest in _at_and_above(path[len(base) :]))

    def _name(self, rest: str, base: str) -> bool:
        if self._tests:
            return bool(rest) and any(test(rest) for test in self._tests)
        if rest in self._relative or base + rest in self._absolute:
            return True
        return rest in self._absolute and not _is_at_or_below(rest, base)


def _at_and_above(path: str) -> Iterator[str]:
    """Yield the mount, the folders from there to the path, and the path itself."""
    yield ""
    end = path.find("/", 1)
    while end > 0:
        yield path[:end]
        end = path.find("/", end + 1)
    if path:
        yield path


def _is_at_or_below(path: str, folder: str) -> bool:
    return folder == "" or path == folder or path.startswith(folder + "/")


def _exact(text: str) -> str:
    """Return a path in the spelling of the walk: `/a/b`, and `""` for the mount itself."""
    segments = [segment for segment in unicodedata.normalize("NFC", text).split("/") if segment not in ("", ".")]
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
        compiled = re2.compile(unicodedata.normalize("NFC", text), options)
    except (re2.error, UnicodeEncodeError) as error:
        raise InvalidArgument(f"{text!r} is no regular expression that RE2 takes: {error}") from error
    if text.removeprefix("^").startswith("/"):
        return lambda path: compiled.fullmatch(path) is not None
    return lambda path: compiled.fullmatch(path.removeprefix("/")) is not None
