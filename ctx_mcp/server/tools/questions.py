"""What would be lost, said to the person who decides it."""

from __future__ import annotations

from ctx_mcp.client.async_service import AsyncContextService
from ctx_mcp.domain.models import ContextRecord, FileKind
from ctx_mcp.domain.paths import ROOT
from ctx_mcp.wire.operations import ListFiles

_MAX_COUNTED = 10_000
_MAX_FOLDERS = 100
_PAGE_SIZE = 1000


async def described(service: AsyncContextService, context: ContextRecord) -> str:
    """Return a context's name and id, and how many files it has."""
    count = await counted_files(service, context.context_id)
    return f"the context {context.name!r} ({context.context_id}) with {count}"


async def counted_files(service: AsyncContextService, context_id: str, folder: str = ROOT) -> str:
    """Return how many files are below a folder, such as `3 files`; of very many files or folders, a lower bound.

    Raises:
        ContextNotFound: no such context.
    """
    count, looked = 0, 0
    operations = [ListFiles(context_id, folder, page_size=_PAGE_SIZE, max_results=_PAGE_SIZE)]
    while operations:
        if count > _MAX_COUNTED or looked == _MAX_FOLDERS:
            return f"at least {count:,} files"
        operation = operations.pop()
        page = await service.list_page(operation)
        looked += 1
        count += sum(entry.kind == FileKind.FILE for entry in page.entries)
        folders = [entry.path for entry in page.entries if entry.kind != FileKind.FILE]
        operations += [ListFiles(context_id, path, page_size=_PAGE_SIZE, max_results=_PAGE_SIZE) for path in folders]
        if page.next_token is not None:
            operations.append(
                ListFiles(context_id, operation.parent_folder_path, max_results=_PAGE_SIZE, next_token=page.next_token)
            )
    return f"{count:,} file{'' if count == 1 else 's'}"
