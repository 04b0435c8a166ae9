"""Structs built in code: their defaults, the form they hold, and what they refuse."""

import pickle
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from clusterdb.cache.config import (
    FIFO,
    LFU,
    LRU,
    S3,
    Adaptive,
    Admission,
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
    Directory,
    Disk,
    LoadConfig,
    MaintenanceConfig,
    Memory,
    MetricsConfig,
    PartitioningConfig,
    PoolConfig,
    PostgreSQL,
    Redis,
    RedisChannel,
    ReplicationConfig,
    SchemaConfig,
    SentinelConfig,
    SerializationConfig,
    SQLite,
    TlsConfig,
    TracingConfig,
    WriteBehind,
)
from clusterdb.cache.errors import ConfigError, InvalidArgument
from clusterdb.cache.units import ByteSize


def test_everything_has_a_default():
    config = CacheConfig()
    assert config.name == "main"
    assert config.backend == Memory()
    assert config.policy.eviction == Adaptive(max_items=1_000_000)
    assert config.ttl is None
    assert config.regions == ()
    assert config.coherence is None


def test_text_timedelta_and_numbers_are_the_same_setting():
    texts = CacheRegion("a", size="1MB", ttl="1h", grace="5s")
    numbers = CacheRegion(name="a", size=1_000_000, ttl=timedelta(hours=1), grace=5)
    assert texts == numbers
    assert hash(texts) == hash(numbers)
    assert type(texts.ttl) is float
    assert type(texts.size) is ByteSize


def test_type_checkers_see_the_form_that_is_held():
    lease: float = LoadConfig(lease="1m").lease
    size: ByteSize = Compression(min_size="2kB").min_size
    ttl: float | None = CacheConfig(ttl="1m").ttl
    assert (lease, size, ttl) == (60.0, 2000, 60.0)


def test_an_unset_ttl_differs_from_no_expiry():
    assert CacheRegion("a").ttl is msgspec.UNSET
    assert CacheRegion("a", ttl=None).ttl is None
    assert CacheRegion("a") != CacheRegion("a", ttl=None)


def test_words_are_accepted_in_any_case():
    assert SerializationConfig(format="MessagePack") == SerializationConfig()  # type: ignore[arg-type]
    assert Compression(algorithm="LZ4").algorithm == "lz4"  # type: ignore[arg-type]


def test_a_list_and_a_path_are_accepted():
    redis = Redis(urls=["redis://a", "redis://b"])
    assert redis.urls == ("redis://a", "redis://b")
    assert Disk(path=Path("/tmp/x")).path == "/tmp/x"
    assert CacheConfig(regions=[CacheRegion("a")]).regions == (CacheRegion("a"),)


def test_a_region_has_one_limit_of_memory():
    assert CacheRegion("a").eviction is None
    assert CacheRegion("a", size="1kB").eviction == Adaptive(max_memory=1000)
    sized = CacheRegion("a", size="1kB", policy=FIFO(max_items=5))
    assert sized.eviction == FIFO(max_memory=1000, max_items=5)
    assert CacheRegion("a", policy=LFU(max_items=5)).eviction == LFU(max_items=5)
    with pytest.raises(ConfigError, match=r"policy\.max_memory: give one of them"):
        CacheRegion("a", size="1kB", policy=LRU(max_memory=1000))


@pytest.mark.parametrize("name", ["a", "user-profile", "A.b_c-9", "x" * 64])
def test_names(name):
    assert CacheRegion(name).name == CacheConfig(name=name).name == name


@pytest.mark.parametrize("name", ["", "a b", "a:b", "ä", "x" * 65, "a\n", "a/b", "{a}", 5, None])
def test_what_is_no_name(name):
    for build in (CacheRegion, lambda name: CacheConfig(name=name)):
        with pytest.raises(ConfigError, match=r"^name: .* is not a name: use 1 to 64") as caught:
            build(name)
        assert caught.value.path == "name"


def late(cls, *args, **kwargs):
    """Build later, and past the type checker: it would refuse most of these as well."""
    return lambda: cls(*args, **kwargs)


