"""A cache for the direct tests, in the test's own loop."""

from collections.abc import AsyncIterator

import pytest

from clusterdb.cache import Cache


@pytest.fixture
async def cache() -> AsyncIterator[Cache]:
    async with Cache() as cache:
        yield cache
