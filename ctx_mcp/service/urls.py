"""Presigned URLs of a store without its own: HMAC-SHA256 over method, context, path and expiry.

A URL gives the right to move one file one way until it expires, and nothing else. Every process on a data folder
signs with the same key, so a URL is good at any of them. Source: docs/adr/0006.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import quote, urlencode

from ctx_mcp.domain.errors import InvalidArgument, UrlExpired, UrlTampered

FILES_PREFIX = "/files/"
PUT = "PUT"
GET = "GET"


class UrlSigner:
    def __init__(self, key: bytes) -> None:
        self._key = key

    def sign(self, base_url: str, method: str, context_id: str, path: str, expires_at: int) -> str:
        """Return the URL of a file below `base_url`; every character but unreserved ones and `/` is escaped."""
        query = urlencode({"Expires": expires_at, "Signature": self._signature(method, context_id, path, expires_at)})
        return f"{base_url}{FILES_PREFIX}{context_id}{quote(path, safe='/')}?{query}"

    def check(self, method: str, context_id: str, path: str, query: Mapping[str, str], *, now_s: float) -> None:
        """Accept a request made with a URL of ours. HEAD goes with the right to GET.

        Raises:
            InvalidArgument: it is no presigned URL at all.
            UrlTampered: some part differs from what was signed.
            UrlExpired: it was good once.
        """
        expires, signature = query.get("Expires", ""), query.get("Signature", "")
        if not expires.isascii() or not expires.isdigit() or len(expires) > 12 or not signature:
            raise InvalidArgument("not a presigned URL; ask for one with file_upload_url or file_download_url")
        signed_method = GET if method == "HEAD" else method
        expected = self._signature(signed_method, context_id, path, int(expires))
        if not hmac.compare_digest(expected.encode(), signature.encode()):
            raise UrlTampered("the URL's signature does not fit its method, path and expiry; ask for a new URL")
        if now_s >= int(expires):
            raise UrlExpired("the URL has expired; ask for a new one")

    def _signature(self, method: str, context_id: str, path: str, expires_at: int) -> str:
        # No part can hold a newline, so the joined text has one reading only.
        message = "\n".join((method, context_id, path, str(expires_at)))
        return hmac.new(self._key, message.encode(), hashlib.sha256).hexdigest()
