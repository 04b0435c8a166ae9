"""Each sample of the specification in its Python form, in the order of the specification.

`docs/reference/seed.md` points here; `tests/house/test_seed_table.py` has the specification itself.
"""

import dataclasses
import inspect
from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs
from tests.unit.cache.config.samples import BACKUP, CACHE, REGIONS

from clusterdb.cache import (
    FIFO,
    LRU,
    S3,
    AlertConfig,
    AlertTurned,
    BackupConfig,
    BatchError,
    BatchOperation,
    ByteSize,
    Cache,
    CacheConfig,
    CacheManager,
    CacheMonitor,
    CachePolicy,
    CacheRegion,
    CacheStatistics,
    CacheStats,
    Cleanup,
    Cleared,
    Compact,
    Compression,
    ConfigError,
    Consistent,
    EntryDeleted,
    EntryEvicted,
    EntrySet,
    EntryTooLarge,
    GetOptions,
    Health,
    Hit,
    InactiveSetting,
    Invalidated,
    InvalidationConfig,
    MaintenanceConfig,
    Metric,
    MetricsConfig,
    Miss,
    MonitoringConfig,
    NotificationConfig,
    PartitioningConfig,
    Pattern,
    PatternOptions,
    PoolConfig,
    Rebalance,
    Redis,
    RedisChannel,
    SchemaConfig,
    SerializationConfig,
    SetOptions,
    Stale,
    TagInvalidated,
    TlsConfig,
    TracingConfig,
    WriteOptions,
)
from clusterdb.cache.testing import ManualClock


@dataclasses.dataclass
class User:
    id: str
    name: str
    email: str


JOHN = User(id="user-123", name="John Doe", email="john@example.com")


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
async def cache(clock):
    async with Cache(clock=clock) as cache:
        yield cache


# --- Features > Cache Configuration --------------------------------------------------------------


def test_the_whole_configuration_is_accepted(tmp_path, monkeypatch):
    config = CacheConfig(
        name="main",
        backend=Redis(
            urls=["redis://node1:6379", "redis://node2:6379"],
            cluster=True,
            pool=PoolConfig(min_connections=5, max_connections=20, idle_timeout=300),
            tls=TlsConfig(cert="/certs/client.crt", key="/certs/client.key", ca="/certs/ca.crt"),
        ),
        policy=CachePolicy(
            eviction=LRU(max_memory=ByteSize.gb(10), max_items=1_000_000),
            compression=Compression(algorithm="lz4", min_size=ByteSize.kb(1), level=6),
        ),
        serialization=SerializationConfig(
            format="messagepack",
            compression=True,
            schema=SchemaConfig(type="avro", path="schemas/cache.avsc"),
        ),
        ttl=3600,
        partitioning=PartitioningConfig(strategy=Consistent(replicas=3, virtual_nodes=256)),
        monitoring=MonitoringConfig(
            metrics=True, tracing=True, statistics=CacheStatistics(enabled=True, interval=60)
        ),
    )

    assert isinstance(config.backend, Redis)
    assert config.policy.compression is not None
    assert config.serialization.schema is not None
    assert config.backend.pool == PoolConfig(
        min_connections=5, max_connections=20, idle_timeout="5m"
    )
    assert config.policy.eviction.max_memory == 10_000_000_000
    assert config.policy.compression.min_size == 1000
    assert config.serialization.schema.path == "schemas/cache.avsc"
    assert config.partitioning.strategy.virtual_nodes == 256
    assert config.monitoring.statistics.interval == 60
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"schemas/cache\.avsc"):
        Cache(config)
    schema = tmp_path / "schemas" / "cache.avsc"
    schema.parent.mkdir()
    schema.write_text('{"type": "string"}')
    assert Cache(config).config is config


async def test_configure_changes_a_running_cache_and_keeps_its_contents(cache):
    await cache.set("a", 1)

    await cache.configure(CacheConfig(ttl=3600, policy=CachePolicy(eviction=LRU(max_items=2))))
    await cache.set_many({"b": 2, "c": 3})

    assert await cache.get_many(["a", "b", "c"]) == {"b": 2, "c": 3}
    assert (await cache.lookup("c")).expires_in == 3600
    with pytest.raises(ConfigError, match="name can't change"):
        await cache.configure(CacheConfig(name="other"))


async def test_the_configured_name_is_the_name_of_the_cache():
    async with Cache(CacheConfig(name="orders")) as cache:
        assert (await cache.get_statistics()).name == "orders"


