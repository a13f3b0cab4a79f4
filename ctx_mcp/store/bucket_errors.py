"""What an object store says when it cannot go on, as the domain's error: short, and without what a URL may hold."""

from __future__ import annotations

import logging
import re
from collections.abc import Generator
from contextlib import contextmanager

from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

from ctx_mcp.domain.errors import StoreUnusable

_logger = logging.getLogger(__name__)
_QUERY = re.compile(r"\?\S+")
"""Of a URL: an Azure store may have its signature there."""
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,60})</Code>")
_MAX_TOLD_CHARS = 300
NO_BUCKET = "there is no such bucket or container"


@contextmanager
def translated(missing: str | None = "an object is missing from the object store") -> Generator[None]:
    """Turn what obstore raises into the domain's error; what a caller's own iterator raises comes through.

    Args:
        missing: what to say where there is no such object; None: the caller does, and gets the FileNotFoundError.
    """
    try:
        yield
    except FileNotFoundError as error:
        if missing is None:
            raise
        raise StoreUnusable(missing) from error
    except (OSError, BaseError) as error:
        raise bucket_failure(error, "the object store failed") from error


def bucket_failure(error: Exception, what: str) -> StoreUnusable:
    """Return the error that says what failed and, as far as it is known, why; the log says a little more."""
    told = str(error)
    # Its later lines are a dump of the request.
    _logger.error("%s: %s: %s", what, type(error).__name__, _shortened(told))
    return StoreUnusable(f"{what}: {failure_reason(error)}")


def failure_reason(error: Exception) -> str:
    """Return why something failed, in a few words."""
    told = str(error)
    code = _CODE.search(told)
    status = _STATUS.search(told)
    detail = f" ({code.group(1)})" if code else f" (HTTP {status.group(1)})" if status else ""
    if isinstance(error, PermissionDeniedError | UnauthenticatedError) or (
        status and status.group(1) in ("401", "403")
    ):
        return f"it refuses these credentials{detail}"
    if code and code.group(1) in ("NoSuchBucket", "ContainerNotFound"):
        return NO_BUCKET
    if status:
        return f"it answered with an error{detail}"
    if "redential" in told or "metadata" in told:
        return "it has no credentials to use; docs/settings.md says where they are looked for"
    if "HTTP error" in told or "rror sending request" in told:
        return "it does not answer"
    return _shortened(told)


def _shortened(told: str) -> str:
    first = told.splitlines()[0] if told else ""
    return _QUERY.sub("?…", first.partition("<")[0]).strip()[:_MAX_TOLD_CHARS]
