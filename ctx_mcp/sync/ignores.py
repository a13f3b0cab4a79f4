"""What `.gitignore` and `.ctxignore` files leave alone, in git's syntax. Source: gitignore(5), docs/sync.md."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from ctx_mcp.domain.paths import ROOT

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

_logger = logging.getLogger(__name__)
_MAX_LINES = 10_000


class _Layer(NamedTuple):
    """One ignore file; `skip` is how many characters of a path lead to its folder."""

    skip: int
    spec: GitIgnoreSpec


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
        specs = [_spec_of(text) for text in (own, git) if text is not None]
        return IgnoreRules((*(_Layer(skip, spec) for spec in specs if spec is not None), *self._layers))

    def ignores(self, path: str, *, is_folder: bool) -> bool:
        """Tell whether the nearest file that says anything about `path`, relative to the sync's root, ignores it."""
        for skip, spec in self._layers:
            found = spec.check_file(path[skip:] + "/" if is_folder else path[skip:])
            if found.include is None or (is_folder and _is_of_content(spec, found.index)):
                continue
            return found.include
        return False


def _is_of_content(spec: GitIgnoreSpec, index: int | None) -> bool:
    """Tell whether a pattern (`foo/**`) means what is in a folder and not the folder itself, which it matches here."""
    if index is None:
        return False
    text: object = cast("Any", spec.patterns[index]).pattern
    return isinstance(text, str) and text.rstrip().endswith("/**")


def _spec_of(text: str) -> GitIgnoreSpec | None:
    """Read an ignore file. A line that is no pattern is skipped, as git does."""
    # Imported here: few folders have such a file.
    from pathspec import GitIgnoreSpec

    lines = [line for line in text.splitlines()[:_MAX_LINES] if _is_pattern(line)]
    # RE2 takes linear time whatever the pattern; others can be made to hang a sync.
    spec = GitIgnoreSpec.from_lines(lines, backend="re2")
    return spec if any(pattern.include is not None for pattern in spec.patterns) else None


def _is_pattern(line: str) -> bool:
    from pathspec.patterns.gitignore.base import GitIgnorePatternError
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

    try:
        # Bytes that are not UTF-8 match no name that a context can have.
        line.encode()
        GitIgnoreSpecPattern(line)
    except (UnicodeEncodeError, GitIgnorePatternError, ValueError):
        _logger.debug("a line of an ignore file is no pattern: %.100r", line)
        return False
    return True
