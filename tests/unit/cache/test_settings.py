"""What applies to a region, once its own settings and the cache's are put together."""

from __future__ import annotations

import pytest

from clusterdb.cache.config import (
    ARC,
    FIFO,
    LFU,
    LRU,
    Adaptive,
    CacheConfig,
    CachePolicy,
    CacheRegion,
)
from clusterdb.cache.settings import kept_order_problems, resolve_region

CONFIG = CacheConfig(policy=CachePolicy(eviction=LRU(max_items=7)))


@pytest.mark.parametrize(
    ("region", "own"),
    [
        (CacheRegion("r"), False),
        (CacheRegion("r", policy=FIFO()), False),
        (CacheRegion("r", policy=FIFO(max_items=5)), True),
        (CacheRegion("r", policy=LRU(max_memory="1MB")), True),
        (CacheRegion("r", size="1MB"), True),
    ],
)
def test_limits_are_the_region_s_own_where_it_states_some(region, own):
    assert resolve_region(CONFIG, region, None).own_limits is own


def test_a_region_clears_at_once_where_it_says_so():
    assert not resolve_region(CONFIG, CacheRegion("r"), None).instant_clear
    assert resolve_region(CONFIG, CacheRegion("r", instant_clear=True), None).instant_clear


def test_a_backend_tells_of_the_policies_that_it_lacks():
    config = CacheConfig()
    regions = [
        resolve_region(config, CacheRegion(name, policy=policy), None)
        for name, policy in {
            "default": None,
            "a": ARC(max_items=5),
            "b": LFU(max_items=5),
            "c": Adaptive(max_items=5),
        }.items()
    ]

    assert kept_order_problems("disk", regions) == [
        (
            "region a: the disk backend has no policy arc and evicts by lru: "
            "give the region one of adaptive, lru, fifo, lfu"
        )
    ]
