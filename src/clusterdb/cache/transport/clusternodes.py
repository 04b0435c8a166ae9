"""What ``CLUSTER NODES`` says: the servers of a cluster, their slots, and slots that are open.

Each server tells of open slots only of its own. Source: Redis, "CLUSTER NODES", "CLUSTER SETSLOT".
"""

from __future__ import annotations

from typing import NamedTuple

from .slots import Address

__all__ = ["ClusterNode", "cluster_nodes"]


class ClusterNode(NamedTuple):
    """A server. ``migrating`` and ``importing`` are open slots, with the other server's id."""

    id: str
    address: Address
    myself: bool
    primary: bool
    works: bool
    slots: tuple[int, ...]
    migrating: dict[int, str]
    importing: dict[int, str]

    @property
    def name(self) -> str:
        """The address as a person writes it."""
        host, port = self.address
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def cluster_nodes(text: str, asked: Address) -> list[ClusterNode]:
    """The lines of the answer of ``asked``, which stands for a server that names no host."""
    return [_node(line.split(" "), asked) for line in text.splitlines() if line.strip()]


def _node(words: list[str], asked: Address) -> ClusterNode:
    host, _, port = words[1].partition(",")[0].partition("@")[0].rpartition(":")
    flags = words[2].split(",")
    slots: list[int] = []
    migrating: dict[int, str] = {}
    importing: dict[int, str] = {}
    for word in words[8:]:
        if word.startswith("["):
            slot, arrow, other = word.strip("[]").partition("->-")
            if arrow:
                migrating[int(slot)] = other
            else:
                slot, _, other = word.strip("[]").partition("-<-")
                importing[int(slot)] = other
        else:
            first, _, last = word.partition("-")
            slots += range(int(first), int(last or first) + 1)
    return ClusterNode(
        id=words[0],
        address=Address(host or asked.host, int(port)),
        myself="myself" in flags,
        primary="master" in flags,
        works=not {"fail", "handshake", "noaddr"} & set(flags),
        slots=tuple(slots),
        migrating=migrating,
        importing=importing,
    )
