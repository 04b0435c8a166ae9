"""Values past their time over a real server, whose clock it is that tells."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.loads.staleness import CHECKS, Check, Scene, loads
from tests.redis.backends import config_of, flush

from clusterdb.cache import Cache, CacheRegion

UNIT = 0.1


@pytest.mark.parametrize(
    ("check", "windows", "others"), CHECKS, ids=[check.__name__ for check, *_ in CHECKS]
)
async def test_it_holds_that(
    check: Check, windows: dict[str, float], others: dict[str, Any], standalone: Any
):
    flush(standalone)
    region = CacheRegion("default", loads=loads(windows, others, UNIT))
    async with Cache(config_of(standalone, regions=(region,))) as cache:
        await check(Scene(cache, UNIT, asyncio.sleep))
