"""The async client of a context service, with the seed API's names, parameters and results."""

from __future__ import annotations

from ctx_mcp.client.calls import ContextCalls
from ctx_mcp.client.results import ContextFileListResult, ContextResult
from ctx_mcp.wire.operations import ListFiles


class AsyncContextService(ContextCalls):
    """Contexts and their files. Failures of the service come back as results; misuse raises `InvalidArgument`.

    Positional orders are those of the AGB SDK; `ctx_mcp.agentbay` has those of the AgentBay SDK.
    """

    async def get(
        self,
        name: str | None = None,
        create: bool = False,
        login_region_id: str | None = None,
        context_id: str | None = None,
    ) -> ContextResult:
        """Return a context by name or by id, making it when `create` is set and the name is free.

        Raises:
            InvalidArgument: neither or both of name and id, or `create` with an id.
        """
        return await self._get(name, create, login_region_id, context_id)

    async def list_files(
        self,
        context_id: str,
        parent_folder_path: str | None = None,
        page_number: int = 1,
        page_size: int = 50,
        max_results: int | None = None,
        next_token: str | None = None,
    ) -> ContextFileListResult:
        """List the direct children of a folder in name order, by page number or, from `max_results` on, by token.

        Raises:
            InvalidArgument: an empty id.
        """
        folder = (parent_folder_path or "").strip()
        return await self._list_files(
            ListFiles(context_id, folder, page_number, page_size, max_results, next_token or None)
        )
