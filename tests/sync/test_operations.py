"""What each operation does without ``await``, from a thread without a loop."""

import gc
import threading

import pytest
from tests.sync.running import Work

from clusterdb.cache import (
    FIFO,
    Cache,
    CacheClosed,
    CacheConfig,
    CacheRegion,
    EntryDeleted,
    EntrySet,
    Hit,
    InvalidKey,
    Miss,
    TypeMismatch,
)
from clusterdb.cache.backends.memory import MemoryBackend
from clusterdb.cache.testing import FaultyBackend, ManualClock


def test_the_operations_of_a_region(cache):
    assert cache.set("a", 1, tags=("t",))
    assert (cache.get("a"), cache.get("b"), cache.get("b", 7)) == (1, None, 7)
    assert isinstance(cache.lookup("a"), Hit)
    assert cache.lookup("b") == Miss()
    assert cache.set_many({"b": 2, "c": 3}) == 2
    assert cache.get_many(["a", "b", "x"]) == {"a": 1, "b": 2}
    assert cache.exists("c")
    assert cache.touch("c", "1h")
    assert cache.increment("n", 5) == 5
    assert cache.delete("b")
    assert cache.delete_many(["b", "c"]) == 1
    assert cache.invalidate_tag("t") == 1
    assert not cache.exists("a")
    assert cache.invalidate("n")
    cache.set("a", 1)
    cache.clear()
    assert not cache.exists("a")


def test_batches_and_atomic_changes(cache):
    with cache.batch() as batch:
        batch.set("a", 1).set("b", 2).delete("c")
    assert cache.get_many(["a", "b"]) == {"a": 1, "b": 2}
    assert cache.batch().delete("a").delete("x").execute() == [True, False]
    assert cache.atomic().check("b", 2).set("b", 3).execute()
    assert not cache.atomic().check("b", 2).set("b", 4).execute()
    assert cache.get("b") == 3


def test_a_batch_whose_block_fails_is_not_executed(cache):
    def fail():
        with cache.batch() as batch:
            batch.set("a", 1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not cache.exists("a")


def test_regions(cache):
    made = cache.create_region(CacheRegion("numbers"), type=int)
    made.set("a", 1)

    assert made.name == "numbers"
    assert cache.regions == ("default", "numbers")
    assert cache.region("numbers").get("a") == 1
    assert cache.get("a") is None
    assert cache.clear() == 1


def test_a_typed_region_looks_at_its_hits(cache):
    cache.set("a", "text")

    with pytest.raises(TypeMismatch):
        cache.region("default", type=int).get("a")
    with pytest.raises(TypeMismatch):
        cache.get("a", type=int)
    with pytest.raises(TypeMismatch):
        cache.region("default", type=int).get_or_load("a", int)


def test_a_scan_of_more_keys_than_are_fetched_at_once(cache):
    cache.set_many({f"user:{number}": number for number in range(2500)})
    cache.set("other", 1)

    found = list(cache.scan("user:*", batch_size=100))
    assert len(found) == len(set(found)) == 2500


def test_a_scan_that_is_given_up(cache):
    cache.set_many({str(number): number for number in range(2500)})

    keys = cache.scan()
    assert next(keys)
    del keys
    gc.collect()
    assert cache.get("0") == 0


def test_statistics_and_health(cache):
    cache.set("a", 1)
    cache.get("a")

    assert cache.get_statistics().total.hits == 1
    assert cache.get_health().status == "ok"
    assert cache.get_metrics()
    assert cache.config == CacheConfig()


def test_settings_change_at_run_time(cache):
    cache.set_many({"a": 1, "b": 2, "c": 3})
    cache.configure_regions([CacheRegion("default", policy=FIFO(max_items=1))])
    assert cache.get_many(["a", "b", "c"]) == {"c": 3}


def test_a_bad_argument_is_refused_as_on_the_other_face(cache):
    with pytest.raises(InvalidKey):
        cache.get("")
    with pytest.raises(InvalidKey):
        cache.get_or_load(5, int)


def test_events_are_read_in_another_thread(cache):
    began = threading.Event()

    def read():
        with cache.subscribe(EntrySet, EntryDeleted) as events:
            began.set()
            return [next(events) for _ in range(2)]

    reader = Work(read)
    assert began.wait(30)
    cache.set("a", 1)
    cache.delete("a")
    assert [type(event) for event in reader.result()] == [EntrySet, EntryDeleted]


def test_a_subscription_ends_when_the_cache_closes():
    cache = Cache().sync
    began = threading.Event()

    def read():
        with cache.subscribe_invalidation() as events:
            began.set()
            return list(events)

    reader = Work(read)
    assert began.wait(30)
    cache.close()
    assert reader.result() == []


def test_the_decorators_are_on_this_face_too(cache):
    @cache.cached("square:{x}")
    def square(x: int) -> int:
        return x * x

    assert square(5) == 25
    assert cache.get("square:5") == 25


def test_a_backend_that_waits_is_asked_in_the_loop():
    backend = FaultyBackend(MemoryBackend(ManualClock()))
    with Cache(backend=backend).sync as cache:
        backend.fail("read", times=1)
        with pytest.raises(ConnectionError):
            cache.get("a")
        cache.set("a", 1)
        assert cache.get("a") == 1
        assert list(cache.scan()) == ["a"]


def test_closing_twice_and_using_it_after():
    cache = Cache().sync
    cache.set("a", 1)
    cache.close()
    cache.close()

    with pytest.raises(CacheClosed):
        cache.get("a")
    with pytest.raises(CacheClosed):
        cache.get_or_load("a", int)
    with pytest.raises(CacheClosed):
        cache.start()
    with pytest.raises(CacheClosed):
        list(cache.scan())


def test_closing_one_that_was_never_used():
    Cache().sync.close()


def test_one_that_is_left_open_says_so():
    cache = Cache()
    cache.sync.set("a", 1)
    del cache
    with pytest.warns(ResourceWarning, match="never closed"):
        gc.collect()
