"""What the seed API answers: the result classes of the SDKs, with their fields in their order.

A failed call is a result with `success` False, `error_message`, `error_code` and, where the call arrived,
`request_id`. Source: agbcloud-sdk 0.12.0 and wuying-agentbay-sdk 0.22.3, `context.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


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
