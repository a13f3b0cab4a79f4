"""How much one answer may say: hosts cut longer ones, or refuse them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import ceil

from ctx_mcp.domain.errors import InvalidArgument
from ctx_mcp.server.schemas import Facts
from ctx_mcp.server.tool import Answer

MAX_TEXT_BYTES = 24_000
"""About 8,000 tokens: three bytes of UTF-8 to a token, in Latin and in Chinese script alike. See `weigh`."""
MAX_RESULT_BYTES = 60_000
"""Text and structured content together: about 20,000 tokens."""
MAX_ERROR_CHARS = 1_000
MAX_RESOURCE_BYTES = 1024 * 1024
"""Largest file that is a resource; hosts put a resource into the model's context whole."""
FRAME_BYTES = 6_000
"""What a listing says beside its rows: folder, totals, and the call that goes on, with its token."""


# What takes more tokens than its bytes say, with how many bytes more each counts for. Measured with o200k.
_DEAR_BYTES: tuple[tuple[bytes, float], ...] = (
    (bytes((*range(9), *range(11, 32), 127)), 2.0),
    (b"0123456789", 0.6),
    (b"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", 0.9),
    # First bytes of scripts that are rare in what models learn from, and of what is outside the basic plane.
    (bytes((*range(0xDC, 0xE2), 0xEA)), 4.0),
    (bytes(range(0xF0, 0xF8)), 3.5),
)
_RUN = re.compile(rb"[!-~]{24,}")
_RUN_EXTRA = 1.1


def weigh(text: str) -> int:
    """Return the size of a text in bytes of plain prose that take as many tokens; three of those are a token."""
    data = text.encode(errors="replace")
    weight = float(len(data))
    for dear, extra in _DEAR_BYTES:
        weight += extra * (len(data) - len(data.translate(None, dear)))
    weight += _RUN_EXTRA * sum(run.end() - run.start() for run in _RUN.finditer(data))
    # Rounded up, so that lines that fit one by one fit together.
    return ceil(weight)


def shown(name: str) -> str:
    """Return a stored name as it may stand in a line of text: what could end the line or turn it round is escaped."""
    if name.isprintable():
        return name
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def fits(answer: Answer) -> bool:
    """Tell whether an answer without payload is within the bounds."""
    text_bytes = weigh(answer.text)
    return text_bytes <= MAX_TEXT_BYTES and text_bytes + _structured_bytes(answer.facts) <= MAX_RESULT_BYTES


def fitting_count(lines: Sequence[str], rows: Sequence[Facts]) -> int:
    """Return how many rows, from the first on, one answer has room for; always fewer than there are, and at least one.

    Raises:
        InvalidArgument: not even one row could be left out.
    """
    if len(rows) < 2:
        raise InvalidArgument(
            "a single row is longer than an answer may be; use context_get or file_read with its name"
        )
    text_bytes = result_bytes = FRAME_BYTES
    for count, (line, row) in enumerate(zip(lines, rows, strict=True)):
        line_bytes = weigh(line) + 1
        text_bytes += line_bytes
        result_bytes += line_bytes + _structured_bytes(row) + 1
        if text_bytes > MAX_TEXT_BYTES or result_bytes > MAX_RESULT_BYTES:
            return max(count, 1)
    return len(rows) - 1


def clipped(message: str, room: int) -> str:
    """Return the message in at most `room` characters, with an ellipsis where it was longer."""
    return message if len(message) <= room else message[: max(room - 1, 0)] + "…"


def _structured_bytes(facts: Facts) -> int:
    return weigh(facts.model_dump_json(exclude_none=True))
