"""From a code that came over the wire back to the class of the error."""

from __future__ import annotations

from ctx_mcp.domain import errors
from ctx_mcp.domain.errors import AGBError, RemoteError


def _tree(root: type[AGBError]) -> list[type[AGBError]]:
    return [root, *(error for child in root.__subclasses__() for error in _tree(child))]


def errors_by_code() -> dict[str, type[AGBError]]:
    """Return every class of the tree under its code; codes are unique (a test holds that).

    Classes derived elsewhere are not part of it: a program may derive its own.
    """
    return {error.code: error for error in _tree(AGBError) if error.__module__ == errors.__name__}


def error_from_code(code: str, message: str, *, request_id: str = "") -> AGBError:
    """Build the error the other side meant by `code`; an unknown code becomes a `RemoteError`."""
    known = errors_by_code().get(code)
    if known is None or known is RemoteError:
        return RemoteError(message, request_id=request_id, remote_code=code)
    return known(message, request_id=request_id)
