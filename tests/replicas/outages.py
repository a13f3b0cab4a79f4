"""Load on replicas whose stores go away: what was acknowledged, what was refused, how, and after how long."""

from __future__ import annotations

import asyncio
import base64
import itertools
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import anyio
import httpx

from tests.replicas.service import KEYS, Replicas

WAIT_S = 120.0
HEADERS = {"Authorization": f"Bearer {KEYS.partition('=')[0]}"}


class Refusal(NamedTuple):
    status: int
    code: str
    took_s: float


@dataclass
class Load:
    """Workers that write one file after another, and try nothing again. `done` are the paths that were acknowledged."""

    http: httpx.AsyncClient
    context_id: str
    content: bytes
    done: list[str] = field(default_factory=list[str])
    refusals: list[Refusal] = field(default_factory=list[Refusal])
    is_over: bool = False

    async def work(self, worker: int) -> None:
        content = base64.b64encode(self.content).decode()
        for number in itertools.count():
            if self.is_over:
                return
            path = f"/{worker}/{number}"
            began_at = anyio.current_time()
            asked = {"context_id": self.context_id, "file_path": path, "content": content}
            answer = await self.http.post("/ctx/v1/WriteFile", json=asked)
            if answer.status_code == 200:
                self.done.append(path)
            else:
                took_s = anyio.current_time() - began_at
                self.refusals.append(Refusal(answer.status_code, answer.json()["error"]["code"], took_s))

    async def until_done(self, count: int) -> None:
        """Return when so many more writes have been acknowledged."""
        wanted = len(self.done) + count
        with anyio.fail_after(WAIT_S):
            while len(self.done) < wanted:
                await asyncio.sleep(0.02)

    async def until_refused(self, count: int) -> None:
        """Return when so many more writes have been refused."""
        wanted = len(self.refusals) + count
        with anyio.fail_after(WAIT_S):
            while len(self.refusals) < wanted:
                await asyncio.sleep(0.02)

    async def lost(self) -> set[str]:
        """Return what was acknowledged and is not there, or not whole."""
        missing: set[str] = set()
        for path in self.done:
            asked = {"context_id": self.context_id, "file_path": path}
            answer = await self.http.post("/ctx/v1/ReadFile", json=asked)
            is_there = answer.status_code == 200
            if not is_there or base64.urlsafe_b64decode(answer.json()["result"]["content"]) != self.content:
                missing.add(path)
        return missing


@asynccontextmanager
async def load_on(replicas: Replicas, content: bytes, *, workers: int = 4) -> AsyncGenerator[Load]:
    """Write until the block ends."""
    async with httpx.AsyncClient(base_url=replicas.url, headers=HEADERS, timeout=WAIT_S, trust_env=False) as http:
        made = await http.post("/ctx/v1/GetContext", json={"name": "outage", "create": True})
        load = Load(http, made.json()["result"]["context"]["context_id"], content)
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
