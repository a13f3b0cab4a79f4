"""Keeping the API key out of what errors say: other sides quote what they were sent, and AgentBay's calls carry it."""

from __future__ import annotations

import re
from functools import partial
from urllib.parse import quote, quote_plus

from ctx_mcp.domain.errors import AGBError

_HIDDEN = "[key]"


def hide_key(error: BaseException, key: str) -> None:
    """Take the key out of the texts of an error and of those it came from, which tracebacks show too.

    Also as it is spelled in a query or a form.
    """
    forms = sorted({key, quote(key), quote(key, safe=""), quote_plus(key)} - {""}, key=len, reverse=True)
    if not forms:
        return
    without_key = partial(_without, re.compile("|".join(map(re.escape, forms))))
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        current = pending.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        if isinstance(current, AGBError):
            current.rewrite(without_key)
        else:
            current.args = tuple(without_key(each) if isinstance(each, str) else each for each in current.args)
        pending += [current.__cause__, current.__context__]


def _without(key: re.Pattern[str], text: str) -> str:
    # What was hidden before stays as it is, whatever the key.
    return _HIDDEN.join(key.sub(_HIDDEN, part) for part in text.split(_HIDDEN))
