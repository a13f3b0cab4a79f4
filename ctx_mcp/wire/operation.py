"""What every operation of a context service is: a frozen value in, a reply out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Operation(Generic[R_co]):
    """Base of all operations; `R_co` is the type of its answer."""

    def changed_contexts(self) -> tuple[str, ...]:
        """Return the ids of the contexts that this operation changes, of those that have an id already."""
        return ()


@dataclass(frozen=True, slots=True)
class Reply(Generic[R_co]):
    """The answer to one operation and the id by which both sides can find it in their logs.

    `lineage` is which history of its store it is of, where a service tells; a restored store has another one.
    """

    request_id: str
    result: R_co
    lineage: str | None = None
