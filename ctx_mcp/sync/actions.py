"""What a plan consists of: one step for each file that needs something, as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from ctx_mcp.domain.sessions import ConflictRule, NoteKind, SyncMode
from ctx_mcp.domain.trees import BaseFile, ContextFile, LocalFile


@dataclass(frozen=True, slots=True)
class SyncRules:
    """What decides a plan beside the three listings.

    `copy_stamp` is the part of a conflict copy's name that tells the moment. `is_case_sensitive` False says that the
    folder takes names that differ in case only for one, `keeps_modes` False that the context has no permission bits.
    """

    mode: SyncMode
    conflict: ConflictRule = ConflictRule.KEEP_BOTH
    delete: bool = True
    copy_stamp: str = ""
    is_case_sensitive: bool = True
    max_file_bytes: int | None = None
    keeps_modes: bool = True

    @property
    def goes_up(self) -> bool:
        """Whether the context may be changed."""
        return self.mode is not SyncMode.DOWNLOAD

    @property
    def goes_down(self) -> bool:
        """Whether the folder may be changed."""
        return self.mode is not SyncMode.UPLOAD


class Action(StrEnum):
    """What to do about one file. The values are the codes of a dry run's notes."""

    UPLOAD = "upload"
    DOWNLOAD = "download"
    DROP_CONTEXT = "delete_in_context"
    DROP_LOCAL = "delete_in_folder"
    MODE_UP = "mode_in_context"
    MODE_DOWN = "mode_in_folder"
    COPY_UP = "conflict_copy_in_context"
    """The context's content becomes a conflict copy there, then the folder's takes its name."""
    COPY_DOWN = "conflict_copy_in_folder"
    """The folder's file becomes a conflict copy there, then the context's content takes its name."""
    COPY_BOTH = "conflict_copy"
    """As `COPY_DOWN`, and the copy is uploaded."""
    KEEP_DOWNLOAD = "replace_in_folder"
    """The folder's content goes into the history, then the context's takes its place."""
    KEEP_DROP_LOCAL = "drop_in_folder"
    """The folder's content goes into the history, then its file is deleted."""
    SET_BASE = "agree"
    FORGET_BASE = "forget"
    LEAVE = "leave"
    """A conflict that the mode leaves as it is."""
    REFUSE = "refuse"
    """A conflict that the rule does not settle."""
    WAIT = "wait"
    """Something of another kind has the name, and may give it up in this very sync."""


QUIET = frozenset({Action.SET_BASE, Action.FORGET_BASE, Action.WAIT})
"""What no user asks about: nothing they can see changes."""

TEXTS = {
    Action.UPLOAD: "to the context",
    Action.DOWNLOAD: "to the folder",
    Action.DROP_CONTEXT: "deleted in the context",
    Action.DROP_LOCAL: "deleted in the folder",
    Action.MODE_UP: "permission bits to the context",
    Action.MODE_DOWN: "permission bits to the folder",
    Action.COPY_UP: "the folder's content takes the name in the context; the context's becomes {copy!r} there",
    Action.COPY_DOWN: "the context's content takes the name in the folder; the folder's becomes {copy!r} there",
    Action.COPY_BOTH: "the context's content keeps the name; the folder's becomes {copy!r} on both sides",
    Action.KEEP_DOWNLOAD: "to the folder; what it holds there goes into the history first",
    Action.KEEP_DROP_LOCAL: "deleted in the folder; what it holds there goes into the history first",
    Action.LEAVE: "left as it is on both sides",
    Action.REFUSE: "not synced",
}


class Step(NamedTuple):
    """What to do about the file of this name; `conflict` says in words that both sides had changed it, and how."""

    name: str
    action: Action
    local: LocalFile | None = None
    context: ContextFile | None = None
    base: BaseFile | None = None
    copy_name: str = ""
    conflict: str | None = None

    @property
    def text(self) -> str:
        return TEXTS.get(self.action, "").format(copy=self.copy_name)

    @property
    def size_bytes(self) -> int:
        """How many bytes travel; of a conflict copy on both sides, those of the first half."""
        if self.action in (Action.UPLOAD, Action.COPY_UP):
            return 0 if self.local is None else self.local.size_bytes
        if self.action in (Action.DOWNLOAD, Action.COPY_DOWN, Action.COPY_BOTH, Action.KEEP_DOWNLOAD):
            return 0 if self.context is None else self.context.size_bytes
        return 0


class Problem(NamedTuple):
    """Something of a folder that cannot be carried. `kind` is `failure` or `skipped`; codes: docs/sync.md."""

    name: str
    kind: NoteKind
    code: str
    text: str


@dataclass(slots=True)
class FolderPlan:
    """Steps in name order, deletions in front, so that what takes a deleted file's place finds it free."""

    steps: list[Step] = field(default_factory=list[Step])
    problems: list[Problem] = field(default_factory=list[Problem])
