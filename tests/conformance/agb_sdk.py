"""The official AGB SDK, pointed at a service of ours. It is not typed, so it is let in here only."""

from __future__ import annotations

import importlib
from functools import cache
from types import ModuleType
from typing import Any

_TIMEOUT_MS = 30_000


@cache
def sdk_module(name: str) -> ModuleType:
    """Import a module of the SDK, silenced: it would write `agb.log` into the working folder."""
    logger: Any = importlib.import_module("agb.logger")
    logger.AGBLogger.setup(level="CRITICAL", enable_file=False, enable_console=False)
    return importlib.import_module(name)


def open_client(endpoint: str, api_key: str) -> Any:
    """Return the SDK's client."""
    agb: Any = sdk_module("agb")
    config: Any = sdk_module("agb.config")
    return agb.AGB(api_key, config.Config(endpoint, _TIMEOUT_MS))


def open_sdk(endpoint: str, api_key: str) -> Any:
    """Return the SDK's own `context` object."""
    return open_client(endpoint, api_key).context
