"""The page of metrics, at an address of its own: tenants must not read it."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

import anyio.to_thread
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

METRICS_PATH = "/metrics"
_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class MetricsApp:
    """Answers `/metrics`. `text` may wait for the database; it is called in a worker thread."""

    def __init__(self, text: Callable[[], bytes]) -> None:
        self._text = text

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["path"] == METRICS_PATH and scope["method"] in ("GET", "HEAD"):
            content = await anyio.to_thread.run_sync(self._text)
            response = Response(content, headers={"content-type": _TYPE})
        else:
            response = PlainTextResponse(f"there is nothing but {METRICS_PATH} here", HTTPStatus.NOT_FOUND)
        await response(scope, receive, send)
