"""The official AGB SDK, unmodified, on three replicas: the same scenarios as on one service."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.agb_sdk import open_client
from tests.conformance.test_agb_sdk_sessions import (
    MOUNT,
    Cloud,
    test_a_browser_brings_its_extensions_and_keeps_its_cookies,
    test_a_callback_hears_of_the_end_of_a_sync,
    test_a_session_brings_its_files_and_takes_them_along,
    test_a_session_outlives_its_context,
    test_files_are_mapped_from_where_they_were_made_and_packed_into_an_archive,
    test_labels_lists_and_life_signs_work,
    test_single_files_are_transferred,
    test_wrong_calls_say_what_is_wrong,
)
from tests.replicas.service import Replicas

__all__ = [
    "test_a_browser_brings_its_extensions_and_keeps_its_cookies",
    "test_a_callback_hears_of_the_end_of_a_sync",
    "test_a_session_brings_its_files_and_takes_them_along",
    "test_a_session_outlives_its_context",
    "test_files_are_mapped_from_where_they_were_made_and_packed_into_an_archive",
    "test_labels_lists_and_life_signs_work",
    "test_single_files_are_transferred",
    "test_wrong_calls_say_what_is_wrong",
]


@dataclass(frozen=True)
class Machines(Cloud):
    """A session's folders are on the machine where it was made."""

    replicas: Replicas

    def folder(self, session: Any, mount: str = MOUNT) -> Path:
        return self.replicas.session_root(session.session_id) / mount.strip("/")


@pytest.fixture
def cloud(replicas: Replicas, key: str) -> Cloud:
    return Machines(open_client(replicas.url, key), replicas.data_dir, replicas)
