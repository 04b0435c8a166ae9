"""A cache and its sync door for the tests, closed after each."""

from collections.abc import Iterator

import pytest

from clusterdb.cache import Cache, SyncCache


@pytest.fixture
def cache() -> Iterator[SyncCache]:
    with Cache().sync as cache:
        yield cache
