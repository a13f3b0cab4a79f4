"""An account that is managed through any replica: what one was told, every other one knows."""

from __future__ import annotations

import pytest

from ctx_mcp import AsyncClient, AsyncOwnAccount, Scope
from ctx_mcp.domain.errors import Unauthenticated
from tests.lifetimes import Lifetimes
from tests.replicas.service import Replicas


async def test_a_key_of_one_replica_is_good_at_all_and_ended_by_any(
    hold: Lifetimes, replicas: Replicas, key: str
) -> None:
    """A replica that never saw the key looks it up; how long others go on is in the tests of the service's keys."""

    async def account_at(place: int, text: str) -> AsyncOwnAccount:
        return (await hold(AsyncClient(backend=replicas.running[place].url, api_key=text))).account

    made = await (await account_at(0, key)).create_key(scopes=[Scope.ADMIN])
    at_second = await account_at(1, made.text)
    rotated = await at_second.rotate_key(made.key.key_id)
    assert [each.key_id for each in (await at_second.list_keys()).keys] == [made.key.key_id, rotated.key.key_id]
    await (await account_at(0, rotated.text)).revoke_key(made.key.key_id)
    with pytest.raises(Unauthenticated, match=f"{made.key.key_id} is revoked"):
        await (await account_at(2, made.text)).get()
    # Nor does the one that still takes it let it make another.
    with pytest.raises(Unauthenticated, match=f"{made.key.key_id} is revoked"):
        await at_second.create_key()
    entries = (await (await account_at(2, rotated.text)).list_audit_entries()).entries
    done = [entry for entry in entries if entry.outcome == "ok"]
    assert [(entry.operation, entry.target) for entry in done] == [
        ("RevokeKey", made.key.key_id),
        ("RotateKey", rotated.key.key_id),
        ("CreateKey", made.key.key_id),
    ]
