"""A proxy on loopback that counts how often a client speaks after the server did: its ways to the server and back."""

from __future__ import annotations

import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress


class CountingProxy:
    """Carries connections to a port of this machine, and counts the turns of speech in all of them."""

    def __init__(self, to_port: int) -> None:
        self._to_port = to_port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.round_trips = 0
        self.is_swallowing = False
        """Whether new connections are taken and never answered, as where every packet is lost on the way."""
        self.swallowed: list[socket.socket] = []

    def run(self) -> None:
        """Take connections until `close`."""
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                if self.is_swallowing:
                    self.swallowed.append(client)
                    continue
                server = socket.create_connection(("127.0.0.1", self._to_port))
                has_answered = threading.Event()
                has_answered.set()
                for carry in (self._carry_questions, self._carry_answers):
                    threading.Thread(target=carry, args=(client, server, has_answered), daemon=True).start()

    def close(self) -> None:
        # Closing alone would not wake who waits for a connection.
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for client in self.swallowed:
            client.close()

    def _carry_questions(self, client: socket.socket, server: socket.socket, has_answered: threading.Event) -> None:
        with suppress(OSError):
            while sent := client.recv(1 << 16):
                if has_answered.is_set():
                    self.round_trips += 1
                    has_answered.clear()
                server.sendall(sent)
            server.shutdown(socket.SHUT_WR)

    def _carry_answers(self, client: socket.socket, server: socket.socket, has_answered: threading.Event) -> None:
        with client, server, suppress(OSError):
            while sent := server.recv(1 << 16):
                has_answered.set()
                client.sendall(sent)


@contextmanager
def run_proxy(to_port: int) -> Generator[CountingProxy]:
    """Run a proxy to a port of this machine."""
    proxy = CountingProxy(to_port)
    thread = threading.Thread(target=proxy.run)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.close()
        thread.join(10)
