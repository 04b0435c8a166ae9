"""Files, texts and mappings become the structs that code would build, or a clear error."""

import textwrap
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.cache.config.samples import BACKUP, CACHE, FULL, REGIONS

from clusterdb.cache.config import (
    FIFO,
    LRU,
    S3,
    AlertConfig,
    BackupConfig,
    CacheCoherence,
    CacheConfig,
    CachePolicy,
    CacheRegion,
    CacheStatistics,
    Cleanup,
    Compact,
    Compression,
    Consistent,
    InvalidationConfig,
    LoadConfig,
    MaintenanceConfig,
    MetricsConfig,
    MonitoringConfig,
    NotificationConfig,
    PartitioningConfig,
    PoolConfig,
    PostgreSQL,
    Redis,
    RedisChannel,
    ReplicationConfig,
    SchemaConfig,
    SentinelConfig,
    SerializationConfig,
    TlsConfig,
    TracingConfig,
    WriteBehind,
)
from clusterdb.cache.errors import ConfigError, MissingVariable
from clusterdb.cache.units import ByteSize

BACKEND = Redis(
    urls=("redis://node1:6379", "redis://node2:6379"),
    cluster=True,
    pool=PoolConfig(min_connections=5, max_connections=20),
)
POLICY = CachePolicy(eviction=LRU(max_memory=ByteSize.gb(10), max_items=1_000_000))
TWO_REGIONS = (
    CacheRegion("user-profile", size=ByteSize.mb(100), ttl=3600, policy=LRU(max_items=10_000)),
    CacheRegion("session", size=ByteSize.mb(500), ttl=1800, policy=FIFO(max_items=50_000)),
)
DAILY = BackupConfig(
    schedule="0 0 * * *",
    retention=7 * 86400,
    storage=S3(bucket="cache-backup", prefix="daily/"),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CACHE, CacheConfig(backend=BACKEND, policy=POLICY)),
        (REGIONS, CacheConfig(regions=TWO_REGIONS)),
        (BACKUP, CacheConfig(backup=DAILY)),
        (
            f"{CACHE}\n{REGIONS}\n{BACKUP}",
            CacheConfig(backend=BACKEND, policy=POLICY, regions=TWO_REGIONS, backup=DAILY),
        ),
    ],
)
def test_the_blocks_of_the_specification(text, expected, tmp_path):
    assert CacheConfig.from_yaml_text(text) == expected
    file = tmp_path / "cache.yaml"
    file.write_text(text, encoding="utf-8")
    assert CacheConfig.from_yaml(file) == CacheConfig.from_yaml(str(file)) == expected


def test_every_part_gives_what_code_would_build():
    assert CacheConfig.from_yaml_text(FULL, environ={"REDIS_PASSWORD": "s3"}) == CacheConfig(
        name="orders",
        backend=Redis(
            urls=("rediss://h1", "rediss://h2"),
            sentinel=SentinelConfig(master="main", password="p"),
            username="u",
            password="s3",
            pool=PoolConfig(idle_timeout=300),
            tls=TlsConfig(cert="/c", key="/k", ca="/a"),
            near=False,
        ),
        policy=CachePolicy(
            eviction=LRU(max_memory="10GB"),
            compression=Compression(algorithm="lz4", min_size=1000, level=6),
        ),
        serialization=SerializationConfig(
            format="messagepack", compression=True, schema=SchemaConfig(path="schemas/cache.avsc")
        ),
        ttl=3600,
        partitioning=PartitioningConfig(strategy=Consistent(replicas=3, virtual_nodes=256)),
        monitoring=MonitoringConfig(tracing=True, statistics=CacheStatistics(interval=60)),
        regions=(
            CacheRegion(
                "no",
                ttl=None,
                ttl_jitter=0.1,
                grace=10,
                isolation="copy",
                on_unavailable="load",
                loads=LoadConfig(
                    soft_deadline=0.1, hard_deadline=None, negative_ttl=5, max_concurrent_loads=8
                ),
            ),
            CacheRegion("plain"),
        ),
        coherence=CacheCoherence(
            mode=WriteBehind(
                backend=PostgreSQL(url="postgres://localhost/db", table="cache_storage"),
                durability="replicated",
            ),
            consistency="strong",
            invalidation="lazy",
            replication=ReplicationConfig(mode="synchronous", factor=2, consistency="quorum"),
        ),
        invalidation=InvalidationConfig(
            mode="versioned",
            notification=NotificationConfig(backend=RedisChannel(channel="cache-invalidation")),
        ),
        maintenance=MaintenanceConfig(
            schedule="0 * * * *", tasks=(Cleanup(older_than=604800), Compact(threshold=0.3))
        ),
        metrics=MetricsConfig(
            metrics=("cache_hits", "cache_misses"),
            alerts=AlertConfig(max_memory_usage=0.9, max_eviction_rate=1000),
        ),
        tracing=TracingConfig(service_name="cache-service", sampling_rate=0.1),
    )