# --- Features > Cache Operations -----------------------------------------------------------------


async def test_set_stores_once_with_ttl_and_tags(cache, clock):
    options = SetOptions(ttl=timedelta(seconds=3600), nx=True, tags=("user", "profile"))

    assert await cache.set("user:123", JOHN, options=options) is True
    assert await cache.set("user:123", "other", options=options) is False

    found = await cache.lookup("user:123")
    assert (found.value, found.expires_in, found.tags) == (JOHN, 3600, ("user", "profile"))
    clock.advance(3600)
    assert await cache.get("user:123") is None


async def test_keywords_say_the_same_as_the_preset(cache):
    await cache.set("a", 1, ttl="1h", nx=True, tags=("user", "profile"))

    found = await cache.lookup("a")
    assert (found.expires_in, found.tags) == (3600, ("user", "profile"))


async def test_get_gives_the_typed_value(cache):
    await cache.set("user:123", JOHN)
    options = GetOptions(consistent=True, allow_stale=False)

    assert await cache.get("user:123", type=User, options=options) == JOHN
    assert await cache.get("user:404", type=User, options=options) is None


async def test_allow_stale_takes_an_expired_value_within_the_grace(clock):
    config = CacheConfig(regions=[CacheRegion("default", ttl=10, grace=5)])
    async with Cache(config, clock=clock) as cache:
        await cache.set("a", 1)
        clock.advance(12)

        assert await cache.get("a") is None
        assert await cache.get("a", options=GetOptions(allow_stale=True)) == 1
        assert isinstance(await cache.lookup("a", options=GetOptions(allow_stale=True)), Stale)
        clock.advance(3)
        assert await cache.get("a", options=GetOptions(allow_stale=True)) is None


async def test_delete_says_whether_something_was_there(cache):
    await cache.set("user:123", JOHN)

    assert await cache.delete("user:123") is True
    assert await cache.delete("user:123") is False
    assert await cache.lookup("user:123") == Miss()


async def test_execute_batch_makes_the_changes_in_order(cache):
    await cache.set("key3", "old")
    batch = BatchOperation().set("key1", "value1").set("key2", "value2", ttl=60).delete("key3")

    assert await cache.execute_batch(batch) == [True, True, True]
    assert await cache.get_many(["key1", "key2", "key3"]) == {"key1": "value1", "key2": "value2"}
    assert (await cache.lookup("key2")).expires_in == 60


async def test_atomic_commits_only_if_the_check_holds(cache):
    await cache.set("counter", 10)

    assert await cache.atomic().check("counter", 10).set("counter", 11).execute() is True
    assert await cache.atomic().check("counter", 10).set("counter", 12).execute() is False
    assert await cache.get("counter") == 11


async def test_scan_gives_the_keys_of_a_pattern(cache):
    await cache.set_many({"user:1": 1, "user:2": 2, "order:1": 3})
    options = PatternOptions(batch_size=1000, timeout=timedelta(seconds=30))

    assert sorted([key async for key in cache.scan("user:*", options=options)]) == [
        "user:1",
        "user:2",
    ]


async def test_invalidate_tag_reaches_every_region(cache):
    session = await cache.create_region(CacheRegion("session"))
    await cache.set("user:123", JOHN, tags=("user",))
    await session.set("s1", JOHN, tags=("user",))
    await cache.set("plain", 1)

    assert await cache.invalidate_tag("user") == 2
    assert await cache.get("user:123") is await session.get("s1") is None
    assert await cache.get("plain") == 1


async def test_statistics_count_hits_and_misses(cache):
    await cache.set("a", 1)
    await cache.get("a")
    await cache.get("b")

    stats = await cache.get_statistics()

    assert isinstance(stats, CacheStats)
    assert (stats.total.hits, stats.total.misses, stats.hit_ratio) == (1, 1, 0.5)
    assert "hits=1" in repr(stats)


# --- Features > Cache Coherence ------------------------------------------------------------------


INVALIDATION = InvalidationConfig(
    mode="versioned",
    notification=NotificationConfig(backend=RedisChannel(channel="cache-invalidation")),
)
MAINTENANCE = MaintenanceConfig(
    schedule="0 * * * *",
    tasks=[Cleanup(older_than="7d"), Compact(threshold=0.3), Rebalance(threshold=0.2)],
)
DAILY = BackupConfig(
    schedule="0 0 * * *",
    retention=timedelta(days=7),
    storage=S3(bucket="cache-backup", prefix="daily/", region="us-west-2"),
)
METRICS = MetricsConfig(
    metrics=("cache_hits", "cache_misses", "cache_size"),
    alerts=AlertConfig(max_memory_usage=0.9, max_eviction_rate=1000),
)
TRACING = TracingConfig(service_name="cache-service", sampling_rate=0.1, context_propagation=True)


