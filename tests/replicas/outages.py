"""Load on replicas whose stores go away: what was acknowledged, what was refused, how, and after how long.

`benchmarks/outages.py` does the same for a whole minute each, with more kinds of calls.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import anyio
import httpx

from tests.replicas.service import KEYS, Replicas

WAIT_S = 120.0
HEADERS = {"Authorization": f"Bearer {KEYS.partition('=')[0]}"}


class Done(NamedTuple):
    """What was acknowledged; `at_s` is when, by the event loop's clock, as in `Refusal`."""

    what: str
    at_s: float
    took_s: float


class Refusal(NamedTuple):
    """`status` is 0 where no answer came; `code` then says what came instead."""

    status: int
    code: str
    at_s: float
    took_s: float


class Refused(Exception):
    """Something was not acknowledged; `status` and `code` as in `Refusal`."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(f"{status} {code}")
        self.status = status
        self.code = code


@dataclass
class Load:
    """Workers that do one thing after another, and try nothing again; here: write a file."""

    http: httpx.AsyncClient
    context_id: str
    content: bytes
    pause_s: float = 0.0
    done: list[Done] = field(default_factory=list[Done])
    refusals: list[Refusal] = field(default_factory=list[Refusal])
    is_over: bool = False

    async def attempt(self, worker: int, number: int) -> str:
        """Do one thing and return what `is_there` finds it by, once it is acknowledged.

        Raises:
            Refused: it was not.
        """
        path = f"/{worker}/{number}"
        content = base64.b64encode(self.content).decode()
        await self.ask("WriteFile", context_id=self.context_id, file_path=path, content=content)
        return path

    async def is_there(self, what: str) -> bool:
        """Tell whether what was acknowledged is there, and whole."""
        try:
            answer = await self.ask("ReadFile", context_id=self.context_id, file_path=what)
        except Refused:
            return False
        return base64.urlsafe_b64decode(answer["content"]) == self.content

    async def ask(self, operation: str, **fields: object) -> Any:
        """Do one call of the native dialect, once, and return its result.

        Raises:
            Refused: it was answered otherwise, or not at all.
        """
        answer = await self.send("POST", f"/ctx/v1/{operation}", content=json.dumps(fields))
        return answer.json()["result"]

    async def send(
        self, method: str, url: str, *, by: httpx.AsyncClient | None = None, **options: Any
    ) -> httpx.Response:
        """Send one request, by another client than that of the calls if one is given, and return its answer.

        Raises:
            Refused: it is none of success, or there is none.
        """
        try:
            answer = await (by or self.http).request(method, url, **options)
        except httpx.TransportError as error:
            raise Refused(0, type(error).__name__) from error
        if answer.status_code != 200:
            raise Refused(answer.status_code, _code_of(answer))
        return answer

    async def work(self, worker: int) -> None:
        for number in itertools.count():
            if self.is_over:
                return
            await self.do(worker, number)
            await asyncio.sleep(self.pause_s)

    async def do(self, worker: int, number: int) -> bool:
        """Attempt one thing and note how it ended; tell whether it was acknowledged."""
        began_at = anyio.current_time()
        try:
            what = await self.attempt(worker, number)
        except Refused as refused:
            now = anyio.current_time()
            self.refusals.append(Refusal(refused.status, refused.code, now, now - began_at))
            return False
        now = anyio.current_time()
        self.done.append(Done(what, now, now - began_at))
        return True

    async def until_done(self, count: int) -> None:
        """Return when so many more things have been acknowledged."""
        wanted = len(self.done) + count
        with anyio.fail_after(WAIT_S):
            while len(self.done) < wanted:
                await asyncio.sleep(0.02)

    async def until_refused(self, count: int) -> None:
        """Return when so many more things have been refused."""
        wanted = len(self.refusals) + count
        with anyio.fail_after(WAIT_S):
            while len(self.refusals) < wanted:
                await asyncio.sleep(0.02)

    async def lost(self) -> set[str]:
        """Return what was acknowledged and is not there, or not whole."""
        return {done.what for done in self.done if not await self.is_there(done.what)}


def _code_of(answer: httpx.Response) -> str:
    try:
        return answer.json()["error"]["code"]
    except ValueError:
        # Of the balancer, or of the object store that a URL leads to.
        return "no answer of ours"


@asynccontextmanager
async def calling(replicas: Replicas) -> AsyncGenerator[httpx.AsyncClient]:
    """Give a client that goes by the balancer."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(
        base_url=replicas.url, headers=HEADERS, timeout=WAIT_S, trust_env=False, limits=limits
    ) as http:
        yield http


async def make_context(http: httpx.AsyncClient, name: str) -> str:
    made = await http.post("/ctx/v1/GetContext", json={"name": name, "create": True})
    return made.json()["result"]["context"]["context_id"]


@asynccontextmanager
async def load_on(replicas: Replicas, content: bytes, *, workers: int = 4) -> AsyncGenerator[Load]:
    """Write until the block ends."""
    async with calling(replicas) as http:
        load = Load(http, await make_context(http, "outage"), content)
        async with anyio.create_task_group() as group:
            for worker in range(workers):
                group.start_soon(load.work, worker)
            await load.until_done(workers)
            yield load
            load.is_over = True


async def until_ready(replicas: Replicas, status: int) -> None:
    """Return when every replica answers `/readyz` like this."""
    async with httpx.AsyncClient(timeout=WAIT_S, trust_env=False) as http:
        with anyio.fail_after(WAIT_S):
            for replica in replicas.running:
                while (await http.get(f"{replica.url}/readyz")).status_code != status:
                    await asyncio.sleep(0.1)
