"""Eight threads at once, switched as fast as the interpreter can."""

import random
import sys
from functools import partial
from itertools import islice

import pytest
from tests.sync.running import Work

from clusterdb.cache import FIFO, LFU, LRU, Cache, CacheConfig, CacheRegion
from clusterdb.cache.backends.memory import MemoryBackend
from clusterdb.cache.testing import validate_backend

THREADS, ROUNDS = 8, 150


@pytest.fixture
def fast_switching():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("policy", [LRU, LFU, FIFO])
@pytest.mark.usefixtures("fast_switching")
def test_everything_at_once(policy):
    counted = CacheRegion("counters")
    small = CacheRegion("default", policy=policy(max_items=40))
    with Cache(CacheConfig(regions=(small, counted))).sync as cache:
        counters = cache.region("counters")

        def work(seed):
            rng = random.Random(seed)
            added = [0, 0, 0]
            for _ in range(ROUNDS):
                key = f"key:{rng.randrange(60)}"
                at = rng.randrange(3)
                counters.increment(f"sum:{at}", seed + 1)
                added[at] += seed + 1
                cache.set(key, key, tags=(f"tag:{rng.randrange(4)}",))
                assert cache.get(key) in (key, None)
                assert cache.get_or_load(key, lambda key=key: key, tags=("tag:0",)) == key
                step = rng.randrange(12)
                if step < 4:
                    cache.delete(key)
                elif step < 5:
                    cache.invalidate_tag("tag:0")
                elif step < 6:
                    assert all(name.startswith("key:") for name in islice(cache.scan("key:*"), 10))
                elif step < 8:
                    cache.set_many({f"key:{number}": f"key:{number}" for number in range(3)})
            return added

        added = [each.result() for each in [Work(partial(work, seed)) for seed in range(THREADS)]]

        sums = [counters.get(f"sum:{at}", 0) for at in range(3)]
        assert sums == [sum(part) for part in zip(*added, strict=True)]
        assert cache.get_statistics().regions["counters"].sets == THREADS * ROUNDS
        items = cache.get_statistics().regions["default"].items
        assert items is not None
        assert items <= 40
        backend = cache.runtime.backend
        assert isinstance(backend, MemoryBackend)
        validate_backend(backend)
