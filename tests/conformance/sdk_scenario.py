"""A program that lives a context's life with an official SDK, as its environment points it. No test itself.

python -m tests.conformance.sdk_scenario agb|agentbay|agentbay-async SESSIONS_DIR
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from tests.conformance import agb_sdk, agentbay_sdk

MOUNT = "/tmp/work"
CONTENT = bytes(range(256)) * 64


def open_kind(kind: str) -> tuple[Any, Any]:
    """Return the SDK's client, made without arguments, and what sessions are made with."""
    if kind == "agb":
        return agb_sdk.sdk_module("agb").AGB(), agb_sdk.sdk_module("agb.session_params").CreateSessionParams
    sdk = agentbay_sdk.sdk_module("agentbay")
    return (sdk.AsyncAgentBay if kind == "agentbay-async" else sdk.AgentBay)(), sdk.CreateSessionParams


def binding(kind: str, context_id: str) -> Any:
    kinds = agb_sdk.sdk_module("agb.context_sync") if kind == "agb" else agentbay_sdk.sdk_module("agentbay")
    return kinds.ContextSync.new(context_id, MOUNT, kinds.SyncPolicy())


def live(kind: str, sessions_dir: Path, runner: asyncio.Runner) -> None:
    cloud, session_params = open_kind(kind)

    def ask(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        answer = call(*args, **kwargs)
        result = runner.run(_awaited(answer)) if inspect.isawaitable(answer) else answer
        assert result.success, (call, vars(result))
        return result

    def names() -> list[str]:
        return sorted(entry.file_name for entry in ask(cloud.context.list_files, context_id, MOUNT).entries)

    made = ask(cloud.context.get, "over TLS", create=True)
    context_id = made.context.id
    put_url = ask(cloud.context.get_file_upload_url, context_id, f"{MOUNT}/a b.bin").url
    assert put_url.startswith("https://"), put_url
    assert httpx.put(put_url, content=CONTENT).status_code == 200
    assert names() == ["a b.bin"]
    get_url = ask(cloud.context.get_file_download_url, context_id, f"{MOUNT}/a b.bin").url
    assert httpx.get(get_url).content == CONTENT

    params = session_params(image_id="linux", context_syncs=[binding(kind, context_id)])
    session = ask(cloud.create, params).session
    folder = sessions_dir / session.session_id / MOUNT.strip("/")
    assert (folder / "a b.bin").read_bytes() == CONTENT
    (folder / "made.md").write_text("in the session")
    ask(session.context.sync, context_id, MOUNT, mode="upload")
    assert names() == ["a b.bin", "made.md"]
    (folder / "late.md").write_text("at the end")
    ask(cloud.delete, session, sync_context=True)
    assert names() == ["a b.bin", "late.md", "made.md"]

    ask(cloud.context.clear, context_id, poll_interval=0.1)
    assert names() == []
    ask(cloud.context.delete, made.context)
    assert ask(cloud.context.list).contexts == []


async def _awaited(answer: Any) -> Any:
    return await answer


if __name__ == "__main__":
    with asyncio.Runner() as loop:
        live(sys.argv[1], Path(sys.argv[2]), loop)