@pytest.mark.parametrize(
    "text", ["", "\n", "# nothing\n", "{}", "cache:\nregions:\n", "---\n", "~"]
)
def test_nothing_is_the_defaults(text):
    assert CacheConfig.from_yaml_text(text) == CacheConfig()


def test_an_absent_ttl_differs_from_null():
    config = CacheConfig.from_dict({"regions": {"a": {}, "b": {"ttl": None}, "c": {"ttl": "1h"}}})
    assert config.regions == (
        CacheRegion("a"),
        CacheRegion("b", ttl=None),
        CacheRegion("c", ttl=3600),
    )
    assert config.regions[0] != config.regions[1]


WRONG = [
    ({"chace": {}}, "chace", "unknown key - did you mean 'cache'?"),
    ({"zzz": 1}, "zzz", "known: backup, cache, coherence, invalidation, maintenance, metrics, reg"),
    ({"name": "x"}, "name", "belongs under 'cache': write cache.name"),
    ({"cache": {"regions": {}}}, "cache.regions", "stands beside 'cache'"),
    ({"cache": {"plicy": {}}}, "cache.plicy", "did you mean 'policy'"),
    ({"cache": []}, "cache", "expected a mapping of settings"),
    ({"regions": ["a"]}, "regions", "a mapping of names to settings"),
    ({"regions": {"a": 5}}, "regions.a", "expected a mapping"),
    ({"regions": {"a b": {}}}, "regions.a b", "is not a name"),
    ({"regions": {"a": {"name": "b"}}}, "regions.a.name", "unknown key"),
    ({"regions": {"a": {"tll": "1h"}}}, "regions.a.tll", "did you mean 'ttl'"),
    ({"regions": {"a": {"ttl": 0}}}, "regions.a.ttl", "use delete()"),
    (
        {"regions": {"a": {"size": 1, "policy": {"type": "lru", "max_memory": 1}}}},
        "regions.a.size",
        "",
    ),
    (
        {"regions": {"a": {"policy": {"type": "mru"}}}},
        "regions.a.policy.type",
        "did you mean 'lru'",
    ),
    (
        {"regions": {"a": {"policy": {}}}},
        "regions.a.policy.type",
        "missing; known: 2q, adaptive, arc, fifo, lfu, lirs, lru, s3fifo, sieve, w_tinylfu",
    ),
    ({"regions": {"a": {"policy": "lru"}}}, "regions.a.policy", "a mapping of settings, got 'lru'"),
    ({"regions": {"a": {"loads": None}}}, "regions.a.loads", "got nothing (null)"),
    ({"cache": {"backend": None}}, "cache.backend", "got nothing (null)"),
    (
        {"cache": {"backend": {"type": 5}}},
        "cache.backend.type",
        "one of disk, memory, redis, got 5",
    ),
    (
        {"cache": {"backend": {"type": "postgres"}}},
        "cache.backend.type",
        "known: disk, memory, redis",
    ),
    ({"cache": {"backend": {"type": "memory", "size": 1}}}, "cache.backend.size", "persist"),
    ({"cache": {"backend": {"type": "disk"}}}, "cache.backend.path", "missing"),
    (
        {"cache": {"backend": {"type": "redis", "urls": "redis://a"}}},
        "cache.backend.urls",
        "a list",
    ),
    (
        {"cache": {"backend": {"type": "redis", "urls": ["redis://a", 5]}}},
        "cache.backend.urls[1]",
        "expected redis://host:port/db",
    ),
    (
        {"cache": {"backend": {"type": "redis", "urls": ["redis://a"], "pool": {"max": 5}}}},
        "cache.backend.pool.max",
        "unknown key",
    ),
    (
        {
            "cache": {
                "backend": {"type": "redis", "urls": ["redis://a"], "pool": {"min_connections": 50}}
            }
        },
        "cache.backend.pool.min_connections",
        "50 is above max_connections 20",
    ),
    (
        {"cache": {"backend": {"type": "redis", "urls": ["redis://a"], "cluster": "yes"}}},
        "cache.backend.cluster",
        "true or false, got 'yes'",
    ),
    ({"cache": {"name": 5}}, "cache.name", "is not a name"),
    ({"cache": {"ttl": "soon"}}, "cache.ttl", "'soon' is not a duration"),
    ({"cache": {"serialization": {"format": "xml"}}}, "cache.serialization.format", "known: avro"),
    (
        {"cache": {"policy": {"eviction": {"type": "lru", "max_items": "many"}}}},
        "cache.policy.eviction.max_items",
        "a whole number, got 'many'",
    ),
    (
        {"coherence": {"mode": {"type": "write_through"}}},
        "coherence.mode.backend",
        "missing; it has no default",
    ),
    ({"maintenance": {"schedule": "0 * * *"}}, "maintenance.schedule", "five fields"),
    (
        {"maintenance": {"schedule": "0 * * * *", "tasks": [{"type": "clean"}]}},
        "maintenance.tasks[0].type",
        "did you mean 'cleanup'",
    ),
    ({"backup": {"retention": "7d"}}, "backup.schedule", "missing"),
    ({"metrics": {"alerts": {"max_memory_usage": 90}}}, "metrics.alerts.max_memory_usage", "<= 1"),
    ({"metrics": {"metrics": ["a b"]}}, "metrics.metrics", "not a metric name"),
    ({"tracing": {"service_name": " "}}, "tracing.service_name", "expected a name"),
    ({"tracing": {"service_name": 7}}, "tracing.service_name", "put it in quotes"),
    ({"tracing": {"servicename": "x"}}, "tracing.servicename", "did you mean 'service_name'"),
    ({5: 1}, "", "the key 5 is not text"),
    ({"cache": {None: 1}}, "cache", "is not text"),
    ({"regions": {"\ud800\n": {}}}, r"regions.\ud800\n", "is not a name"),
    ({"x" * 5000: 1}, "x" * 77 + "...", "unknown key"),
]


