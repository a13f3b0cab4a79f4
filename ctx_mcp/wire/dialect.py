"""What every dialect can do, in both directions. A transport and a server each hold one and know nothing more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from ctx_mcp.domain.errors import AGBError
from ctx_mcp.wire.http_messages import HttpAnswer, HttpRequest
from ctx_mcp.wire.operations import Capabilities, Operation, R, Reply


class Dialect(Protocol):
    """One way to spell operations and answers over HTTP."""

    name: str
    capabilities: Capabilities
    has_key_in_body: bool
    """The key is known only when the whole request is read; calls of such a dialect are small."""

    def spell_request(self, operation: Operation[R], api_key: str) -> HttpRequest:
        """Spell what a client sends.

        Raises:
            UnsupportedOperation: the dialect has no such call.
        """
        ...

    def read_reply(self, operation: Operation[R], status: int, headers: Mapping[str, str], body: bytes) -> Reply[R]:
        """Read what a service answered.

        Raises:
            AGBError: the failure the answer tells of, with its request id; `BackendProtocolError` when it
                cannot be read.
        """
        ...

    def serves(self, path: str) -> bool:
        """Tell whether a request is one of this dialect's."""
        ...

    def read_key(self, request: HttpRequest) -> str | None:
        """Return the API key that a client sent, if it did.

        Raises:
            InvalidArgument: the request cannot be read.
        """
        ...

    def read_request(self, request: HttpRequest) -> Operation[object]:
        """Read what a client sent.

        Raises:
            InvalidArgument: a parameter is missing or malformed.
            UnknownOperation: the path is the dialect's but names no call.
        """
        ...

    def spell_reply(self, operation: Operation[R], reply: Reply[R]) -> HttpAnswer:
        """Spell what a service answers."""
        ...

    def spell_error(self, error: AGBError) -> HttpAnswer:
        """Spell a failure, in the dialect's envelope."""
        ...
