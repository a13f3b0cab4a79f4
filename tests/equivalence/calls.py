"""Every call of the two SDKs that concerns contexts, with each of its parameters, and with texts that need escaping."""

from __future__ import annotations

import asyncio
import inspect
import threading
from typing import Any

from tests.equivalence.sides import Call

ODD = "né am&e=1+2%20 三/x?#"
ODD_PATH = "/tmp/a b/né&x=1+2%20.三"
_ID = "SdkCtx-1"
_WAIT_S = 20


def every_policy(kinds: Any) -> Any:
    """Return a policy of which every part is other than by default."""
    return kinds.SyncPolicy(
        kinds.UploadPolicy(False, kinds.UploadStrategy.UPLOAD_BEFORE_RESOURCE_RELEASE, kinds.UploadMode.ARCHIVE),
        kinds.DownloadPolicy(False, kinds.DownloadStrategy.DOWNLOAD_ASYNC),
        kinds.DeletePolicy(False),
        kinds.ExtractPolicy(False, False, True),
        kinds.RecyclePolicy(kinds.Lifecycle.LIFECYCLE_30DAYS, ["a b", "c"]),
        kinds.BWList([kinds.WhiteList("/src", ["/né", "b"]), kinds.WhiteList("/doc")]),
        kinds.MappingPolicy("/old"),
    )


def agentbay_policy(kinds: Any) -> Any:
    """Return a policy with what AgentBay's has more than AGB's."""
    upload = kinds.UploadPolicy(upload_mode=kinds.UploadMode.ARCHIVE, archive_exclude_paths=["a", "b/né"])
    rows = [kinds.WhiteList("/s.*c", ["x[0-9]"], True, True), kinds.WhiteList("/doc", [".*"], is_exclude_regex=True)]
    return kinds.SyncPolicy(upload_policy=upload, bw_list=kinds.BWList(rows))


async def sync_with_callback(manager: Any, _: Any) -> Any:
    """Sync one binding with a callback, and wait until that was called."""
    is_done = threading.Event()

    def told(_: bool) -> None:
        is_done.set()

    result = manager.sync(_ID, "/home/x", "upload", told, max_retries=3, retry_interval=10)
    result = await result if inspect.isawaitable(result) else result
    assert await asyncio.to_thread(is_done.wait, _WAIT_S)
    return result


CONTEXT_CALLS = (
    Call("list", lambda c, k: c.list()),
    Call("list with params", lambda c, k: c.list(k.ContextListParams())),
    Call("list a page", lambda c, k: c.list(k.ContextListParams(max_results=3, next_token="32=&+%20é"))),
    Call("list with an empty token", lambda c, k: c.list(k.ContextListParams(max_results=3, next_token=""))),
    Call("get by name", lambda c, k: c.get("my ctx-1")),
    Call("get by odd name", lambda c, k: c.get(name=ODD)),
    Call("get or create", lambda c, k: c.get(ODD, create=True)),
    Call("get by id", lambda c, k: c.get(context_id=_ID)),
    Call("create", lambda c, k: c.create("my ctx-1")),
    Call("create by odd name", lambda c, k: c.create(ODD)),
    Call("update", lambda c, k: c.update(k.Context(_ID, ODD))),
    Call("delete", lambda c, k: c.delete(k.Context(_ID, "n"))),
    Call("delete with times", lambda c, k: c.delete(k.Context(id=_ID, name="n", created_at="a", last_used_at="b"))),
    Call("clear_async", lambda c, k: c.clear_async(_ID)),
    Call("get_clear_status", lambda c, k: c.get_clear_status(_ID)),
    Call("clear", lambda c, k: c.clear(_ID, timeout=1, poll_interval=0.01)),
    Call("get_file_upload_url", lambda c, k: c.get_file_upload_url(_ID, ODD_PATH)),
    Call("get_file_download_url", lambda c, k: c.get_file_download_url(_ID, ODD_PATH)),
    Call("delete_file", lambda c, k: c.delete_file(_ID, ODD_PATH)),
    Call("list_files", lambda c, k: c.list_files(_ID, "/tmp")),
    Call("list_files of odd path", lambda c, k: c.list_files(_ID, ODD_PATH)),
    Call("list_files of the root", lambda c, k: c.list_files(_ID, "")),
    Call("list_files by page", lambda c, k: c.list_files(_ID, "/tmp", 2, 5)),
    Call("list_files by named page", lambda c, k: c.list_files(_ID, "/tmp", page_number=2, page_size=5)),
)

SESSION_CALLS = (
    Call("client.get", lambda c, k: c.get("s-1"), "client"),
    Call("client.list", lambda c, k: c.list(), "client"),
    Call("client.list by labels", lambda c, k: c.list({"p": ODD}, 1, 3), "client"),
    Call("client.list a later page", lambda c, k: c.list(page=3, limit=2), "client"),
    Call("get_status", lambda s, k: s.get_status(), "session"),
    Call("set_labels", lambda s, k: s.set_labels({"p": ODD, "k": "v"}), "session"),
    Call("get_labels", lambda s, k: s.get_labels(), "session"),
    Call("keep_alive", lambda s, k: s.keep_alive(), "session"),
    Call("session.delete", lambda s, k: s.delete(), "session"),
    Call("session.delete with sync", lambda s, k: s.delete(sync_context=True), "session"),
    Call("info", lambda m, k: m.info(), "session.context"),
    Call("info of one", lambda m, k: m.info(_ID, ODD_PATH, "upload"), "session.context"),
    Call("info of a path", lambda m, k: m.info(path="/home/x"), "session.context"),
    Call("info of nothing", lambda m, k: m.info("", "", ""), "session.context"),
    Call("client.delete", lambda both, k: both[0].delete(both[1]), "client and session"),
    Call("client.delete with sync", lambda both, k: both[0].delete(both[1], sync_context=True), "client and session"),
    Call("sync", lambda m, k: m.sync(), "session.context"),
    Call("sync, few looks", lambda m, k: m.sync(max_retries=2, retry_interval=10), "session.context"),
    Call("sync of one", lambda m, k: m.sync(_ID, "/home/x"), "session.context"),
    Call("sync by names", lambda m, k: m.sync(context_id=_ID, path=ODD_PATH, mode="download"), "session.context"),
    Call("sync up", lambda m, k: m.sync(mode="upload"), "session.context"),
)