@pytest.mark.parametrize(("mapping", "path", "message"), WRONG)
def test_errors_name_the_path_and_the_remedy(mapping, path, message):
    with pytest.raises(ConfigError) as caught:
        CacheConfig.from_dict(mapping)
    assert caught.value.path == path
    assert message in str(caught.value)
    assert str(caught.value).startswith(path)
    str(caught.value).encode()


def test_errors_of_a_file_begin_with_its_name(tmp_path):
    file = tmp_path / "cache.yaml"
    file.write_text("cache: {ttl: soon}")
    with pytest.raises(ConfigError, match=r"cache\.yaml: cache\.ttl: 'soon'") as caught:
        CacheConfig.from_yaml(file)
    assert caught.value.path == "cache.ttl"
    file.write_text("cache: {ttl: '${NOT_SET}'}")
    with pytest.raises(MissingVariable, match=r"cache\.yaml: cache\.ttl: .*NOT_SET") as missing:
        CacheConfig.from_yaml(file, environ={})
    assert missing.value.path == "cache.ttl"


def test_files_that_cannot_be_read(tmp_path):
    for path in (tmp_path / "absent.yaml", tmp_path, "nul\0.yaml"):
        with pytest.raises(ConfigError, match="can't be read"):
            CacheConfig.from_yaml(path)
    file = tmp_path / "cache.yaml"
    file.write_bytes(b"cache: {name: \xff}")
    with pytest.raises(ConfigError, match="not UTF-8: byte 14"):
        CacheConfig.from_yaml(file)
    file.write_bytes(b"#" * (1 << 20))
    assert CacheConfig.from_yaml(file) == CacheConfig()
    file.write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(ConfigError, match="larger than 1048576 bytes"):
        CacheConfig.from_yaml(file)
    file.write_bytes(b"\xef\xbb\xbfcache: {name: bom}")
    assert CacheConfig.from_yaml(file).name == "bom"


def test_a_mapping_that_contains_itself_is_refused():
    loop: dict[str, object] = {}
    loop["cache"] = loop
    with pytest.raises(ConfigError, match="nested deeper than 32"):
        CacheConfig.from_dict(loop)
    with pytest.raises(ConfigError, match="more than 10000 values"):
        CacheConfig.from_dict({"cache": [1] * 10_000})
    others: list[Any] = [None, [], "cache", 5]
    for other in others:
        with pytest.raises(ConfigError, match="is a mapping"):
            CacheConfig.from_dict(other)


def words():
    """Keys and words of real configurations, so that arbitrary mappings reach the inner checks."""
    known = set(textwrap.dedent(FULL + CACHE + REGIONS).replace(":", " ").split())
    return st.sampled_from(sorted({word.strip(" {}[],\"'-") for word in known}))


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | words()
    | st.sampled_from(["${A}", "${B:-1h}", "$$", "redis://h", "postgres://h", "0 0 * * *"])
)
trees = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(words() | st.text(), inner, max_size=4)
    ),
    max_leaves=12,
)


def outcome(load, *args, **kwargs):
    """What loading gives: a configuration or a `ConfigError`; all else fails the test."""
    try:
        return load(*args, **kwargs)
    except ConfigError as error:
        return error


@given(st.dictionaries(words() | st.text(), trees, max_size=4))
def test_any_mapping_loads_or_is_a_config_error(mapping):
    found = outcome(CacheConfig.from_dict, mapping, environ={"A": "5"})
    assert isinstance(found, (CacheConfig, ConfigError))
    assert str(found)


@given(st.sampled_from(["backend", "policy", "serialization", "ttl", "monitoring"]), trees)
def test_any_cache_section_loads_or_names_its_path(key, tree):
    found = outcome(CacheConfig.from_dict, {"cache": {key: tree}}, environ={"A": "5"})
    assert isinstance(found, CacheConfig) or found.path.startswith(f"cache.{key}")


@given(st.text(max_size=60))
def test_any_text_loads_or_is_a_config_error(text):
    found = outcome(CacheConfig.from_yaml_text, text)
    assert isinstance(found, (CacheConfig, ConfigError))
    assert str(found)
