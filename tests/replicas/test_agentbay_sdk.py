"""The official AgentBay SDK's `context` object, unmodified, sync and async, on three replicas."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.agentbay_sdk import open_async_client, open_client
from tests.conformance.test_agentbay_sdk import (
    http,
    test_a_clear_leaves_the_context_empty,
    test_a_context_lives_from_its_creation_to_its_end,
    test_contexts_are_walked_through_by_token,
    test_files_go_up_and_down_and_away,
    test_folders_are_paged_by_number_and_by_token,
)
from tests.replicas.service import Replicas

__all__ = [
    "http",
    "test_a_clear_leaves_the_context_empty",
    "test_a_context_lives_from_its_creation_to_its_end",
    "test_contexts_are_walked_through_by_token",
    "test_files_go_up_and_down_and_away",
    "test_folders_are_paged_by_number_and_by_token",
]


@pytest.fixture(params=[open_client, open_async_client], ids=["sync", "async"])
def context(request: pytest.FixtureRequest, replicas: Replicas, key: str) -> Any:
    return request.param(replicas.url, key).context
