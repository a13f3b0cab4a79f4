"""Programs that tests run in processes of their own, to kill them or to let them race. Not tests themselves.

Each says on stdout, a JSON line at a time, what it is about to do and what it has been told is done.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import anyio

from ctx_mcp import Client, Context
from ctx_mcp.domain.limits import Limits
from ctx_mcp.embedded import ACCOUNT, EmbeddedTransport
from ctx_mcp.store.store import open_store
from ctx_mcp.wire.operations import GetTask, StartSync

CLEAR_STEP = 500
LEASE_S = 1.0


def content_of(path: str) -> bytes:
    """Return what is written at a path: every third file is too large to be kept inline."""
    return path.encode() * (8_000 if path[-1] in "0369" else 3)


def _say(kind: str, **values: object) -> None:
    sys.stdout.write(json.dumps({"kind": kind, **values}) + "\n")
    sys.stdout.flush()


def change_until_killed(data_dir: str, name: str) -> None:
    with Client(data_dir=data_dir) as client:
        made = client.context.create(name)
        assert made.success
        for number in range(100_000):
            path = f"/d{number % 7}/{number}"
            _say("begin", write=path)
            client.context.write_file(made.context_id, path, content_of(path))
            _say("done")
            if number % 3 == 2:
                gone = f"/d{(number - 1) % 7}/{number - 1}"
                _say("begin", delete=gone)
                assert client.context.delete_file(made.context_id, gone).success
                _say("done")
            if number % 11 == 10:
                _say("begin", rename=f"{name} {number}")
                assert client.context.update(Context(made.context_id, f"{name} {number}")).success
                _say("done")
            if number % 29 == 28:
                _say("begin", clear=True)
                assert client.context.clear_async(made.context_id).success
                _say("done")


def clear_in_steps(data_dir: str, context_id: str) -> None:
    store = open_store(Path(data_dir), Limits(lease_s=LEASE_S))
    task, _ = store.tasks.start_clear(ACCOUNT, context_id, owner="to be killed", now=datetime.now(UTC))
    while not task.is_final:
        task = store.tasks.step_clear(task.task_id, "to be killed", limit=CLEAR_STEP, now=datetime.now(UTC))
        _say("step", files_done=task.files_done)
        sys.stdin.readline()


def write_and_read(data_dir: str, name: str) -> None:
    with Client(data_dir=data_dir) as client:
        made = client.context.create("shared").context_id
        for number in range(50):
            path = f"/{name}/{number}"
            client.context.write_file(made, path, content_of(path))
            assert client.context.read_file(made, path).content == content_of(path)
            client.context.write_file(made, "/together", f"{name} {number}".encode())
    _say("done")


def sync_until_killed(data_dir: str, context_id: str, folder: str, mode: str) -> None:
    """Sync a folder, and say how far it is."""

    async def run() -> None:
        async with EmbeddedTransport(Path(data_dir)) as transport:
            asked = StartSync(context_id, folder, mode=mode, context_path="/")
            (task,) = (await transport.send(asked)).result.tasks
            _say("started", task_id=task.task_id)
            while not task.is_final:
                await anyio.sleep(0.001)
                task = (await transport.send(GetTask(task_id=task.task_id))).result
                _say("step", files_done=task.files_done)
            _say("done", state=task.state)

    anyio.run(run)


PROGRAMS = {
    program.__name__: program for program in (change_until_killed, clear_in_steps, write_and_read, sync_until_killed)
}

if __name__ == "__main__":
    PROGRAMS[sys.argv[1]](*sys.argv[2:])
