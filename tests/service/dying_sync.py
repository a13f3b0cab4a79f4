"""A program that syncs a folder both ways and kills itself at one of the moments that matter. No test itself.

The moments are before and after each change of the folder, each stored object and each commit, and between a new file's
being written and its getting its name.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio

from ctx_mcp.domain.limits import Limits
from ctx_mcp.embedded import EmbeddedTransport
from ctx_mcp.service.sync_side import StoreSide
from ctx_mcp.sync import commits, local_changes
from ctx_mcp.wire.operations import GetTask, StartSync

SMALL_BATCH = 20
LEASE_S = 1.0


def die_at(moment: int) -> None:
    moments = itertools.count(1)

    def tick() -> None:
        if next(moments) == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(owner: object, name: str) -> None:
        call: Callable[..., Any] = getattr(owner, name)

        def watched(*arguments: Any, **options: Any) -> Any:
            tick()
            answer = call(*arguments, **options)
            tick()
            return answer

        setattr(owner, name, watched)

    for name in ("rename_file", "delete_file", "set_file_mode", "remove_empty_folder"):
        watch(local_changes, name)
    watch(local_changes.NewFile, "put")
    for name in ("keep", "commit"):
        watch(StoreSide, name)


async def sync(data_dir: str, context_id: str, folder: str) -> None:
    async with EmbeddedTransport(Path(data_dir), limits=Limits(lease_s=LEASE_S)) as transport:
        (task,) = (await transport.send(StartSync(context_id, folder, mode="both"))).result.tasks
        while not task.is_final:
            await anyio.sleep(0.005)
            task = (await transport.send(GetTask(task_id=task.task_id))).result


if __name__ == "__main__":
    # More commits than a small tree would have.
    commits.__dict__["_BATCH_CHANGES"] = SMALL_BATCH
    data_dir, context_id, folder, moment = sys.argv[1:]
    die_at(int(moment))
    anyio.run(sync, data_dir, context_id, folder)