REFUSED = [
    (late(LRU, max_items=0), "max_items", "a whole number >= 1, got 0"),
    (late(LRU, max_items=2**63), "max_items", "<= 9223372036854775807"),
    (late(LRU, max_items=True), "max_items", "a whole number, got True"),
    (late(FIFO, max_items="5"), "max_items", "a whole number, got '5'"),
    (late(LFU, max_memory=0), "max_memory", "at least 1 byte"),
    (late(LRU, max_memory=-1), "max_memory", "-1 is negative"),
    (late(Admission, max_entry_size=0), "max_entry_size", "must be at least 1"),
    (late(Admission, max_rate=0), "max_rate", "a whole number >= 1, got 0"),
    (late(Memory, max_process_memory=0), "max_process_memory", "at least 1 byte"),
    (late(Memory, max_total_memory=0), "max_total_memory", "at least 1 byte"),
    (late(Disk, path="x", near_total=0), "near_total", "at least 1 byte"),
    (late(Redis, urls=["redis://h"], near_total=0), "near_total", "at least 1 byte"),
    (late(CachePolicy, eviction="lru"), "eviction", r"WTinyLFU\(...\), got 'lru'"),
    (late(CachePolicy, eviction=None), "eviction", r"got nothing"),
    (late(Compression, level=17), "level", "lz4 takes 0 to 16, got 17"),
    (late(Compression, algorithm="zip"), "algorithm", "one of lz4, zstd"),
    (late(SerializationConfig, format="mesagepack"), "format", "did you mean 'messagepack'"),
    (SchemaConfig, "path", "either path or inline"),
    (late(SchemaConfig, path="a", inline="b"), "path", "either path or inline"),
    (late(PoolConfig, min_connections=9, max_connections=8), "min_connections", "9 is above"),
    (late(PoolConfig, min_connections=-1), "min_connections", "0 or more"),
    (late(PoolConfig, max_connections=0), "max_connections", ">= 1"),
    (late(PoolConfig, idle_timeout=0), "idle_timeout", "above 0"),
    (late(TlsConfig, cert="c"), "key", "belong together"),
    (late(TlsConfig, key="c"), "cert", "belong together"),
    (late(SentinelConfig, master=""), "master", "empty"),
    (late(Disk, path=""), "path", "expected the path"),
    (late(Disk, path="a\0b"), "path", "expected the path"),
    (late(Disk, path="a", synchronous="off"), "synchronous", "one of normal, full"),
    (late(Redis, urls=()), "urls", "at least one URL"),
    (late(Redis, urls="redis://a"), "urls", "a list"),
    (late(Redis, urls=["http://a"]), "urls[0]", "expected redis://host:port/db"),
    (late(Redis, urls=["redis://a", "redis://"]), "urls[1]", "expected redis://host"),
    (late(Redis, urls=["redis://a:0"]), "urls[0]", "expected redis://host"),
    (late(Redis, urls=["redis://a:99999"]), "urls[0]", "expected redis://host"),
    (late(Redis, urls=["redis://a/x"]), "urls[0]", "expected redis://host"),
    (late(Redis, urls=["redis://a?near=1"]), "urls[0]", "without"),
    (late(Redis, urls=["redis://a,b"]), "urls[0]", "expected redis://host"),
    (late(Redis, urls=[5]), "urls[0]", "expected redis://host"),
    (late(Redis, urls=["redis://a", "rediss://b"]), "urls", "mixed"),
    (late(Redis, urls=["redis://a"], username="u"), "username", "password"),
    (
        late(Redis, urls=["redis://a"], cluster=True, sentinel=SentinelConfig(master="m")),
        "cluster",
        "excludes sentinel",
    ),
    (late(Consistent, replicas=0), "replicas", ">= 1"),
    (late(PartitioningConfig, strategy=None), "strategy", "Consistent"),
    (late(CacheStatistics, interval=0), "interval", "at least 100 ms"),
    (late(CacheRegion, "a", ttl=0), "ttl", r"use delete\(\)"),
    (late(CacheRegion, "a", size=0), "size", "at least 1 byte"),
    (late(CacheRegion, "a", ttl_jitter=1.5), "ttl_jitter", "<= 1"),
    (late(CacheRegion, "a", ttl_jitter=float("nan")), "ttl_jitter", "a number"),
    (late(CacheRegion, "a", grace=-1), "grace", "negative"),
    (late(CacheRegion, "a", isolation="deep"), "isolation", "one of share, copy, check"),
    (late(CacheRegion, "a", on_unavailable="ignore"), "on_unavailable", "raise, load, miss"),
    (late(LoadConfig, soft_deadline="30s"), "soft_deadline", "not below hard_deadline"),
    (late(LoadConfig, hard_deadline=0), "hard_deadline", "above 0"),
    (late(LoadConfig, max_concurrent_loads=0), "max_concurrent_loads", ">= 1"),
    (late(CacheConfig, ttl=float("inf")), "ttl", "longer than"),
    (late(CacheConfig, regions=[CacheRegion("a"), CacheRegion("a")]), "regions[1].name", "'a'"),
    (late(CacheConfig, regions=["a"]), "regions[0]", "CacheRegion"),
    (late(PostgreSQL, url="mysql://h/db"), "url", "expected postgresql://"),
    (late(SQLite, path="a", table="a; drop"), "table", "not a table name"),
    (late(SQLite, path="a", table="a.b.c"), "table", "not a table name"),
    (late(ReplicationConfig, factor=0), "factor", ">= 1"),
    (late(CacheCoherence, consistency="linear"), "consistency", "strong, bounded, eventual"),
    (late(WriteBehind, backend=SQLite(path="a"), flush_interval=0), "flush_interval", "above 0"),
    (late(RedisChannel, channel=""), "channel", "1 to 1024"),
    (late(Compact, threshold=0), "threshold", "> 0"),
    (late(Cleanup, older_than="long"), "older_than", "not a duration"),
    (late(MaintenanceConfig, schedule="hourly"), "schedule", "five fields"),
    (late(S3, bucket="a/b"), "bucket", "without '/'"),
    (late(S3, bucket="a", endpoint="file:///etc"), "endpoint", "http"),
    (
        late(BackupConfig, schedule="0 0 * * *", retention=0, storage=Directory(path="/b")),
        "retention",
        "above 0",
    ),
]


