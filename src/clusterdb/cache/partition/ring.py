"""Consistent hashing: keys and nodes on one circle, so that few keys move when nodes change.

Each node stands at many points of a circle of 2**64 places. A key belongs to the node of the first
point at or after its own place; its further copies belong to the next *other* nodes behind it. A
node that is added takes keys only for itself, one that leaves gives only its own away: about one
n-th of all. A node's share strays from its due by about 1/sqrt(points): 6% with 256.

Source: D. Karger et al., "Consistent Hashing and Random Trees", STOC 1997. Rejected: rendezvous
hashing, whose cost grows with the nodes for every key; jump hashing, in which only the last node
can leave; a bounded load, as a cache must find a key without asking how full its neighbours are.

The places are part of the stored data: docs/reference/ring.md, and golden files in the tests.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence

from ..errors import InvalidArgument
from .hashing import hash64, hash_tag

__all__ = ["HashRing"]


class HashRing:
    """``nodes`` by address, each with its weight; a key has ``copies`` of them as owners.

    A node of weight 1 has ``virtual_nodes`` points, others in proportion, at least one. Raises
    `InvalidArgument` for more copies than nodes. Cost: a hash for each point, once.
    """

    def __init__(
        self, nodes: Mapping[str, float], *, virtual_nodes: int = 256, copies: int = 1
    ) -> None:
        if not 1 <= copies <= len(nodes):
            raise InvalidArgument(
                f"{copies} copies of each key need as many nodes, and there are {len(nodes)}"
            )
        self.copies = copies
        points = sorted(
            (hash64(f"{node}#{number}".encode()), node)
            for node, weight in nodes.items()
            for number in range(max(1, int(virtual_nodes * weight + 0.5)))
        )
        self._places = [place for place, _ in points]
        self._owners = _owners([node for _, node in points], copies)

    def owners(self, key: bytes) -> tuple[str, ...]:
        """The nodes that hold ``key``, in the order in which they are asked. Cost: one hash."""
        return self._owners[bisect_left(self._places, hash64(hash_tag(key)))]


def _owners(nodes: Sequence[str], copies: int) -> list[tuple[str, ...]]:
    """The owners of what falls to each point, and behind the last point those of the first.

    Made backwards: a point's node goes before the owners of the next point.
    """
    owners = tuple(dict.fromkeys(nodes))[:copies]
    shared = {owners: owners}
    found = [owners]
    for node in reversed(nodes):
        owners = (node, *[other for other in owners if other != node])[:copies]
        owners = shared.setdefault(owners, owners)
        found.append(owners)
    found.reverse()
    return found