AGB_CALLS = (
    *CONTEXT_CALLS,
    *SESSION_CALLS,
    Call("get in a region", lambda c, k: c.get("n", True, "us-east-1")),
    Call("get in no region", lambda c, k: c.get("n", False, "")),
    Call("get by id, named", lambda c, k: c.get(None, False, None, _ID)),
    Call("list_files of no folder", lambda c, k: c.list_files(_ID)),
    Call("list_files of None", lambda c, k: c.list_files(_ID, None)),
    Call("blanks around a name", lambda c, k: c.get("  my ctx-1 ")),
    Call("blanks around a new name", lambda c, k: c.create("  my ctx-1 ")),
    Call("blanks around an id", lambda c, k: c.get(context_id="\tSdkCtx-1 ")),
    Call("blanks around a path", lambda c, k: c.delete_file(" SdkCtx-1 ", " /tmp/a ")),
    Call("blanks around a folder", lambda c, k: c.list_files(" SdkCtx-1 ", " /tmp ")),
    Call("blanks around a context's fields", lambda c, k: c.update(k.Context(" SdkCtx-1 ", " new "))),
    Call("client.create", lambda c, k: c.create(k.CreateSessionParams(image_id="agb-code-space-1")), "client"),
    Call(
        "client.create with all",
        lambda c, k: c.create(
            k.CreateSessionParams(
                labels={"p": ODD},
                image_id="img 1&=+é",
                context_syncs=[
                    k.ContextSync(_ID, "/home/x", k.SyncPolicy()),
                    k.ContextSync("SdkCtx-2", "/tmp/b", every_policy(k)),
                ],
                idle_release_timeout=300,
            )
        ),
        "client",
    ),
    Call(
        "client.create with empty values",
        lambda c, k: c.create(k.CreateSessionParams({}, "img", None, [], None, None)),
        "client",
    ),
    Call("sync with callback", sync_with_callback, "session.context"),
)


AGENTBAY_CALLS = (
    *CONTEXT_CALLS,
    *SESSION_CALLS,
    Call("list of a session", lambda c, k: c.list(k.ContextListParams(5, "32", "s-1"))),
    Call("get by id, third", lambda c, k: c.get(None, False, _ID)),
    Call("start_clear", lambda c, k: c.start_clear(_ID)),
    Call("blanks around a name", lambda c, k: c.get("  my ctx-1 ")),
    Call("blanks around a path", lambda c, k: c.delete_file(" SdkCtx-1 ", " /tmp/a ")),
    Call("blanks around a folder", lambda c, k: c.list_files(_ID, " /tmp ")),
    Call("list_files by token", lambda c, k: c.list_files(_ID, "/tmp", max_results=2, next_token="32=&+é")),
    Call("list_files by first token", lambda c, k: c.list_files(_ID, "/tmp", max_results=2)),
    Call("list_files by token alone", lambda c, k: c.list_files(_ID, "/tmp", next_token="32")),
    Call("list_files by all", lambda c, k: c.list_files(_ID, "/tmp", 3, 4, 2, "32")),
    Call("client.list by status", lambda c, k: c.list(None, None, None, "PAUSED", "img 1"), "client"),
    Call("client.list running", lambda c, k: c.list({}, 2, 2, status="RUNNING"), "client"),
    Call("list_bindings", lambda m, k: m.list_bindings(), "session.context"),
    Call("bind", lambda m, k: m.bind(k.ContextSync(_ID, "/home/x")), "session.context"),
    Call(
        "bind without waiting",
        lambda m, k: m.bind(k.ContextSync("SdkCtx-2", ODD_PATH, every_policy(k)), wait_for_completion=False),
        "session.context",
    ),
    Call("client.create with nothing", lambda c, k: c.create(), "client"),
    Call(
        "client.create with all",
        lambda c, k: c.create(
            k.CreateSessionParams(
                {"p": ODD},
                "img 1&=+é",
                300,
                context_syncs=[
                    k.ContextSync(_ID, "/home/x"),
                    k.ContextSync("SdkCtx-2", "/tmp/b", k.SyncPolicy()),
                    k.ContextSync("SdkCtx-2", "/tmp/c", every_policy(k)),
                    k.ContextSync.new("SdkCtx-2", "/tmp/d").with_policy(agentbay_policy(k)),
                ],
            )
        ),
        "client",
    ),
    Call(
        "client.create without waiting",
        lambda c, k: c.create(
            k.CreateSessionParams(context_syncs=[k.ContextSync(_ID, "/home/x", beta_wait_for_completion=False)])
        ),
        "client",
    ),
)
