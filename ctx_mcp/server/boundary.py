"""The fence around stored text on its way to a model, so that a file cannot pose as instructions.

Its name holds a random part, new with every answer: no stored text can close a fence that it could not foresee. The
opening line says where the text comes from; the server's instructions say what the fence means.
"""

from __future__ import annotations

import json
import secrets
from typing import NamedTuple


class Fence(NamedTuple):
    opening: str
    closing: str


def fence_for(source: str) -> Fence:
    """Return the lines before and behind a stored text; `source` says which file or files it comes from."""
    name = f"stored-data-{secrets.token_hex(4)}"
    return Fence(f"<{name} from={json.dumps(source, ensure_ascii=False)}>", f"</{name}>")
