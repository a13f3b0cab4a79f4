"""Folders that a sync tool is given: models write `.` and `~/notes` too."""

from __future__ import annotations

from pathlib import Path

from ctx_mcp.client.async_service import AsyncContextService
from ctx_mcp.domain.errors import FolderUnusable, UnsupportedOperation


def folder_of(service: AsyncContextService, path: str) -> str:
    """Return a folder as its session spells it.

    On this machine that is its real path, from the server's working directory on; paths of a remote session stay as
    they are. Whether it may be synced is for the service to say.

    Raises:
        FolderUnusable: it is no path, there is no such home folder, or the working directory is gone.
    """
    if not service.capabilities.local_folders:
        return path
    try:
        return str(Path(path).expanduser().resolve())
    except (OSError, RuntimeError, ValueError) as error:
        raise FolderUnusable(f"{path!r} leads nowhere: {error}; give an absolute path") from error


def demand_place(service: AsyncContextService, session_id: str | None) -> None:
    """Refuse folders of this machine where the backend cannot reach them.

    Raises:
        UnsupportedOperation: no session is given, and the backend is a remote one.
    """
    if session_id is None and not service.capabilities.local_folders:
        raise UnsupportedOperation(
            "this backend cannot reach folders of this machine; give the session_id of a session from session_create, "
            "or move single files by file_upload_url and file_download_url"
        )
