"""Where in large folders which child stands, remembered from pages that were read.

A reader who goes through a folder page by page, as the clouds' SDKs do, asks for the place behind the last page: known
here, it need not be counted to. Each process remembers its own. A place is good for one revision of its context, which
every change raises, so none is ever wrong.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, insort
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import NamedTuple

_MOST_FOLDERS = 64
_MOST_PLACES = 512


class Place(NamedTuple):
    """The child at `rank`, from 0 on in the order of names."""

    rank: int
    name: str


@dataclass(frozen=True, slots=True)
class FolderState:
    """A folder of a context as of one revision."""

    context_id: str
    path: str
    generation: int
    revision: int


@dataclass(slots=True)
class _Known:
    state: FolderState
    places: list[Place] = field(default_factory=list[Place])


class FolderPlaces:
    """Thread-safe; holds a few MiB at most, of the folders that were read last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._folders: OrderedDict[tuple[str, str], _Known] = OrderedDict()

    def note(self, state: FolderState, place: Place) -> None:
        """Remember a place in a folder; what is known of other revisions is forgotten."""
        key = (state.context_id, state.path)
        with self._lock:
            known = self._folders.pop(key, None)
            if known is None or known.state != state:
                known = _Known(state)
            self._folders[key] = known
            if place in known.places:
                return
            insort(known.places, place)
            if len(known.places) > _MOST_PLACES:
                del known.places[::2]
            if len(self._folders) > _MOST_FOLDERS:
                self._folders.popitem(last=False)

    def nearest(self, state: FolderState, rank: int) -> Place | None:
        """Return the known place that is the fewest children away from `rank`."""
        with self._lock:
            known = self._folders.get((state.context_id, state.path))
            if known is None or known.state != state:
                return None
            at = bisect_left(known.places, Place(rank, ""))
            return min(known.places[max(at - 1, 0) : at + 1], key=lambda place: abs(place.rank - rank))
