"""A circuit that opens when an endpoint is dead, so that calls fail at once instead of each waiting its turn. Pure."""

from __future__ import annotations

_OPENS_AFTER = 5
_OPENS_AFTER_S = 2.0
_FIRST_REST_S = 2.0
_LONGEST_REST_S = 30.0


class Circuit:
    """Counts tries that brought no answer at all; after so many in a row, over so long, nobody calls for a while.

    Then one call goes through as a probe. An answer of any kind closes the circuit; none opens it for twice as long.
    Times are in seconds, of one clock.
    """

    def __init__(
        self,
        *,
        opens_after: int = _OPENS_AFTER,
        opens_after_s: float = _OPENS_AFTER_S,
        first_rest_s: float = _FIRST_REST_S,
        longest_rest_s: float = _LONGEST_REST_S,
    ) -> None:
        self._opens_after = opens_after
        self._opens_after_s = opens_after_s
        self._first_rest_s = first_rest_s
        self._longest_rest_s = longest_rest_s
        self._silent_count = 0
        self._silent_since: float | None = None
        self._rest_s = first_rest_s
        self._open_until: float | None = None
        self._is_probing = False

    @property
    def is_open(self) -> bool:
        return self._open_until is not None

    def refusal(self, now: float) -> str | None:
        """Return why no call may go out now; None lets one out.

        What becomes of it must be told: `answered`, `silent` or `dropped`.
        """
        if self._open_until is None:
            return None
        since_s = now - (self._silent_since if self._silent_since is not None else now)
        if now < self._open_until:
            return f"no answer for {since_s:.0f} s; it is tried again in {self._open_until - now:.1f} s"
        if self._is_probing:
            return f"no answer for {since_s:.0f} s; it is being tried right now"
        self._is_probing = True
        return None

    def answered(self) -> None:
        """Close the circuit: there is somebody."""
        self._silent_count = 0
        self._silent_since = self._open_until = None
        self._rest_s = self._first_rest_s
        self._is_probing = False

    def silent(self, now: float) -> None:
        """Count a try without an answer."""
        self._silent_count += 1
        self._silent_since = now if self._silent_since is None else self._silent_since
        was_probe, self._is_probing = self._is_probing, False
        if was_probe:
            self._rest_s = min(self._rest_s * 2, self._longest_rest_s)
        is_dead = self._silent_count >= self._opens_after and now - self._silent_since >= self._opens_after_s
        if was_probe or (self._open_until is None and is_dead):
            self._open_until = now + self._rest_s

    def dropped(self) -> None:
        """Count nothing: the call was cancelled before anything was known. The next one may probe."""
        self._is_probing = False
