"""Writes into a store until it is killed, and says what it has been told is done. A program of the tests of backups.

`python -m tests.end_to_end.backup_writer NAME`; the store is that of the environment.
"""

from __future__ import annotations

import json
import sys

from ctx_mcp import Client


def content_of(path: str) -> bytes:
    """Return what is written at a path: every fourth file is an object, and no two are the same."""
    return path.encode() * (20_000 if path[-1] in "048" else 3)


def write_until_killed(name: str) -> None:
    with Client() as client:
        made = client.context.create(name).context_id
        for number in range(100_000):
            path = f"/d{number % 5}/{name}-{number}"
            client.context.write_file(made, path, content_of(path))
            _say("written", path)
            if number % 3 == 2:
                _say("deleting", gone := f"/d{(number - 1) % 5}/{name}-{number - 1}")
                assert client.context.delete_file(made, gone).success


def _say(what: str, path: str) -> None:
    sys.stdout.write(json.dumps({"what": what, "path": path}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    write_until_killed(sys.argv[1])
