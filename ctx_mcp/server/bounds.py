"""How much one answer may say: hosts cut longer ones, or refuse them."""

from __future__ import annotations

from collections.abc import Sequence

from ctx_mcp.domain.errors import InvalidArgument
from ctx_mcp.server.schemas import Facts
from ctx_mcp.server.tool import Answer

MAX_TEXT_BYTES = 24_000
"""About 8,000 tokens: three bytes of UTF-8 to a token, in Latin and in Chinese script alike."""
MAX_RESULT_BYTES = 60_000
"""Text and structured content together: about 20,000 tokens."""
MAX_ERROR_CHARS = 1_000
_FRAME_BYTES = 6_000
"""What a listing says beside its rows: folder, totals, and the call that goes on, with its token."""


def fits(answer: Answer) -> bool:
    """Tell whether an answer without payload is within the bounds."""
    text_bytes = len(answer.text.encode(errors="replace"))
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
    text_bytes = result_bytes = _FRAME_BYTES
    for count, (line, row) in enumerate(zip(lines, rows, strict=True)):
        line_bytes = len(line.encode(errors="replace")) + 1
        text_bytes += line_bytes
        result_bytes += line_bytes + _structured_bytes(row) + 1
        if text_bytes > MAX_TEXT_BYTES or result_bytes > MAX_RESULT_BYTES:
            return max(count, 1)
    return len(rows) - 1


def clipped(message: str, room: int) -> str:
    """Return the message in at most `room` characters, with an ellipsis where it was longer."""
    return message if len(message) <= room else message[: max(room - 1, 0)] + "…"


def _structured_bytes(facts: Facts) -> int:
    return len(facts.model_dump_json(exclude_none=True).encode())
