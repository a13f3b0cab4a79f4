"""Replicas without an object store: the bytes are in a folder that they share, and their URLs lead to any of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

from ctx_mcp import AsyncClient
from tests.replicas.service import WAIT_S, run_replicas

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lifetimes import Lifetimes

LARGE = b"0123456789abcdef" * 10_000


async def test_a_url_that_one_replica_signed_is_good_at_every_other(
    postgres_url: str, tmp_path: Path, hold: Lifetimes
) -> None:
    with run_replicas(tmp_path / "shared", postgres_url, count=2) as replicas:
        urls = [replica.url for replica in replicas.running]
        each = [(await hold(AsyncClient(backend=url, api_key="key-0"))).context for url in urls]
        made = (await each[0].create("urls")).context_id
        async with httpx.AsyncClient(trust_env=False, timeout=WAIT_S) as http:
            for signer in each:
                for url, content in zip(urls, (b"small", LARGE), strict=True):
                    put = (await signer.get_file_upload_url(made, "/a b.bin")).url.replace(replicas.url, url)
                    assert put.startswith(url)
                    assert (await http.put(put, content=content)).status_code == 200
                    got = (await signer.get_file_download_url(made, "/a b.bin")).url
                    others = [got, *(got.replace(replicas.url, other) for other in urls)]
                    assert [(await http.get(other)).content for other in others] == [content] * len(others)
