"""A ring before any server is asked: addresses, settings, and what several replies come to."""

from __future__ import annotations

import pytest

from clusterdb.cache.config import CacheConfig, Consistent, PartitioningConfig, Redis
from clusterdb.cache.errors import (
    BackendUnavailable,
    ConfigError,
    Degraded,
    NotSupported,
    NotSupportedOnRing,
    OutcomeUnknown,
    ServerError,
)
from clusterdb.cache.partition import HashRing
from clusterdb.cache.transport import topology_for
from clusterdb.cache.transport.endpoint import endpoints
from clusterdb.cache.transport.ring import Ring, _agreed, address_on_ring, copies_in

AWAY = BackendUnavailable("a:1 can't be reached")
UNKNOWN = OutcomeUnknown("b:2 did not answer in time")
FULL = ServerError("OOM command not allowed")
NO_SCRIPT = ServerError("NOSCRIPT No matching script")


def ring(*urls, **strategy):
    partitioning = PartitioningConfig(strategy=Consistent(**strategy))
    return topology_for(Redis(urls=urls), lambda: 0.0, partitioning=partitioning)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://user:secret@Cache-A.example.org", "cache-a.example.org:6379"),
        ("rediss://[2001:DB8::1]:7000/3", "[2001:db8::1]:7000/3"),
        ("redis://h:1/0", "h:1"),
        ("unix:///run/redis.sock?db=2", "/run/redis.sock/2"),
    ],
)
def test_the_address_that_is_hashed(url, address):
    [where] = endpoints(Redis(urls=[url]))
    assert address_on_ring(where) == address


def test_settings_place_the_keys():
    topology = ring("redis://a", "redis://b", "redis://c", replicas=2, virtual_nodes=9,
                    weights=[1, 2, 1])  # fmt: skip
    nodes = {"a:6379": 1.0, "b:6379": 2.0, "c:6379": 1.0}
    expected = HashRing(nodes, virtual_nodes=9, copies=2)
    assert isinstance(topology, Ring)
    for key in [b"%d" % n for n in range(100)]:
        owners = tuple(node.name for node in topology.owners(key))
        assert owners == expected.owners(key)
        assert topology.node_for(key).name == owners[0]


def test_how_many_servers_a_write_is_done_on():
    assert copies_in(ring("redis://a", "redis://b", replicas=2)) == 2
    assert copies_in(ring("redis://a", "redis://b")) == 1
    assert copies_in(ring("redis://a")) == 1
    assert copies_in(topology_for(Redis(urls=["redis://a"], cluster=True), lambda: 0.0)) == 1


def test_a_server_is_named_once():
    with pytest.raises(ConfigError, match=r"cache\.backend\.urls: h:6379 is there twice"):
        ring("redis://h", "redis://user:pw@h:6379/0")


@pytest.mark.parametrize(
    ("strategy", "path"), [({"replicas": 3}, "replicas"), ({"weights": [1]}, "weights")]
)
def test_a_ring_that_can_not_be_is_refused_with_the_configuration(strategy, path):
    partitioning = PartitioningConfig(strategy=Consistent(**strategy))
    with pytest.raises(ConfigError) as caught:
        CacheConfig(backend=Redis(urls=["redis://a", "redis://b"]), partitioning=partitioning)
    assert caught.value.path == f"partitioning.strategy.{path}"

    CacheConfig(backend=Redis(urls=["redis://a", "redis://b"], cluster=True),
                partitioning=partitioning)  # fmt: skip


@pytest.mark.parametrize(
    ("replies", "reply"),
    [
        ([b"1", b"2"], b"1"),
        ([None, b"2"], None),
        ([AWAY, UNKNOWN], UNKNOWN),
        ([AWAY, FULL], FULL),
        ([AWAY, AWAY], AWAY),
        ([b"1", NO_SCRIPT], NO_SCRIPT),
        ([NO_SCRIPT, AWAY], NO_SCRIPT),
    ],
)
def test_what_the_replies_of_owners_come_to(replies, reply):
    assert _agreed(replies) is reply


@pytest.mark.parametrize("missed", [AWAY, UNKNOWN, FULL])
def test_a_write_that_missed_an_owner(missed):
    error = _agreed([missed, b"2", b"3"])

    assert isinstance(error, Degraded)
    assert (error.acknowledged, error.wanted, error.reply) == (2, 3, b"2")
    assert str(missed) in str(error)
    assert isinstance(error, BackendUnavailable)


def test_a_refusal_names_the_remedy():
    error = NotSupportedOnRing("increment", 2)
    assert isinstance(error, NotSupported)
    assert str(error).startswith("increment needs one server")
    assert "Redis Cluster" in str(error)
    assert error.copies == 2
