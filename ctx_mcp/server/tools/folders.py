"""Folders that a sync tool is given: models write `.` and `~/notes` too."""

from __future__ import annotations

from pathlib import Path

from ctx_mcp.client.async_service import AsyncContextService
from ctx_mcp.domain.errors import FolderUnusable, UnsupportedOperation
from ctx_mcp.domain.sessions import LOCAL_SESSION


def path_of(service: AsyncContextService, path: str, session_id: str | None) -> str:
    """Return a path as its session, or else this machine, spells it: paths of a remote session stay as they are.

    Raises:
        FolderUnusable: as `folder_of`.
    """
    is_here = session_id in (None, LOCAL_SESSION) or service.capabilities.local_sessions
    return folder_of(path) if is_here else path


def folder_of(path: str) -> str:
    """Return the real path of a folder of this machine, from the server's working directory on.

    Whether it may be synced is for the service to say.

    Raises:
        FolderUnusable: it is no path, there is no such home folder, or the working directory is gone.
    """
    try:
        return str(Path(path).expanduser().resolve())
    except (OSError, RuntimeError, ValueError) as error:
        raise FolderUnusable(f"{path!r} leads nowhere: {error}; give an absolute path") from error


def demand_place(service: AsyncContextService, session_id: str | None) -> None:
    """Refuse folders of this machine where nobody can sync them.

    Raises:
        UnsupportedOperation: no session is given, and the transport has no folders.
    """
    if session_id is None and not service.capabilities.local_folders:
        raise UnsupportedOperation(
            "this backend cannot reach folders of this machine; give the session_id of a session from session_create, "
            "or move single files by file_upload_url and file_download_url"
        )
