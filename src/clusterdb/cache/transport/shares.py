"""Shares of the keys: what can be read side by side, and where its keys are while servers change.

The share of a cluster is a set of slots, that of a ring what a server owns first: rules that say of
each key to which share it belongs, whoever holds it. So the shares of one moment are all keys for
ever, however slots move afterwards: who reads a share asks anew where it is.

**Keys that move while a server is scanned.** ``SCAN`` gives what stays on one server. A slot moves
key by key, from its source to its target and never back, so who scans the source to its end and
then the target has met every key that stayed in the cluster: on the source, or, if it had left
before the scan came to it, on the target. The source itself knows where its slots have gone or are
going (``CLUSTER NODES``), sooner than all others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from ..errors import InvalidArgument
from .node import Node
from .slots import SLOTS, Address

__all__ = ["ALL", "Place", "Seats", "no_share", "seats", "slots_in", "slots_share", "whole"]

ALL: Final = "all"
"""The only share where one server has every key."""

_SHARE: Final = re.compile(r"slots (\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*)", re.ASCII)
_LEAVING: Final = re.compile(r"\[(\d+)->-(\w+)\]", re.ASCII)
_RANGE: Final = re.compile(r"(\d+)(?:-(\d+))?", re.ASCII)
_NAME, _ADDRESS, _FLAGS, _FIRST_SLOT = 0, 1, 2, 8


class Place(NamedTuple):
    """A server that may hold keys of ``share``, and ``has``, which tells whether a name is one.
    ``source``: the server that these keys are leaving.
    """

    share: str
    node: Node
    has: Callable[[bytes], bool]
    source: Node | None = None


class Seats(NamedTuple):
    """What a server of a cluster says: who has which slot, which of ``own`` it has itself, and
    where those are going that are ``leaving`` it.
    """

    owners: dict[int, Address]
    own: frozenset[int]
    leaving: dict[int, Address]


def slots_share(slots: Iterable[int]) -> str:
    """The name of a set of slots."""
    ranges: list[list[int]] = []
    for slot in sorted(slots):
        if ranges and ranges[-1][1] == slot - 1:
            ranges[-1][1] = slot
        else:
            ranges.append([slot, slot])
    names = [f"{first}" if first == last else f"{first}-{last}" for first, last in ranges]
    return f"slots {','.join(names)}"


def slots_in(share: str) -> frozenset[int]:
    """The slots of a share. Raises :class:`InvalidArgument` for what is none."""
    found = _SHARE.fullmatch(share)
    slots: set[int] = set()
    for part in found[1].split(",") if found else ():
        first, _, last = part.partition("-")
        slots.update(range(int(first), min(int(last or first), SLOTS) + 1))
    if not slots or max(slots) >= SLOTS:
        raise no_share(share, "slots 0-5460")
    return frozenset(slots)


def no_share(share: str, known: str) -> InvalidArgument:
    """The error of a share that there is not."""
    return InvalidArgument(f"there is no part {share!r} to export; one is {known!r}")


def whole(share: str, node: Node) -> list[Place]:
    """Where the keys are of a server that has all. Raises :class:`InvalidArgument` for a share that
    is not `ALL`.
    """
    if share != ALL:
        raise no_share(share, ALL)
    return [Place(ALL, node, _any)]


def _any(name: bytes) -> bool:  # noqa: ARG001 - all of them
    return True


def seats(text: str, asked: Address) -> Seats:
    """The answer to ``CLUSTER NODES``. A server that doesn't know its own host is ``asked``."""
    addresses: dict[str, Address] = {}
    owners: dict[int, Address] = {}
    own: set[int] = set()
    leaving: dict[int, str] = {}
    for line in text.splitlines():
        words = line.split(" ")
        if len(words) < _FIRST_SLOT:
            continue
        address = addresses[words[_NAME]] = _address(words[_ADDRESS], asked)
        slots = [slot for word in words[_FIRST_SLOT:] for slot in _range(word)]
        owners.update(dict.fromkeys(slots, address))
        if "myself" in words[_FLAGS].split(","):
            own.update(slots)
            moves = [_LEAVING.fullmatch(word) for word in words[_FIRST_SLOT:]]
            leaving = {int(move[1]): move[2] for move in moves if move}
    known = {slot: addresses[name] for slot, name in leaving.items() if name in addresses}
    return Seats(owners, frozenset(own), known)


def _address(word: str, asked: Address) -> Address:
    """What stands in ``host:port@bus,hostname``."""
    host, _, port = word.split("@", maxsplit=1)[0].split(",", maxsplit=1)[0].rpartition(":")
    return Address(host or asked.host, int(port))


def _range(word: str) -> range:
    found = _RANGE.fullmatch(word)
    if found is None:
        return range(0)
    return range(int(found[1]), int(found[2] or found[1]) + 1)
