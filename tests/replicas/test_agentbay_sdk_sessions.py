"""The official AgentBay SDK's sessions, unmodified, on three replicas; its blocking half asks for the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.agentbay_sdk import open_async_client
from tests.conformance.test_agentbay_sdk_sessions import (
    MOUNT,
    Cloud,
    test_a_browser_brings_its_extensions_and_keeps_its_cookies,
    test_a_session_brings_its_files_and_takes_them_along,
    test_contexts_are_bound_to_a_running_session,
    test_contexts_that_bring_nothing_do_not_hold_up_a_session,
    test_files_are_mapped_from_where_they_were_made,
    test_labels_lists_and_life_signs_work,
    test_single_files_are_transferred,
    test_what_concerns_no_session_is_refused_by_its_code,
)
from tests.replicas.service import Replicas

__all__ = [
    "test_a_browser_brings_its_extensions_and_keeps_its_cookies",
    "test_a_session_brings_its_files_and_takes_them_along",
    "test_contexts_are_bound_to_a_running_session",
    "test_contexts_that_bring_nothing_do_not_hold_up_a_session",
    "test_files_are_mapped_from_where_they_were_made",
    "test_labels_lists_and_life_signs_work",
    "test_single_files_are_transferred",
    "test_what_concerns_no_session_is_refused_by_its_code",
]


@dataclass(frozen=True)
class Machines(Cloud):
    """A session's folders are on the machine where it was made."""

    replicas: Replicas

    def folder(self, session: Any, mount: str = MOUNT) -> Path:
        return self.replicas.session_root(session.session_id) / mount.strip("/")


@pytest.fixture
def cloud(replicas: Replicas, key: str) -> Cloud:
    return Machines(open_async_client(replicas.url, key), replicas.data_dir, True, replicas)