@pytest.mark.parametrize(("build", "path", "message"), REFUSED)
def test_what_breaks_a_rule_is_refused_and_named(build, path, message):
    with pytest.raises(ConfigError, match=message) as caught:
        build()
    assert caught.value.path == path
    assert str(caught.value).startswith(f"{path}: ")
    assert isinstance(caught.value, InvalidArgument)
    assert isinstance(caught.value, ValueError)


def test_nan_never_gets_in():
    nan = float("nan")
    for build in (
        late(CacheRegion, "a", ttl_jitter=nan),
        late(Compact, threshold=nan),
        late(LoadConfig, lease=nan),
        late(CacheConfig, ttl=nan),
        late(AlertConfig, max_memory_usage=nan),
        late(AlertConfig, max_eviction_rate=nan),
        late(TracingConfig, sampling_rate=nan),
    ):
        with pytest.raises(ValueError):
            build()


def test_the_leaves_refuse_with_a_plain_value_error():
    for build, field in (
        (late(AlertConfig, max_memory_usage=0), "max_memory_usage"),
        (late(AlertConfig, max_memory_usage=1.1), "max_memory_usage"),
        (late(AlertConfig, max_eviction_rate=True), "max_eviction_rate"),
        (late(MetricsConfig, metrics="cache_hits"), "metrics"),
        (late(MetricsConfig, metrics=("a b",)), "metrics"),
        (late(MetricsConfig, alerts=0.9), "alerts"),
        (late(TracingConfig, service_name=" "), "service_name"),
        (late(TracingConfig, sampling_rate=2), "sampling_rate"),
        (late(TracingConfig, context_propagation="yes"), "context_propagation"),
    ):
        with pytest.raises(ValueError, match=f"^{field}: "):
            build()
    assert late(MetricsConfig, metrics=["cache_hits"])().metrics == ("cache_hits",)


def test_frozen_and_without_unknown_arguments():
    with pytest.raises(AttributeError):
        CacheConfig().name = "other"  # type: ignore[misc]
    with pytest.raises(TypeError, match="nmae"):
        CacheConfig(nmae="x")  # type: ignore[call-arg]


def test_a_change_is_a_checked_copy():
    config = msgspec.structs.replace(CacheConfig(), ttl="2h")
    assert config.ttl == 7200.0
    with pytest.raises(ConfigError):
        msgspec.structs.replace(config, ttl=0)


def test_configurations_can_be_pickled():
    config = CacheConfig(
        backend=Redis(urls=["redis://:hunter2@a"], password="hunter3"), regions=[CacheRegion("a")]
    )
    assert pickle.loads(pickle.dumps(config)) == config


def test_secrets_are_not_shown():
    config = CacheConfig(
        backend=Redis(
            urls=["redis://user:hunter2@a", "redis://:hunter%2F2@b"],
            password="hunter3",
            sentinel=SentinelConfig(master="m", password="hunter4"),
        ),
        coherence=CacheCoherence(
            mode=WriteBehind(backend=PostgreSQL(url="postgres://u:hunter5@h/db?password=hunter6"))
        ),
    )
    for text in (repr(config), str(config), repr(config.backend.__rich_repr__())):
        assert "hunter" not in text
        assert "***" in text


@pytest.mark.parametrize(
    "build",
    [
        late(Redis, urls=["redis://:hunter2@a:x"]),
        late(Redis, urls=["redis://:hun/hunter@2@a"]),
        late(Redis, urls=["redis://: hunter2 'x'@a:x"]),
        late(Redis, urls="redis://:hunter2@a"),
        late(Redis, urls=["redis://a"], password=b"hunter2"),
        late(PostgreSQL, url="mysql://u:hunter2@h/db"),
        late(CacheConfig, backend="redis://:hunter2@a"),
        late(CacheConfig, ttl="redis://:hunter2@a"),
        late(CacheRegion, "redis://:hunter2@a"),
        late(Compression, algorithm="redis://:hunter2@a"),
        late(MaintenanceConfig, schedule="redis://:hunter2@a"),
    ],
)
def test_secrets_are_not_in_errors(build):
    with pytest.raises(ConfigError) as caught:
        build()
    assert "hunter" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"urls": ["unix:///s"], "tls": TlsConfig()}, "tls: a unix:// socket is never encrypted"),
        ({"urls": ["redis://h", "rediss://h"]}, "can't be mixed"),
        ({"urls": ["unix:///s"], "cluster": True}, "a Unix socket is a server by itself"),
    ],
)
def test_encryption_is_never_left_out_by_accident(settings, message):
    with pytest.raises(ConfigError, match=message):
        Redis(**settings)


@pytest.mark.parametrize("field", ["idle_timeout", "connect_timeout", "timeout"])
def test_a_pool_waits_some_time(field):
    with pytest.raises(ConfigError, match=f"{field}: must be above 0"):
        PoolConfig(**{field: 0})
