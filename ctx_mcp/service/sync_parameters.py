"""What a sync task was asked to do, as its row keeps it: whoever carries the task on needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from ctx_mcp.domain.errors import InvalidArgument
from ctx_mcp.domain.paths import ROOT
from ctx_mcp.domain.sessions import ConflictRule, SyncMode


@dataclass(frozen=True, slots=True)
class SyncParameters:
    """`path` is the folder as the session spells it, `context_path` its prefix in the context; the sync concerns what
    is below `subfolder` of both, or the file that stands there. `policy` is the binding's, as JSON text."""

    path: str
    context_path: str
    mode: str = SyncMode.UPLOAD
    conflict: str = ConflictRule.KEEP_BOTH
    delete: bool = True
    dry_run: bool = False
    subfolder: str = ROOT
    policy: str | None = None
    obeys_ignore_files: bool = True

    def to_json(self) -> dict[str, str | bool | None]:
        return asdict(self)

    @classmethod
    def from_json(cls, row: Mapping[str, object]) -> SyncParameters:
        """Read what `to_json` wrote; a key this version does not know is ignored."""
        known = {name: row[name] for name in cls.__slots__ if name in row}
        return cls(**known)  # type: ignore[arg-type]


def chosen(kind: type[SyncMode | ConflictRule], given: str | None, default: str, parameter: str) -> str:
    """Return one of the words of `kind`.

    Raises:
        InvalidArgument: it is none of them.
    """
    words = [str(word) for word in kind]
    text = (given or default).strip().lower()
    if text not in words:
        raise InvalidArgument(f"{parameter} is {text[:40]!r}; allowed are {', '.join(words)}")
    return text
