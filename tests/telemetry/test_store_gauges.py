"""What the store tells of itself when metrics are read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ctx_mcp.domain.errors import LeaseLost
from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.embedded import ACCOUNT
from ctx_mcp.store.gauges import StoreGauges
from ctx_mcp.store.store import open_store
from ctx_mcp.telemetry.steps import gauged, read_gauges
from tests.telemetry.observed import told

NOW = datetime.now(UTC)
EARLIER = NOW - timedelta(hours=1)


@pytest.mark.both_engines
def test_tasks_sweeps_and_connections_are_told(data_dir: Path, database_url: str | None) -> None:
    store = open_store(data_dir, DEFAULT_LIMITS, database_url)
    try:
        context, _ = store.contexts.get_or_create(ACCOUNT, "cleared", now=EARLIER)
        store.tasks.start_clear(ACCOUNT, context.context_id, owner="me", now=EARLIER)
        pool = "write" if database_url is None else "rows"
        with told() as gathered, gauged(StoreGauges(store.database)):
            sweep = store.tasks.start_sweep("me", interval=timedelta(hours=1), now=NOW)
            assert sweep is not None
            store.tasks.complete(sweep.task_id, "me", now=NOW)
            with pytest.raises(LeaseLost):
                store.tasks.renew(sweep.task_id, "me", now=NOW)
            with store.database.write():
                assert gathered.value("ctx_mcp_database_connections", pool=pool) == 1
            assert gathered.value("ctx_mcp_database_connections", pool=pool) == 0
            assert gathered.value("ctx_mcp_tasks", kind="clear", state="working") == 1
            assert gathered.value("ctx_mcp_task_oldest_seconds", kind="clear") >= 3600
            assert gathered.value("ctx_mcp_sweep_finished_timestamp_seconds") == pytest.approx(
                NOW.timestamp(), abs=1e-3
            )
            assert gathered.value("ctx_mcp_tasks_settled_total", kind="sweep", state="completed") == 1
            assert gathered.value("ctx_mcp_lease_losses_total") == 1
        assert read_gauges() == {}
    finally:
        store.close()


def test_a_store_that_fails_leaves_its_numbers_out(data_dir: Path) -> None:
    store = open_store(data_dir, DEFAULT_LIMITS)
    gauges = StoreGauges(store.database)
    store.close()
    assert set(gauges.read()) == {"database_connections"}