async def test_what_does_not_act_yet_is_kept_and_said(cache):
    wanted = structs.replace(cache.config, serialization=SerializationConfig(format="json"))
    with pytest.warns(InactiveSetting, match="serialization"):
        await cache.configure(wanted)

    assert cache.config.serialization == wanted.serialization
    health = await cache.get_health()
    assert health.status == "degraded"
    assert "serialization" in health.checks[-1].detail


async def test_configure_backup_acts(cache):
    """Its schedule: tests/maintenance/test_backup.py."""
    await cache.configure_backup(DAILY)

    assert cache.config.backup == DAILY
    assert (await cache.get_health()).status == "ok"


async def test_configure_maintenance_acts(cache):
    """On servers and files, and with faults: tests/maintenance."""
    await cache.configure_maintenance(MAINTENANCE)

    assert cache.config.maintenance == MAINTENANCE
    run = await cache.run_maintenance()
    assert [job.job for job in run.jobs] == ["cleanup", "compact", "rebalance"]
    assert run.outcome == "done"
    assert (await cache.get_health()).status == "ok"


async def test_configure_tracing_acts(cache):
    """What is traced then: tests/unit/cache/test_traced.py."""
    await cache.configure_tracing(TRACING)

    assert cache.config.tracing == TRACING
    assert (await cache.get_health()).status == "ok"


async def test_configure_invalidation_acts(cache):
    """Over a server: tests/redis/test_channel.py."""
    await cache.set("kept", 1)
    await cache.configure_invalidation(InvalidationConfig(mode="plain", delay="1s"))

    assert cache.config.invalidation == InvalidationConfig(mode="plain", delay=1.0)
    assert await cache.get("kept") == 1
    assert (await cache.get_health()).status == "ok"
    with pytest.raises(ConfigError, match="server"):
        await cache.configure_invalidation(INVALIDATION)
    assert cache.config.invalidation is not None
    assert cache.config.invalidation.notification is None, "what is refused changes nothing"


async def test_configure_monitoring_takes_the_switches_too(cache):
    monitoring = MonitoringConfig(statistics=CacheStatistics(interval="10s"))

    await cache.configure_monitoring(monitoring)

    assert cache.config.monitoring == monitoring
    await cache.configure_monitoring(MonitoringConfig(metrics=False))
    assert await cache.get_metrics() == []


async def test_configure_monitoring_shows_what_is_named(cache):
    await cache.get("absent")
    await cache.configure_monitoring(METRICS)

    samples = await cache.get_metrics()
    assert {sample.name for sample in samples} == {"cache_hits", "cache_misses", "cache_size"}
    with pytest.raises(ConfigError, match="did you mean 'cache_hits'"):
        await cache.configure_monitoring(MetricsConfig(metrics=("cache_hist",)))
    assert cache.config.metrics == METRICS, "what is refused changes nothing"


async def test_the_alerts_of_the_specification_fire_and_are_over(clock):
    """``take`` is what the timer calls each `statistics.interval`."""
    small = CacheRegion("small", size="10kB")
    config = CacheConfig(regions=[small], metrics=METRICS)
    async with Cache(config, clock=clock, weigher=lambda key, value: 1000) as cache:
        sampling = cache.access.runtime.sampling
        await sampling.take()
        async with cache.subscribe(AlertTurned) as subscription:
            events: Any = subscription
            for number in range(2010):
                await cache.region("small").set(f"k{number}", 1)
            clock.advance(1.5)
            await sampling.take()
            told = {(event := await anext(events)).alert: event for _ in range(2)}
            assert {alert.name for alert in sampling.alerts} == set(told)
            health = await cache.get_health()
            await cache.clear()
            clock.advance(10)
            await sampling.take()
            over = {(await anext(events)).alert for _ in range(2)}

    assert set(told) == over == {"max_memory_usage", "max_eviction_rate"}
    assert told["max_memory_usage"].value == 1.0
    assert told["max_eviction_rate"].value == pytest.approx(2000 / 1.5)
    assert told["max_eviction_rate"].region == "small"
    assert health.status == "degraded"
    assert "raise max_memory" in str(health)


