"""Time calls to a context service that is far away, side by side in one run: our async client, with many calls at a
time, and the official AGB SDK, which makes one after another.

    uv run python benchmarks/latency.py [--latency-ms 50] [--calls 200] [--concurrency 64] [--rounds 5]

The far service is a process of its own on loopback, which answers every call after the latency. Each round asks both,
cold: with a new client and no connection open. Prints medians, the CPU of this process per call, and the ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

_ENVELOPE = {
    "success": True,
    "code": "ok",
    "message": "",
    "httpStatusCode": 200,
    "requestId": "DB13F95D-DF16-41CD-8AF4-ADFA0E030A42",
    "data": {
        "id": "SdkCtx-501f94698c6046509",
        "name": "far away",
        "createTime": "2026-11-21T00:11:25Z",
        "lastUsedTime": "2026-11-21T00:11:25Z",
        "state": "available",
    },
}
_BODY = json.dumps(_ENVELOPE).encode()
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(_BODY), _BODY)


class FarService(asyncio.Protocol):
    """Answers whatever is asked, so cheaply that what is measured is the client. Calls must have no body."""

    def __init__(self, latency_s: float) -> None:
        self._latency_s = latency_s
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *asked, self._received = (self._received + data).split(b"\r\n\r\n")
        for _ in asked:
            asyncio.get_running_loop().call_later(self._latency_s, self._answer)

    def _answer(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(_ANSWER)


def serve(latency_s: float, told: Connection) -> None:
    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(
            lambda: FarService(latency_s), "127.0.0.1", 0, backlog=1024
        )
        told.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


def ask_with_ours(url: str, calls: int, concurrency: int) -> None:
    from ctx_mcp import AsyncClient

    async def run() -> None:
        turns = asyncio.Semaphore(concurrency)

        async def ask(client: AsyncClient) -> None:
            async with turns:
                result = await client.context.get(name="far away")
                assert result.success, result.error_message

        async with AsyncClient(backend="agb", endpoint=url, api_key="bench") as client:
            await asyncio.gather(*(ask(client) for _ in range(calls)))

    asyncio.run(run())


def ask_with_sdk(url: str, calls: int) -> None:
    # Not typed.
    agb: Any = importlib.import_module("agb")
    config: Any = importlib.import_module("agb.config")
    sdk = agb.AGB("bench", config.Config(url, 60_000))
    for _ in range(calls):
        result = sdk.context.get(name="far away")
        assert result.success, result.error_message


def timed(work: Callable[[], None]) -> tuple[float, float]:
    """Return how long it took and how much CPU, in seconds."""
    started, cpu_s = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - started, time.process_time() - cpu_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency-ms", type=float, default=50)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    calls: int = options.calls
    logger: Any = importlib.import_module("agb.logger")
    logger.AGBLogger.setup(level="CRITICAL", enable_file=False, enable_console=False)
    here, there = multiprocessing.get_context("spawn").Pipe()
    service = multiprocessing.get_context("spawn").Process(
        target=serve, args=(options.latency_ms / 1000, there), daemon=True
    )
    service.start()
    try:
        url = f"http://127.0.0.1:{here.recv()}"
        # Imports and what is read once are no part of a call.
        ask_with_ours(url, 1, 1)
        ask_with_sdk(url, 1)
        ours: list[tuple[float, float]] = []
        theirs: list[tuple[float, float]] = []
        for _ in range(options.rounds):
            ours.append(timed(lambda: ask_with_ours(url, calls, options.concurrency)))
            theirs.append(timed(lambda: ask_with_sdk(url, calls)))
    finally:
        service.terminate()
        service.join()
    report(calls, options.concurrency, ours, theirs)


def report(calls: int, concurrency: int, ours: list[tuple[float, float]], theirs: list[tuple[float, float]]) -> None:
    names = (f"ours, {concurrency} at a time", "AGB SDK, one by one")
    print(f"{calls} calls, medians of {len(ours)}")
    for name, rounds in zip(names, (ours, theirs), strict=True):
        elapsed_s = statistics.median(elapsed_s for elapsed_s, _ in rounds)
        cpu_ms = statistics.median(cpu_s for _, cpu_s in rounds) / calls * 1000
        print(f"  {name:24}{elapsed_s:8.3f} s {cpu_ms:8.3f} ms CPU per call")
    times = [their_s / our_s for (our_s, _), (their_s, _) in zip(ours, theirs, strict=True)]
    cpus = [their_s / our_s for (_, our_s), (_, their_s) in zip(ours, theirs, strict=True)]
    print(f"  ours is {statistics.median(times):.1f} times faster, at 1/{statistics.median(cpus):.1f} of the CPU")


if __name__ == "__main__":
    main()
