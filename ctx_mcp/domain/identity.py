"""Fresh identifiers. All carry at least 85 bits of randomness, so none can be guessed or met twice."""

from __future__ import annotations

import secrets

_ID_CHARS = 17
# Each character stands for eight of the 256 values of a byte, so none is likelier than another.
_BASE32 = b"abcdefghijklmnopqrstuvwxyz234567" * 8


def random_base32(chars: int) -> str:
    """Return so many random characters of lower-case base32, five bits each."""
    return secrets.token_bytes(chars).translate(_BASE32).decode()


def new_context_id() -> str:
    """Return `ctx-` and 17 lower-case base32 characters."""
    return f"ctx-{random_base32(_ID_CHARS)}"


def new_file_id() -> str:
    return f"file-{random_base32(_ID_CHARS)}"


def new_task_id() -> str:
    """Return a task id of 128 bits or more, as the MCP tasks extension asks of ids that grant access."""
    return f"task-{random_base32(26)}"


def new_session_id() -> str:
    """Return a session id of 128 bits or more: it grants access like a task id."""
    return f"session-{random_base32(26)}"


def new_object_key() -> str:
    """Return a key for stored bytes, spread over 1,024 folders so that none grows without bound."""
    text = random_base32(26)
    return f"{text[:2]}/{text[2:]}"


def new_upload_key(context_id: str) -> str:
    """Return a key for what a presigned URL of an object store brings, beside the others of its context."""
    return f"{context_id}/{random_base32(26)}"


def new_request_id() -> str:
    """Return an upper-case random UUID (RFC 9562, version 4), the shape the clouds use. Source: agbcloud-sdk 0.12.0."""
    text = secrets.token_hex(16).upper()
    variant = "89AB"[int(text[16], 16) & 3]
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{variant}{text[17:20]}-{text[20:]}"