def test_write_options_are_checked():
    assert WriteOptions(sync=True, consistency="strong").sync is True
    unknown: Any = {"synchronous": True}
    with pytest.raises(TypeError):
        WriteOptions(**unknown)


async def test_invalidation_events_are_an_async_iterator(cache):
    await cache.set("a", 1, tags=("user",))

    async with cache.subscribe_invalidation() as events:
        await cache.set("b", 2)
        await cache.delete("b")
        await cache.invalidate("a")
        await cache.invalidate_tag("user")
        await cache.clear()
        kinds = [type(await anext(events)) for _ in range(4)]

    assert kinds == [EntryDeleted, Invalidated, TagInvalidated, Cleared]


# --- Features > Cache Management -----------------------------------------------------------------


async def test_regions_have_their_own_keys_limits_and_ttl(cache):
    await cache.configure_regions(
        [
            CacheRegion(
                name="user-profile",
                size=ByteSize.mb(100),
                ttl=timedelta(hours=1),
                policy=LRU(max_items=3),
            ),
            CacheRegion(
                name="session",
                size=ByteSize.mb(500),
                ttl=timedelta(minutes=30),
                policy=FIFO(max_items=3),
            ),
        ]
    )
    for name, kept in (("user-profile", {"a", "c", "d"}), ("session", {"b", "c", "d"})):
        region = cache.region(name)
        for key in "abc":
            await region.set(key, key)
        await region.get("a")
        await region.set("d", "d")
        assert {key async for key in region.scan("*")} == kept
    assert await cache.get("a") is None
    assert (await cache.region("user-profile").lookup("d")).expires_in == 3600
    assert (await cache.region("session").lookup("d")).expires_in == 1800
    assert (await cache.get_statistics()).regions["session"].max_weight == 500_000_000


async def test_a_region_holds_no_more_memory_than_its_size(cache):
    region = await cache.create_region(CacheRegion("small", size="20kB"))

    for number in range(100):
        await region.set(f"key:{number}", "x" * 1000)
        assert (await cache.get_statistics()).regions["small"].weight <= 20_000

    assert (await cache.get_statistics()).regions["small"].evictions > 0


# --- Configuration -------------------------------------------------------------------------------


async def test_the_limits_of_the_cache_block_act(tmp_path):
    text = CACHE[: CACHE.index("    type: redis")] + "    type: memory\n"
    text += CACHE[CACHE.index("  policy:") :].replace("1000000", "2")
    file = tmp_path / "cache.yaml"
    file.write_text(text, encoding="utf-8")

    async with Cache.from_file(file) as cache:
        await cache.set_many({"a": 1, "b": 2, "c": 3})
        total = (await cache.get_statistics()).total

    assert (total.items, total.max_items, total.max_weight) == (2, 2, 10_000_000_000)


async def test_the_region_block_acts_as_it_is_printed(clock):
    async with Cache(CacheConfig.from_yaml_text(REGIONS), clock=clock) as cache:
        for name, size, most, ttl in (
            ("user-profile", 100_000_000, 10_000, 3600),
            ("session", 500_000_000, 50_000, 1800),
        ):
            region = cache.region(name)
            await region.set_many({f"key:{number}": number for number in range(most)})
            await region.get("key:0")
            await region.set("one more", 0)
            seen = (await cache.get_statistics()).regions[name]
            assert (seen.items, seen.max_items, seen.max_weight) == (most, most, size)
            assert await region.exists("key:0") is (name == "user-profile")
            found = await region.lookup("one more")
            assert isinstance(found, Hit)
            assert found.expires_in == ttl


async def test_the_backup_block_is_kept():
    cache = Cache(CacheConfig.from_yaml_text(BACKUP))

    assert cache.config.backup is not None
    assert cache.config.backup.storage == S3(bucket="cache-backup", prefix="daily/")


# --- API Reference -------------------------------------------------------------------------------


async def test_a_cache_is_a_cache_manager(cache):
    async def work(manager: CacheManager):
        assert await manager.set("a", 1) is True
        assert (await manager.get("a"), await manager.exists("a")) == (1, True)
        assert await manager.delete("a") is True
        await manager.set("b", 2)
        assert await manager.clear() == 1
        assert await manager.exists("b") is False

    region = await cache.create_region(CacheRegion("r"))
    for manager in (cache, region):
        assert isinstance(manager, CacheManager)
        await work(manager)


