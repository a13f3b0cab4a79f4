"""Three replicas on one PostgreSQL and one S3 behind a balancer, for every test of this folder that ends none."""

from __future__ import annotations

from collections.abc import Generator
from itertools import count
from pathlib import Path

import pytest

from tests.buckets import S3Server, run_s3
from tests.postgres import PostgresServer
from tests.replicas.service import KEY_COUNT, Replicas, run_replicas


@pytest.fixture(scope="session")
def replicas(
    postgres: PostgresServer, migrated_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Replicas]:
    name = postgres.make_database(migrated_database)
    # An S3 server of their own: other tests let the common one fail, and these look at it all the time.
    with (
        run_s3() as s3,
        run_replicas(tmp_path_factory.mktemp("replicas"), postgres.url(name), s3=s3) as running,
    ):
        yield running
    postgres.drop_database(name)


@pytest.fixture(scope="module")
def own_replicas(
    postgres: PostgresServer, migrated_database: str, s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Replicas]:
    """Replicas of this module alone, whose tests may end them as long as one is left; three at first."""
    name = postgres.make_database(migrated_database)
    with run_replicas(tmp_path_factory.mktemp("own-replicas"), postgres.url(name), s3=s3_server) as running:
        yield running
    postgres.drop_database(name)


@pytest.fixture(scope="session")
def key_numbers() -> Generator[int]:
    return (number for number in count() if number < KEY_COUNT)


@pytest.fixture
def key(key_numbers: Generator[int], clean_home: Path) -> str:
    """The key of an account that nobody has used before."""
    return f"key-{next(key_numbers)}"
