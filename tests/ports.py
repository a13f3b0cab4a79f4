"""Ports for programs that must be told theirs, or that keep it when they are started again.

A free port that the system names is free for a moment only: it is one of those that every connection of this machine
is made from, and a program that starts a second later may find it taken. These are of another range, where nobody
takes one who was not told to.
"""

from __future__ import annotations

import random
import socket
from contextlib import suppress

_PORTS = range(20_000, 32_000)
"""Below those that Linux (from 32768), macOS and Windows (from 49152) give to whoever asks for any."""
_TRIES = 100
# Not that of the tests, which some of them seed: two processes must not draw the same ports.
_random = random.SystemRandom()


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    for port in _random.sample(_PORTS, _TRIES):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError(f"{_TRIES} ports of {_PORTS} are in use; end what listens there")
