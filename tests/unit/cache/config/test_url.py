"""A cache from one line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterdb.cache.config import Adaptive, CacheConfig, CachePolicy, Disk, Memory, Redis
from clusterdb.cache.errors import ConfigError


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("memory://", CacheConfig()),
        ("MEMORY:///", CacheConfig()),
        (
            "memory://?name=x&max_items=10&max_memory=5MB&ttl=1h",
            CacheConfig(
                name="x",
                ttl=3600,
                policy=CachePolicy(eviction=Adaptive(max_items=10, max_memory="5MB")),
            ),
        ),
        ("memory://?ttl=none", CacheConfig()),
        ("disk:///var/my%20cache.db", CacheConfig(backend=Disk(path="/var/my cache.db"))),
        ("disk:///a?synchronous=full", CacheConfig(backend=Disk(path="/a", synchronous="full"))),
        ("redis://h", CacheConfig(backend=Redis(urls=["redis://h"]))),
        (
            "redis://u:p%40w@h1:1,h2:2/3?near=0&name=z",
            CacheConfig(
                name="z",
                backend=Redis(
                    urls=["redis://u:p%40w@h1:1/3", "redis://u:p%40w@h2:2/3"], near=False
                ),
            ),
        ),
        (
            "rediss://[::1]:6379?cluster=true",
            CacheConfig(backend=Redis(urls=["rediss://[::1]:6379"], cluster=True)),
        ),
        (
            "unix://u:p@/run/redis.sock?db=2&near=0",
            CacheConfig(backend=Redis(urls=["unix://u:p@/run/redis.sock?db=2"], near=False)),
        ),
        ("unix:///run/x.sock", CacheConfig(backend=Redis(urls=["unix:///run/x.sock"]))),
    ],
)
def test_urls(url, expected):
    assert CacheConfig.from_url(url) == expected


def test_memory_is_the_default_backend():
    assert CacheConfig.from_url("memory://").backend == Memory()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "unknown scheme ''"),
        ("h:6379", "unknown scheme 'h'"),
        ("rdis://h", "did you mean 'redis'?"),
        ("redis:h", "expected redis://"),
        ("redis://h#x", "without '#'"),
        ("redis://", "expected redis://host:port/db"),
        ("unix://host/x.sock", "expected unix:///path/of/socket"),
        ("unix:///", "expected unix:///path/of/socket"),
        ("unix:///x.sock?db=-1", "expected unix:///path/of/socket"),
        ("redis://h,", "expected redis://host:port/db"),
        ("redis://h:x", "expected redis://host:port/db"),
        ("redis://h?nera=1", "nera: unknown switch - did you mean 'near'?"),
        ("redis://h?near=1&near=0", "near: given twice"),
        ("redis://h?near=maybe", "cache.backend.near: expected true or false, got 'maybe'"),
        ("redis://h?near=", "cache.backend.near: expected true or false"),
        ("memory://?near=1", "near: unknown switch"),
        ("memory://?max_items=0", "a whole number >= 1"),
        ("memory://?max_items=x", "a whole number, got 'x'"),
        ("memory://?ttl=0", "use delete()"),
        ("memory://?name=a b", "is not a name"),
        ("memory://host", "neither host nor path"),
        ("memory:///path", "neither host nor path"),
        ("disk://path", "third slash"),
        ("disk://", "expected the path"),
        ("http://[x", "is not a URL"),
        ("redis://" + "h" * 10_000, "at most 8192"),
        (None, "expected a URL"),
    ],
)
def test_what_is_refused(url, message):
    with pytest.raises(ConfigError) as caught:
        CacheConfig.from_url(url)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hunter2@h:x", "redis://:hunter2@h?x=1", "rdis://u:hunter2@h", "redis://:hun/ter2@h",
        "http://:hunter2@[x", "redis://:a@hunter2@h:x", "redis://:hunter2@a,b:x?near=1",
        "memory://?password=hunter2",
    ],
)  # fmt: skip
def test_passwords_are_not_in_errors(url):
    with pytest.raises(ConfigError) as caught:
        CacheConfig.from_url(url)
    assert "hunter" not in str(caught.value)
    assert "ter2" not in str(caught.value)


@given(st.sampled_from(["", "memory://", "disk:///", "redis://h", "rediss://"]), st.text())
def test_any_url_loads_or_is_a_config_error(start, rest):
    found: object
    try:
        found = CacheConfig.from_url(start + rest)
    except ConfigError as error:
        found = error
    assert isinstance(found, (CacheConfig, ConfigError))
    assert str(found)
