"""Time calls to a context service that is far away, side by side in one run: our async client with many calls at a
time, the official SDKs, which make one after another, and the official async SDK with as many at a time as ours.

    uv run python benchmarks/latency.py [--latency-ms 50] [--calls 200] [--concurrency 64] [--rounds 5]

The far service is a process of its own on loopback, which answers every call after the latency. Each round asks all in
turn, cold: with a new client and no connection open. Prints medians, the CPU of this process per call, and how many
times as long and as much each SDK took as our client with the same cloud's protocol. AGB has no async SDK.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import multiprocessing
import os
import re
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from tempfile import TemporaryDirectory
from typing import Any

_REQUEST_ID = "DB13F95D-DF16-41CD-8AF4-ADFA0E030A42"
_CREATED_AT = "2026-11-21T00:11:25Z"
_NAME = "far away"
_KEY = "bench"
_AGB_ANSWER = {
    "success": True,
    "code": "ok",
    "message": "",
    "httpStatusCode": 200,
    "requestId": _REQUEST_ID,
    "data": {
        "id": "SdkCtx-501f94698c6046509",
        "name": _NAME,
        "createTime": _CREATED_AT,
        "lastUsedTime": _CREATED_AT,
        "state": "available",
    },
}
_AGENTBAY_ANSWER = {
    "Success": True,
    "Code": "ok",
    "Message": "",
    "HttpStatusCode": 200,
    "RequestId": _REQUEST_ID,
    "Data": {
        "Id": "SdkCtx-501f94698c6046509",
        "Name": _NAME,
        "CreateTime": _CREATED_AT,
        "LastUsedTime": _CREATED_AT,
        "State": "available",
    },
}
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def _spell(answer: dict[str, Any]) -> bytes:
    body = json.dumps(answer).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


_ANSWERS = {b"GET": _spell(_AGB_ANSWER), b"POST": _spell(_AGENTBAY_ANSWER)}


class FarService(asyncio.Protocol):
    """Answers whatever is asked in the words of the cloud that was asked, so cheaply that the client is measured."""

    def __init__(self, latency_s: float) -> None:
        self._latency_s = latency_s
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n") + 4) > 3:
            length = _LENGTH.search(self._received, 0, end)
            whole = end + int(length[1]) if length else end
            if len(self._received) < whole:
                return
            method = self._received.partition(b" ")[0]
            self._received = self._received[whole:]
            asyncio.get_running_loop().call_later(self._latency_s, self._answer, _ANSWERS[method])

    def _answer(self, answer: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)


def serve(latency_s: float, told: Connection) -> None:
    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(
            lambda: FarService(latency_s), "127.0.0.1", 0, backlog=1024
        )
        told.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


async def _ask_together(get: Callable[[], Awaitable[Any]], calls: int, concurrency: int) -> None:
    turns = asyncio.Semaphore(concurrency)

    async def ask() -> None:
        async with turns:
            _check(await get())

    await asyncio.gather(*(ask() for _ in range(calls)))


def _check(result: Any) -> None:
    assert result.success, result.error_message
    assert result.context.name == _NAME


def ask_with_ours(backend: str, url: str, calls: int, concurrency: int) -> None:
    from ctx_mcp import AsyncClient

    async def run() -> None:
        async with AsyncClient(backend=backend, endpoint=url, api_key=_KEY) as client:
            await _ask_together(lambda: client.context.get(name=_NAME), calls, concurrency)

    asyncio.run(run())


# The SDKs are not typed.


def ask_with_agb_sdk(url: str, calls: int, _: int) -> None:
    config: Any = importlib.import_module("agb.config")
    sdk: Any = importlib.import_module("agb").AGB(_KEY, config.Config(url, 60_000))
    for _ in range(calls):
        _check(sdk.context.get(name=_NAME))


def ask_with_agentbay_sdk(url: str, calls: int, _: int) -> None:
    agentbay: Any = importlib.import_module("agentbay")
    os.environ["AGENTBAY_ENDPOINT"] = url
    sdk = agentbay.AgentBay(_KEY)
    for _ in range(calls):
        _check(sdk.context.get(name=_NAME))


def ask_with_agentbay_async_sdk(url: str, calls: int, concurrency: int) -> None:
    agentbay: Any = importlib.import_module("agentbay")

    async def run() -> None:
        os.environ["AGENTBAY_ENDPOINT"] = url
        sdk = agentbay.AsyncAgentBay(_KEY)
        await _ask_together(lambda: sdk.context.get(name=_NAME), calls, concurrency)

    asyncio.run(run())


def silence_sdks() -> None:
    """Import the SDKs without the lines they would write, and the files they would leave in this folder."""
    with TemporaryDirectory() as folder:
        os.environ["AGENTBAY_LOG_FILE"] = f"{folder}/agentbay.log"
        for module, name in (("agb.logger", "AGBLogger"), ("agentbay._common.logger", "AgentBayLogger")):
            logger: Any = getattr(importlib.import_module(module), name)
            logger.setup(level="CRITICAL", enable_file=False, enable_console=False)


@dataclass(frozen=True)
class Contestant:
    """`rival` is whom of ours it is held against; ours have none."""

    name: str
    ask: Callable[[str, int, int], None]
    rival: str | None = None


OURS_AGB, OURS_AGENTBAY = "ours, AGB", "ours, AgentBay"
CONTESTANTS = (
    Contestant(OURS_AGB, partial(ask_with_ours, "agb")),
    Contestant(OURS_AGENTBAY, partial(ask_with_ours, "agentbay")),
    Contestant("AgentBay async SDK", ask_with_agentbay_async_sdk, OURS_AGENTBAY),
    Contestant("AGB SDK, one by one", ask_with_agb_sdk, OURS_AGB),
    Contestant("AgentBay SDK, one by one", ask_with_agentbay_sdk, OURS_AGENTBAY),
)
Rounds = dict[str, list[tuple[float, float]]]


def timed(work: Callable[[], None]) -> tuple[float, float]:
    """Return how long it took and how much CPU, in seconds."""
    started, cpu_s = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - started, time.process_time() - cpu_s


def measure(url: str, calls: int, concurrency: int, rounds: int) -> Rounds:
    # Imports and what is read once are no part of a call.
    for contestant in CONTESTANTS:
        contestant.ask(url, 1, 1)
    taken: Rounds = {contestant.name: [] for contestant in CONTESTANTS}
    for _ in range(rounds):
        for contestant in CONTESTANTS:
            taken[contestant.name].append(timed(partial(contestant.ask, url, calls, concurrency)))
    return taken


def report(taken: Rounds, calls: int, concurrency: int, rounds: int) -> None:
    print(f"{calls} calls, {concurrency} at a time where not said otherwise; medians of {rounds}")
    for contestant in CONTESTANTS:
        of_all = taken[contestant.name]
        elapsed_s, cpu_s = (statistics.median(column) for column in zip(*of_all, strict=True))
        line = f"  {contestant.name:26}{elapsed_s:8.3f} s {cpu_s / calls * 1000:8.3f} ms CPU per call"
        if contestant.rival:
            pairs = zip(of_all, taken[contestant.rival], strict=True)
            ratios = zip(*((s / our_s, cpu / our_cpu) for (s, cpu), (our_s, our_cpu) in pairs), strict=True)
            line += "   {:.1f} times our time, {:.1f} times our CPU".format(*map(statistics.median, ratios))
        print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency-ms", type=float, default=50)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    silence_sdks()
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    service = context.Process(target=serve, args=(options.latency_ms / 1000, there), daemon=True)
    service.start()
    try:
        how = (options.calls, options.concurrency, options.rounds)
        report(measure(f"http://127.0.0.1:{here.recv()}", *how), *how)
    finally:
        service.terminate()
        service.join()


if __name__ == "__main__":
    main()
