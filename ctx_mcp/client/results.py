"""What the seed API answers: the result classes of the SDKs, with their fields in their order.

A failed call is a result with `success` False, `error_message`, `error_code` and, where the call arrived,
`request_id`. Source: agbcloud-sdk 0.12.0 and wuying-agentbay-sdk 0.22.3, `context.py`, `context_manager.py` and
`response.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from ctx_mcp.domain.errors import AGBError, ClientNotOpen

SessionT = TypeVar("SessionT")
T = TypeVar("T")


def failed(kind: Callable[..., T], error: AGBError) -> T:
    """Return the failed result that an error makes; a client that is not open is misuse and raises."""
    if isinstance(error, ClientNotOpen):
        raise error
    return kind(request_id=error.request_id, success=False, error_message=error.message, error_code=error.error_code)


@dataclass
class Context:
    """A context; times are ISO 8601 texts in UTC."""

    id: str
    name: str
    created_at: str | None = None
    last_used_at: str | None = None


@dataclass
class ApiResponse:
    request_id: str = ""

    def get_request_id(self) -> str:
        """Return the id by which the service's log knows this call."""
        return self.request_id


@dataclass
class OperationResult(ApiResponse):
    success: bool = False
    data: Any = None
    error_message: str = ""
    error_code: str = field(default="", kw_only=True)


@dataclass
class ContextResult(ApiResponse):
    success: bool = False
    context_id: str = ""
    context: Context | None = None
    error_message: str | None = None
    error_code: str = field(default="", kw_only=True)


@dataclass
class ContextListParams:
    """Which page of the list: `max_results` (10 by default, at most 100) rows from `next_token` on."""

    max_results: int | None = None
    next_token: str | None = None
    session_id: str | None = None


@dataclass
class ContextListResult(ApiResponse):
    success: bool = False
    contexts: list[Context] = field(default_factory=list[Context])
    next_token: str | None = None
    max_results: int | None = None
    total_count: int | None = None
    error_message: str | None = None
    error_code: str = field(default="", kw_only=True)


@dataclass
class ContextFileEntry:
    """One child of a folder. `file_type` is `FILE` or `FOLDER`, `size` in bytes."""

    file_id: str
    file_name: str
    file_path: str
    file_type: str | None = None
    gmt_create: str | None = None
    gmt_modified: str | None = None
    size: int | None = None
    status: str | None = None


@dataclass
class ContextFileListResult(ApiResponse):
    """One page; `count` is the number of all children of the folder."""

    success: bool = False
    entries: list[ContextFileEntry] = field(default_factory=list[ContextFileEntry])
    count: int | None = None
    error_message: str | None = None
    error_code: str = field(default="", kw_only=True)
    next_token: str | None = field(default=None, kw_only=True)
    max_results: int | None = field(default=None, kw_only=True)


@dataclass
class FileUrlResult(ApiResponse):
    """A presigned URL; `expire_time` is a Unix time stamp in seconds."""

    success: bool = False
    url: str = ""
    expire_time: int | None = None
    error_message: str | None = None
    error_code: str = field(default="", kw_only=True)


@dataclass(init=False)
class ClearContextResult(OperationResult):
    """`status` is the context's state: `clearing`, then `available`."""

    status: str | None = None
    context_id: str | None = None

    def __init__(
        self,
        request_id: str = "",
        success: bool = False,
        error_message: str = "",
        status: str | None = None,
        context_id: str | None = None,
        *,
        error_code: str = "",
    ) -> None:
        super().__init__(request_id, success, None, error_message, error_code=error_code)
        self.status = status
        self.context_id = context_id


@dataclass
class ContextStatusData:
    """The latest sync of one direction of one binding; times are Unix milliseconds, 0 where there is none yet.

    `status` is `Pending`, `Running`, `Success` or `Failed`, `task_type` is `upload` or `download`.
    """

    context_id: str = ""
    path: str = ""
    error_message: str = ""
    status: str = ""
    start_time: int = 0
    finish_time: int = 0
    task_type: str = ""


@dataclass
class ContextInfoResult(ApiResponse):
    success: bool = False
    context_status_data: list[ContextStatusData] = field(default_factory=list[ContextStatusData])
    error_message: str | None = None
    error_code: str = field(default="", kw_only=True)


@dataclass
class ContextSyncResult(ApiResponse):
    """How a sync ended, or with a callback, whether it began."""

    success: bool = False
    error_message: str = ""
    error_code: str = field(default="", kw_only=True)


@dataclass
class ContextBinding:
    """A context bound to a session; `policy` is JSON text, `bind_time` an ISO 8601 text in UTC."""

    context_id: str = ""
    context_name: str = ""
    path: str = ""
    policy: str = ""
    bind_time: str = ""


@dataclass
class ContextBindResult(ApiResponse):
    success: bool = False
    error_message: str = ""
    error_code: str = field(default="", kw_only=True)


@dataclass
class ContextBindingsResult(ApiResponse):
    success: bool = False
    bindings: list[ContextBinding] = field(default_factory=list[ContextBinding])
    error_message: str = ""
    error_code: str = field(default="", kw_only=True)


@dataclass
class SessionResult(ApiResponse, Generic[SessionT]):
    success: bool = False
    error_message: str = ""
    session: SessionT | None = None
    error_code: str = field(default="", kw_only=True)


@dataclass
class SessionListResult(ApiResponse):
    """One page of running sessions, newest first."""

    success: bool = False
    error_message: str = ""
    session_ids: list[str] = field(default_factory=list[str])
    next_token: str = ""
    max_results: int = 0
    total_count: int = 0
    error_code: str = field(default="", kw_only=True)


@dataclass
class SessionStatusResult(ApiResponse):
    """`status` is `RUNNING`, `DELETING` or `FINISH`; `code` says `ok` or why the call failed."""

    http_status_code: int = 0
    code: str = ""
    success: bool = False
    status: str = ""
    error_message: str = ""
    error_code: str = field(default="", kw_only=True)


@dataclass
class DeleteResult(ApiResponse):
    success: bool = False
    error_message: str = ""
    error_code: str = field(default="", kw_only=True)
