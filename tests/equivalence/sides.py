"""The official SDKs and our clients as sides that are asked the same thing: one expression, tried on each.

Both have the same methods and the same classes, so a `Call` is written once. What is blocking on one side and awaited
on another is evened out here.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any

import ctx_mcp.agb
import ctx_mcp.agentbay
from ctx_mcp.client.http_transport import HttpTransport
from ctx_mcp.client.retries import RetryPolicy
from ctx_mcp.client.sessions import AsyncSessions
from ctx_mcp.client.waiting import Background
from ctx_mcp.wire.agb import AgbDialect
from ctx_mcp.wire.agentbay import AgentBayDialect
from ctx_mcp.wire.dialect import Dialect
from tests.conformance import agb_sdk, agentbay_sdk
from tests.equivalence.recording import Recorded, Recording

KEY = "key-1"
SESSION_ID = "s-1"


@dataclass(frozen=True)
class Call:
    """`ask` gets the object that `of` names and the side's classes, by name."""

    name: str
    ask: Callable[[Any, Any], Any]
    of: str = "context"


@dataclass(frozen=True)
class Heard:
    """What one side sent for a call, and what it made of the answer: a result, or the error it raised."""

    requests: list[Recorded]
    outcome: Any


Side = Callable[[Recording, Call], Heard]


def ask_agb_sdk(recording: Recording, call: Call) -> Heard:
    client = agb_sdk.open_client(recording.url, KEY)
    return _ask(recording, call, client, _agb_kinds())


def ask_agentbay_sdk(recording: Recording, call: Call) -> Heard:
    client = agentbay_sdk.open_client(recording.url, KEY)
    return _ask(recording, call, client, agentbay_sdk.sdk_module("agentbay"))


def ask_async_agentbay_sdk(recording: Recording, call: Call) -> Heard:
    client = agentbay_sdk.open_async_client(recording.url, KEY)
    return asyncio.run(_ask_async(recording, call, client, agentbay_sdk.sdk_module("agentbay")))


def ask_our_agb(recording: Recording, call: Call) -> Heard:
    with ctx_mcp.agb.Client("agb", recording.url, KEY) as client:
        return _ask(recording, call, client, ctx_mcp.agb)


def ask_our_async_agb(recording: Recording, call: Call) -> Heard:
    async def talk() -> Heard:
        async with ctx_mcp.agb.AsyncClient("agb", recording.url, KEY) as client:
            return await _ask_async(recording, call, client, ctx_mcp.agb)

    return asyncio.run(talk())


def ask_our_agentbay(recording: Recording, call: Call) -> Heard:
    with ctx_mcp.agentbay.Client("agentbay", recording.url, KEY) as client:
        return _ask(recording, call, client, ctx_mcp.agentbay)


def ask_our_async_agentbay(recording: Recording, call: Call) -> Heard:
    async def talk() -> Heard:
        async with ctx_mcp.agentbay.AsyncClient("agentbay", recording.url, KEY) as client:
            return await _ask_async(recording, call, client, ctx_mcp.agentbay)

    return asyncio.run(talk())


def ask_our_agb_once(recording: Recording, call: Call) -> Heard:
    """Ask as `ask_our_async_agb` does, and never again: what a refusal means is looked at, not what follows from it."""
    return asyncio.run(_ask_once(recording, call, AgbDialect(), ctx_mcp.agb))


def ask_our_agentbay_once(recording: Recording, call: Call) -> Heard:
    """The same for AgentBay."""
    return asyncio.run(_ask_once(recording, call, AgentBayDialect(), ctx_mcp.agentbay))


async def _ask_once(recording: Recording, call: Call, dialect: Dialect, kinds: Any) -> Heard:
    transport = HttpTransport(recording.url, KEY, dialect, policy=RetryPolicy(max_tries=1))
    async with transport, Background() as background:
        sessions = AsyncSessions(transport, background)
        client = SimpleNamespace(
            context=kinds.AsyncContextService(transport), get=sessions.get, list=sessions.list, create=sessions.create
        )
        return await _ask_async(recording, call, client, kinds)


def _ask(recording: Recording, call: Call, client: Any, kinds: Any) -> Heard:
    session = client.get(SESSION_ID).session if "session" in call.of else None
    recording.take()
    with _noting() as noted:
        noted.outcome = call.ask(_subject(call, client, session), kinds)
        if inspect.iscoroutine(noted.outcome):
            # The AGB SDK has one coroutine among its blocking methods.
            noted.outcome = asyncio.run(noted.outcome)
    return Heard(recording.take(), noted.outcome)


async def _ask_async(recording: Recording, call: Call, client: Any, kinds: Any) -> Heard:
    session = (await client.get(SESSION_ID)).session if "session" in call.of else None
    recording.take()
    with _noting() as noted:
        noted.outcome = await call.ask(_subject(call, client, session), kinds)
    return Heard(recording.take(), noted.outcome)


@contextmanager
def _noting() -> Generator[SimpleNamespace]:
    """Keep an error of a call as its outcome: to refuse is an answer too."""
    noted = SimpleNamespace(outcome=None)
    try:
        yield noted
    except Exception as error:
        noted.outcome = error


def _subject(call: Call, client: Any, session: Any) -> Any:
    subjects = {
        "context": lambda: client.context,
        "client": lambda: client,
        "session": lambda: session,
        "client and session": lambda: (client, session),
        "session.context": lambda: session.context,
    }
    return subjects[call.of]()


@cache
def _agb_kinds() -> Any:
    """Return the classes of the AGB SDK, which has them in several modules."""
    modules = [agb_sdk.sdk_module(f"agb.{name}") for name in ("context", "context_sync", "session_params")]
    return SimpleNamespace(**{name: value for module in modules for name, value in vars(module).items()})
