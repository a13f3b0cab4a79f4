"""How API keys of ours are made and told from other texts: `ctxk_`, 200 random bits, and a checksum of both.

The prefix lets a scanner for secrets find a key in a place where none should be. The checksum tells a mistyped key from
a key that is not known, without a look into the store.
"""

from __future__ import annotations

import hashlib
import re
import zlib

from ctx_mcp.domain.identity import random_base32

PREFIX = "ctxk_"
_RANDOM_CHARS = 40
_CHECK_CHARS = 7
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_ID_SHAPE = re.compile(r"key-[a-z2-7]{17}\Z")
_SHAPE = re.compile(rf"{PREFIX}[a-z2-7]{{{_RANDOM_CHARS + _CHECK_CHARS}}}\Z")


def new_api_key() -> str:
    """Return a key that nobody has yet."""
    body = PREFIX + random_base32(_RANDOM_CHARS)
    return body + _checksum(body)


def new_key_id() -> str:
    """Return the name of a key, by which lists and logs tell of it; it proves nothing."""
    return f"key-{random_base32(17)}"


def is_key_id(text: str | None) -> bool:
    """Tell whether a text is spelled like the id of a key of a store; those of settings are called otherwise."""
    return text is not None and _ID_SHAPE.match(text) is not None


def is_api_key(text: str) -> bool:
    """Tell whether a text is spelled like a key of ours, to the last character."""
    return _SHAPE.match(text) is not None and text[-_CHECK_CHARS:] == _checksum(text[:-_CHECK_CHARS])


def digest_of(key: str) -> str:
    """Return what is stored of a key.

    One round of SHA-256 is enough: 200 random bits cannot be guessed, however fast a guess is tried. A slow hash is for
    what people think up.
    """
    return hashlib.sha256(key.encode()).hexdigest()


def _checksum(body: str) -> str:
    number = zlib.crc32(body.encode())
    return "".join(_ALPHABET[number >> 5 * place & 31] for place in range(_CHECK_CHARS))
