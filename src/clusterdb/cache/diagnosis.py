"""What is wrong with a cache, by the names that the specification's table of troubles has: pure
rules over what a backend says of itself.

=================== ==================================================== ==========================
error               causes                                               solution
=================== ==================================================== ==========================
Out of memory       the limit is reached and the server refuses writes;  raise the limit, or let it
                    only entries with a TTL can leave; values or memory  evict; look at the values
                    were refused
High latency        a server answers late; nothing can be kept near, so  check the network, scale;
                    that every read is a round trip                      grant what tracking needs
Inconsistent data   replicas are far behind, or too few; what is taken   check the replication
                    for the primary is a replica; versions differ
=================== ==================================================== ==========================

One look sees no rates: how fast entries are evicted is the matter of alerts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, TypeAlias

import msgspec

from .protocols import BackendInfo, ServerInfo
from .units import ByteSize

__all__ = ["FAR_BEHIND", "FULL", "LATE", "Diagnosis", "Trouble", "diagnose"]

Trouble: TypeAlias = Literal["Out of memory", "High latency", "Inconsistent data"]

FULL: Final = 0.95
"""The share of a memory limit from which it counts as reached."""

LATE: Final = 0.1
"""Seconds of a round trip from which a server counts as slow: a hundred times what is usual."""

FAR_BEHIND: Final = 10_000_000
"""Bytes of the stream of changes that a replica may be behind."""

_PRIMARY: Final = ("master", "unknown")


class Diagnosis(msgspec.Struct, frozen=True):
    """One trouble. ``slight``: worth a look, while the cache does its work as well as it can."""

    error: Trouble
    cause: str
    solution: str
    slight: bool = False


def diagnose(info: BackendInfo, copies: int = 1) -> list[Diagnosis]:
    """What is wrong, the gravest first. ``copies``: how many servers must have each write."""
    found: list[Diagnosis] = []
    for server in info.servers:
        if server.role:  # one that is away is told of by name
            found += [*_memory(server), *_latency(server), *_replication(server, copies)]
    found += [*_refusals(info), *_versions(info)]
    return sorted(found, key=lambda each: each.slight)


def _memory(server: ServerInfo) -> Iterator[Diagnosis]:
    if not server.max_memory or server.memory < FULL * server.max_memory:
        return
    used = f"{server.name} uses {_size(server.memory)} of its maxmemory {_size(server.max_memory)}"
    raised = "raise maxmemory (CONFIG SET maxmemory, and in its file)"
    if server.policy == "noeviction":
        yield Diagnosis(
            "Out of memory",
            f"{used}, and refuses writes (maxmemory-policy noeviction)",
            f"{raised}, or let it evict: maxmemory-policy allkeys-lru",
        )
    elif server.policy.startswith("volatile-"):
        yield Diagnosis(
            "Out of memory",
            f"{used}, and only entries with a TTL can leave ({server.policy})",
            f"{raised}, give every region a ttl, or let all entries leave: "
            f"maxmemory-policy allkeys-lru",
        )


def _latency(server: ServerInfo) -> Iterator[Diagnosis]:
    if server.latency >= LATE:
        yield Diagnosis(
            "High latency",
            f"{server.name} took {1000 * server.latency:.0f} ms to answer a PING: the network is "
            f"congested or far, or the server is busy",
            "check the network between here and there, and what the server does (SLOWLOG GET, its "
            "CPU, swapping); then scale: a nearer or larger server, a Cluster, a larger near tier",
        )
    if server.near:
        yield Diagnosis(
            "High latency",
            f"every read of {server.name} is a round trip, as nothing can be kept near that would "
            f"not be told of its changes: {server.near}",
            "let the server track (Redis 6 or newer, spoken to directly, the permission "
            "client|tracking); near: false where that is not wanted",
        )


def _replication(server: ServerInfo, copies: int) -> Iterator[Diagnosis]:
    check = f"check the replication: INFO replication on {server.name} and on its replicas"
    if server.role not in _PRIMARY:
        yield Diagnosis(
            "Inconsistent data",
            f"{server.name} is a {server.role}, and was taken for the primary: it may be behind, "
            f"and refuses writes",
            "connect to the primary, or through Sentinel or Cluster, which follow it",
        )
    if server.lag is not None and server.lag >= FAR_BEHIND:
        yield Diagnosis(
            "Inconsistent data",
            f"a replica of {server.name} is {_size(server.lag)} of changes behind: what it has "
            f"not heard of is lost when it becomes the primary",
            f"{check}, the network between them, and client-output-buffer-limit replica",
        )
    if server.replicas < copies - 1:
        yield Diagnosis(
            "Inconsistent data",
            f"{server.name} has {server.replicas} replicas, and coherence.replication wants "
            f"{copies - 1} to have each write: writes raise Degraded",
            f"{check}; start those that are missing, or ask for a smaller factor",
        )


def _refusals(info: BackendInfo) -> Iterator[Diagnosis]:
    """What regions could not keep, ever since: worth a look, and perhaps over."""
    for name, region in info.regions.items():
        counted = region.totals or region.counters
        if counted.rejections:
            yield Diagnosis(
                "Out of memory",
                f"region {name!r} refused {counted.rejections:,} writes: values too large for it, "
                f"or memory out",
                "raise the size of the region (or maxmemory), or store less in an entry: "
                "compression, fewer fields",
                slight=True,
            )
        if counted.refused_by_memory:
            yield Diagnosis(
                "Out of memory",
                f"region {name!r} kept {counted.refused_by_memory:,} new entries out, as the "
                f"process came near to its max_process_memory",
                "raise max_process_memory, or give the regions a smaller max_memory",
                slight=True,
            )


def _versions(info: BackendInfo) -> Iterator[Diagnosis]:
    versions = sorted({each.version for each in info.members if each.version})
    if len(versions) > 1:
        yield Diagnosis(
            "Inconsistent data",
            f"processes with different versions of this library share the cache: "
            f"{', '.join(versions)}; what one stores another may not read, and loads it again",
            "finish the update: 'cache status' shows which process has which version",
            slight=True,
        )


def _size(count: int) -> str:
    return str(ByteSize(count))
