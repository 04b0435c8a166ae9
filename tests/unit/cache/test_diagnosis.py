"""The table of troubles of the specification, as rules."""

from typing import Any

import pytest
from msgspec.structs import replace

from clusterdb.cache.diagnosis import FAR_BEHIND, LATE, Diagnosis, diagnose
from clusterdb.cache.members import Member
from clusterdb.cache.protocols import BackendInfo, RegionInfo, ServerInfo
from clusterdb.cache.stats import Counters

SOUND = ServerInfo(
    name="node1:6379",
    role="master",
    latency=0.001,
    memory=10,
    max_memory=1000,
    policy="allkeys-lru",
)


def of(*servers: ServerInfo, **more: Any) -> BackendInfo:
    return BackendInfo("redis", 0, more.pop("regions", {}), servers=servers, **more)


def only(found: list[Diagnosis]) -> Diagnosis:
    [diagnosis] = found
    assert diagnosis.cause
    assert diagnosis.solution
    return diagnosis


def test_a_sound_backend_has_no_troubles():
    assert diagnose(of(SOUND)) == []
    assert diagnose(of(SOUND, regions={"r": RegionInfo(1, 1, Counters(evictions=9))})) == []
    assert diagnose(of(replace(SOUND, replicas=1, lag=100)), copies=2) == []


@pytest.mark.parametrize(
    ("server", "error", "cause", "solution"),
    [
        ({"memory": 960, "policy": "noeviction"}, "Out of memory", "refuses writes", "maxmemory"),
        ({"memory": 960, "policy": "volatile-ttl"}, "Out of memory", "with a TTL", "ttl"),
        ({"latency": 0.25}, "High latency", "250 ms", "check the network"),
        ({"near": "CLIENT TRACKING is denied"}, "High latency", "TRACKING is denied", "permission"),
        ({"role": "slave"}, "Inconsistent data", "is a slave", "connect to the primary"),
        ({"replicas": 1, "lag": FAR_BEHIND}, "Inconsistent data", "10MB", "INFO replication"),
    ],
)
def test_a_server_in_trouble(server, error, cause, solution):
    found = only(diagnose(of(SOUND, replace(SOUND, name="node2:6379", **server))))

    assert found.error == error
    assert cause in found.cause
    assert "node2:6379" in found.cause
    assert solution in found.solution
    assert not found.slight


@pytest.mark.parametrize(
    "server",
    [
        {"memory": 940, "policy": "noeviction"},
        {"memory": 1000},  # it evicts
        {"memory": 1000, "max_memory": 0, "policy": "noeviction"},
        {"latency": LATE - 0.001},
        {"replicas": 1, "lag": FAR_BEHIND - 1},
        {"role": "unknown"},  # it may not be asked
        {"role": "", "problem": "refused", "max_memory": 0},  # told of as away
    ],
)
def test_just_below_is_no_trouble(server):
    assert diagnose(of(replace(SOUND, **server))) == []


def test_missing_replicas_are_a_replication_failure():
    found = only(diagnose(of(replace(SOUND, replicas=1)), copies=3))

    assert found.error == "Inconsistent data"
    assert "has 1 replicas" in found.cause
    assert "2 to have each write" in found.cause
    assert "check the replication" in found.solution


@pytest.mark.parametrize("counter", ["rejections", "refused_by_memory"])
@pytest.mark.parametrize("kept", ["counters", "totals"])
def test_refused_writes_are_worth_a_look(counter, kept):
    counters: Any = {"counters": Counters(), kept: Counters(**{counter: 1234})}
    found = only(diagnose(of(regions={"session": RegionInfo(1, 1, **counters)})))

    assert found.error == "Out of memory"
    assert "'session'" in found.cause
    assert "1,234" in found.cause
    assert found.slight


def test_processes_of_two_versions_are_worth_a_look():
    members = [
        Member(host="h", pid=pid, program="p", started=0, silent=0, version=version)
        for pid, version in enumerate(["1.1", "1.0", "1.1", ""])
    ]
    found = only(diagnose(of(members=tuple(members))))

    assert (found.error, found.slight) == ("Inconsistent data", True)
    assert "1.0, 1.1" in found.cause
    assert diagnose(of(members=tuple(members[::2]))) == []


def test_the_gravest_is_told_first():
    regions = {"r": RegionInfo(1, 1, Counters(rejections=1))}
    found = diagnose(of(replace(SOUND, latency=1.0), regions=regions))

    assert [each.slight for each in found] == [False, True]
