"""The official AgentBay SDK, pointed at a service of ours. It is not typed, so it is let in here only."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import warnings
from collections.abc import Callable
from functools import cache, partial
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import pytest


@cache
def sdk_module(name: str) -> ModuleType:
    """Import a module of the SDK, silenced: it would write `agentbay.log` into the working folder."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(), TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        # Its first import opens the file before anybody can ask it not to.
        patch.setenv("AGENTBAY_LOG_FILE", f"{folder}/agentbay.log")
        module = importlib.import_module(name)
        logger: Any = importlib.import_module("agentbay._common.logger")
        logger.AgentBayLogger.setup(level="CRITICAL", enable_file=False, enable_console=False)
        return module


def open_client(endpoint: str, api_key: str) -> Any:
    """Return the SDK's client, which finds its endpoint as a program's environment names it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AGENTBAY_ENDPOINT", endpoint)
        return sdk_module("agentbay").AgentBay(api_key)


def open_async_client(endpoint: str, api_key: str) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AGENTBAY_ENDPOINT", endpoint)
        return sdk_module("agentbay").AsyncAgentBay(api_key)


async def ask(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a method of the SDK's, sync or async; a blocking one in a thread of its own."""
    if inspect.iscoroutinefunction(call):
        return await call(*args, **kwargs)
    return await asyncio.to_thread(partial(call, *args, **kwargs))


async def succeed(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Do as `ask` and return the result, which must be a success with a request id."""
    result = await ask(call, *args, **kwargs)
    assert result.success, result
    assert len(result.request_id) == 36
    return result


async def fail(code: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Do as `ask` and return the result, which must be a failure that names its code and its request id."""
    result = await ask(call, *args, **kwargs)
    assert not result.success
    assert f"[{code}] " in result.error_message
    assert len(result.request_id) == 36
    return result
