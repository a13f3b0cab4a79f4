"""How many lines strangers can cause in a log, and what they say."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from ctx_mcp.service.refusal_log import REFUSED_KEY, Allowance, BoundedLog, RefusalLog

_logger = logging.getLogger("ctx_mcp.test")


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


async def ask(log: RefusalLog, path: str = "/") -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(_: Any) -> None:
        pass

    await log({"type": "http", "method": "POST", "path": path, "client": ("192.0.2.1", 1)}, receive, send)


def answering(status: int, told: int | None = None) -> Any:
    async def app(scope: Any, _: Any, send: Any) -> None:
        if told is not None:
            scope[REFUSED_KEY] = told
        await send({"type": "http.response.start", "status": status, "headers": []})

    return app


@pytest.mark.parametrize("status", [400, 401, 403, 408, 413, 421, 429])
async def test_each_kind_of_refusal_is_a_warning_with_the_address(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    await ask(RefusalLog(answering(status)), "/x")
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("WARNING", f"refused with {status}: POST '/x' from 192.0.2.1")
    ]


@pytest.mark.parametrize("status", [200, 404, 409, 412])
async def test_other_answers_are_no_refusals(status: int, caplog: pytest.LogCaptureFixture) -> None:
    await ask(RefusalLog(answering(status)))
    assert caplog.messages == []


async def test_a_refusal_that_a_dialect_answers_with_200_is_logged_as_what_it_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    await ask(RefusalLog(answering(200, told=401)))
    assert caplog.messages == ["refused with 401: POST '/' from 192.0.2.1"]


async def test_a_flood_is_a_burst_and_then_so_many_lines_a_second(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    log = RefusalLog(answering(401), Allowance(3, 2.0, clock))
    for _ in range(10):
        await ask(log)
    assert len(caplog.messages) == 3
    clock.now_s += 1
    for _ in range(10):
        await ask(log)
    assert len(caplog.messages) == 3 + 1 + 2
    assert caplog.messages[3] == "7 more refusals were not logged"
    clock.now_s += 3600
    for _ in range(10):
        await ask(log)
    # An hour of peace saves up one burst, and no more.
    assert len(caplog.messages) == 3 + 1 + 2 + 1 + 3


def test_what_was_left_out_is_counted_once(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    log = BoundedLog(_logger, Allowance(1, 1.0, clock))
    for _ in range(3):
        log.tell("%s", "a line")
    clock.now_s += 1
    log.tell("%s", "a line")
    clock.now_s += 1
    log.tell("%s", "a line")
    assert caplog.messages == ["a line", "2 more refusals were not logged", "a line", "a line"]