async def test_a_cache_is_a_cache_monitor(cache):
    async def watch(monitor: CacheMonitor):
        assert isinstance(await monitor.get_statistics(), CacheStats)
        assert all(isinstance(metric, Metric) for metric in await monitor.get_metrics())
        health = await monitor.get_health()
        assert isinstance(health, Health)
        assert health.status == "ok"
        async with monitor.get_events() as events:
            await cache.set("a", 1)
            assert isinstance(await anext(events), EntrySet)

    assert isinstance(cache, CacheMonitor)
    await watch(cache)


async def test_the_metrics_of_the_specification_exist(cache):
    await cache.set("a", 1)
    await cache.get("a")
    await cache.get("b")

    metrics = {metric.name: metric for metric in await cache.get_metrics()}

    assert metrics["cache_hits"].value == metrics["cache_misses"].value == 1
    assert (metrics["cache_size"].value, metrics["cache_size"].kind) == (1, "gauge")
    assert metrics["cache_hits"].labels == {"cache": "main", "region": "default"}


# --- Examples ------------------------------------------------------------------------------------


async def test_the_usage_example():
    cache = Cache(CacheConfig())
    async with cache:
        options = SetOptions(ttl=3600, tags=("user",))
        await cache.set("user:123", JOHN, options=options)

        user = await cache.get("user:123", type=User)

    assert user == JOHN


async def test_the_pattern_example(cache):
    region = await cache.create_region(
        CacheRegion("user-profile", size=ByteSize.mb(100), ttl=timedelta(hours=1))
    )
    await region.set_many({"user:1": "a", "user:2": "b", "order:1": "c"})
    pattern = Pattern(glob="user:*", batch_size=1000)

    found = {key: await region.get(key) async for key in region.scan(pattern)}

    assert found == {"user:1": "a", "user:2": "b"}


def test_sizes_and_durations_are_those_of_the_specification():
    assert (ByteSize.kb(1), ByteSize.mb(100), ByteSize.gb(10)) == (
        1_000,
        100_000_000,
        10_000_000_000,
    )
    for written, seconds in (("1h", 3600), ("30m", 1800), ("7d", 604_800), (300, 300)):
        assert CacheRegion("r", ttl=written).ttl == seconds


# --- Architecture --------------------------------------------------------------------------------


async def test_the_expired_give_their_memory_back_without_being_read(cache, clock):
    await cache.set_many({f"key:{number}": number for number in range(1000)}, ttl=10)
    clock.advance(11)

    while cache._runtime.backend.sweep():
        pass

    total = (await cache.get_statistics()).total
    assert (total.items, total.expirations) == (0, 1000)


async def test_events_are_filtered_by_kind_region_and_pattern(cache):
    await cache.create_region(CacheRegion("session", policy=LRU(max_items=1)))
    session = cache.region("session")

    async with cache.subscribe(
        EntrySet, EntryEvicted, region="session", pattern="user:*"
    ) as events:
        await cache.set("user:0", 0)
        await session.set("order:1", 1)
        await session.set("user:1", 1)
        await session.set("user:2", 2)
        seen = {(type(event), event.key) for event in [await anext(events) for _ in range(3)]}

    assert seen == {(EntrySet, "user:1"), (EntrySet, "user:2"), (EntryEvicted, "user:1")}


# --- Troubleshooting -----------------------------------------------------------------------------


async def test_out_of_memory_says_the_cause_and_the_solution(cache):
    region = await cache.create_region(CacheRegion("small", size="1kB"))

    with pytest.raises(
        EntryTooLarge, match=r"out of memory.*may hold 1kB.*raise the region's size"
    ):
        await region.set("a", "x" * 10_000)
    with pytest.raises(BatchError) as caught:
        await region.set_many({"a": "x" * 10_000, "b": "x"})

    assert (list(caught.value.failed), caught.value.ok) == (["a"], {"b": True})


async def test_evicting_is_what_happens_before_memory_runs_out(cache):
    region = await cache.create_region(CacheRegion("small", policy=LRU(max_items=1)))

    await region.set_many({"a": 1, "b": 2})

    assert isinstance(await region.lookup("b"), Hit)
    assert (await cache.get_statistics()).regions["small"].evictions == 1


def test_the_protocols_have_the_methods_of_the_specification():
    def methods(protocol):
        return {name for name, _ in inspect.getmembers(protocol, inspect.isfunction)} & set(
            vars(protocol)
        )

    assert methods(CacheManager) >= {"set", "get", "delete", "clear", "exists"}
    assert methods(CacheMonitor) >= {"get_statistics", "get_metrics", "get_events", "get_health"}
