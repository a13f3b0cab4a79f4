"""A network of its own for a program under test, which a test can cut so that packets vanish without a word.

Two lines lead to it: `service` for whoever calls the program, `stores` for what the program calls.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

_IP = shutil.which("ip")
_NAME = f"ctx{os.getpid() % 1_000_000}"
_NET = f"10.{200 + os.getpid() % 50}.{os.getpid() // 50 % 250}"


@dataclass(frozen=True)
class Network:
    """A namespace; `prefix` runs a command in it."""

    service_host: str
    stores_host: str
    prefix: Sequence[str]

    @contextmanager
    def cut(self) -> Generator[None]:
        """Lose every packet between the program and its stores, either way."""
        _run("link", "set", f"{_NAME}s", "down")
        try:
            yield
        finally:
            _run("link", "set", f"{_NAME}s", "up")


def why_not() -> str | None:
    """Return why there can be no namespaces here; None if there can."""
    if _IP is None:
        return "there is no ip command"
    made = subprocess.run([_IP, "netns", "add", f"{_NAME}try"], capture_output=True, text=True)
    if made.returncode:
        return f"namespaces are refused: {made.stderr.strip()}"
    _run("netns", "delete", f"{_NAME}try")
    return None


@contextmanager
def run_network() -> Generator[Network]:
    """Make a network, and remove it when the block ends."""
    _run("netns", "add", _NAME)
    try:
        for line, (host, far) in {"c": (1, 2), "s": (5, 6)}.items():
            _run("link", "add", f"{_NAME}{line}", "type", "veth", "peer", "name", f"far{line}", "netns", _NAME)
            _run("address", "add", f"{_NET}.{host}/30", "dev", f"{_NAME}{line}")
            _run("link", "set", f"{_NAME}{line}", "up")
            _run("-n", _NAME, "address", "add", f"{_NET}.{far}/30", "dev", f"far{line}")
            _run("-n", _NAME, "link", "set", f"far{line}", "up")
        _run("-n", _NAME, "link", "set", "lo", "up")
        yield Network(f"{_NET}.2", f"{_NET}.5", (_IP or "ip", "netns", "exec", _NAME))
    finally:
        # The lines go with it.
        _run("netns", "delete", _NAME)


def _run(*arguments: str) -> None:
    subprocess.run([_IP or "ip", *arguments], check=True, capture_output=True)
