"""What the servers say of themselves, and where that is not what the configuration wants.

The top-level ``policy.eviction`` is the server's own ``maxmemory`` and ``maxmemory-policy``: a
shared server evicts for all its users, and is configured by whoever runs it. So it is compared
here, and never changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from ...config import CachePolicy, EvictionPolicy
from ...errors import BackendUnavailable, NotSupported, ServerError
from ...protocols import Member, ServerInfo
from ...transport import Node
from ...units import ByteSize
from .link import Link, explained
from .membership import Membership

__all__ = ["check_version", "info_fields", "look_around", "look_at", "problems"]

_OLDEST: Final = 7
_POLICIES: Final = {
    "adaptive": ("allkeys-lru", "allkeys-lfu"),
    "lru": ("allkeys-lru",),
    "lfu": ("allkeys-lfu",),
}
_DEFAULT: Final = CachePolicy().eviction


async def look_at(link: Link) -> list[ServerInfo]:
    """Every primary, as it is now. Cost: two round trips, to all at once.

    Raises `BackendUnavailable` when none can be reached.
    """
    nodes = link.topology.nodes()
    found = await asyncio.gather(*[_look_at(node, link) for node in nodes])
    if found and not any(server.role for server in found):
        raise BackendUnavailable(found[0].problem)
    return found


async def look_around(
    link: Link, membership: Membership
) -> tuple[list[ServerInfo], tuple[Member, ...]]:
    """Every primary and every process, at once; otherwise as `look_at`."""
    servers, members = await asyncio.gather(look_at(link), membership.members())
    return servers, members


async def _look_at(node: Node, link: Link) -> ServerInfo:
    deadline = link.deadline()
    try:
        sent_at = link.now()
        await node.call(("PING",), deadline)
        latency = link.now() - sent_at
        fields = info_fields(await node.call(("INFO",), deadline))
    except BackendUnavailable as error:
        return _unasked(node, "", str(error))
    except ServerError as error:  # it works, but for a user who may not ask it
        return _unasked(node, "unknown", str(explained(error)))
    return ServerInfo(
        name=node.name,
        role=fields.get("role", "master"),
        version=fields.get("valkey_version", fields.get("redis_version", "")),
        latency=latency,
        memory=_number(fields, "used_memory"),
        max_memory=_number(fields, "maxmemory"),
        policy=fields.get("maxmemory_policy", ""),
        evictions=_number(fields, "evicted_keys"),
        clients=_number(fields, "connected_clients"),
        replicas=_number(fields, "connected_slaves"),
        lag=_lag(fields),
        connections=len(node.connections),
        reconnects=node.reconnects,
    )


def _unasked(node: Node, role: str, problem: str) -> ServerInfo:
    """What is known of a server that tells nothing."""
    return ServerInfo(
        name=node.name,
        role=role,
        connections=len(node.connections),
        reconnects=node.reconnects,
        problem=problem,
    )


def info_fields(info: bytes) -> dict[str, str]:
    """What ``INFO`` says."""
    lines = info.decode(errors="replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def _number(fields: Mapping[str, str], name: str) -> int:
    text = fields.get(name, "0")
    return int(text) if text.isdecimal() else 0


def _lag(fields: Mapping[str, str]) -> int | None:
    """How many bytes the slowest replica is behind; ``None`` without replicas."""
    sent = _number(fields, "master_repl_offset")
    behind: list[int] = []
    for name, text in fields.items():
        if name.startswith("slave") and name[5:].isdecimal():
            said = dict(part.split("=", 1) for part in text.split(",") if "=" in part)
            behind.append(max(0, sent - _number(said, "offset")))
    return max(behind, default=None)


def check_version(servers: Sequence[ServerInfo]) -> None:
    """Raise `NotSupported` for a server that is too old for the scripts."""
    for server in servers:
        major = server.version.partition(".")[0]
        if major.isdecimal() and int(major) < _OLDEST:
            raise NotSupported(
                f"{server.name} is Redis {server.version}, and this needs Redis {_OLDEST} or "
                f"newer, or Valkey: its scripts declare what they do (#!lua)"
            )


def problems(servers: Sequence[ServerInfo], wanted: EvictionPolicy) -> list[str]:
    """Sentences for a person: servers that are away, and evict otherwise than is configured."""
    found = [
        f"{server.name} can't be asked: {server.problem}" for server in servers if server.problem
    ]
    alive = [server for server in servers if not server.problem]
    found += _memory_problems(alive, wanted)
    for server in alive:
        found += _policy_problems(server, wanted)
    if wanted != _DEFAULT and wanted.max_items is not None:
        found.append(
            f"policy.eviction.max_items {wanted.max_items} counts for the near tier only: Redis "
            f"limits memory, not the number of keys"
        )
    return found


def _memory_problems(servers: Sequence[ServerInfo], wanted: EvictionPolicy) -> list[str]:
    if wanted.max_memory is None or not servers:
        return []
    limit, room = ByteSize(wanted.max_memory), sum([server.max_memory for server in servers])
    if any(not server.max_memory for server in servers):
        names = ", ".join([server.name for server in servers if not server.max_memory])
        return [
            f"policy.eviction.max_memory is {limit}, and {names} has no maxmemory: set it there"
        ]
    if abs(room - limit) > limit / 20:
        return [
            (
                f"policy.eviction.max_memory is {limit}, and the servers' maxmemory is "
                f"{ByteSize(room)} in all: make them agree"
            )
        ]
    return []


def _policy_problems(server: ServerInfo, wanted: EvictionPolicy) -> list[str]:
    name, policy = str(wanted.__struct_config__.tag), server.policy
    limit = ByteSize(server.max_memory)
    if not limit or not policy:
        return []  # nothing is ever evicted
    if policy == "noeviction":
        return [
            (
                f"{server.name} refuses writes once its maxmemory of {limit} is full "
                f"(maxmemory-policy noeviction): a cache wants one that evicts, as allkeys-lru"
            )
        ]
    if policy.startswith("volatile-"):
        return [
            (
                f"{server.name} evicts only entries with a TTL ({policy}): those without one "
                f"fill it for good"
            )
        ]
    if policy not in _POLICIES.get(name, ()):
        said = f"policy.eviction is {name}, and {server.name} evicts by {policy}"
        has_it = (
            f"set maxmemory-policy {_POLICIES[name][0]}"
            if name in _POLICIES
            else ("Redis has no such policy, and it counts for the near tier only")
        )
        return [f"{said}: {has_it}"]
    return []
