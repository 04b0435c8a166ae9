"""Which slot of a Redis Cluster holds a key, and what a server says about who serves which slot.

The slot is the CRC16 (XMODEM) of the key modulo 16384; of a key with a non-empty ``{tag}`` only
the first tag counts, so that keys with equal tags are neighbours. Source: Redis Cluster
specification, "Key distribution model" and "Hash tags".
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from ..errors import ServerError

__all__ = ["SLOTS", "Address", "Redirect", "SlotRange", "redirect", "slot_of", "slot_ranges"]

SLOTS: Final = 16_384


class Address(NamedTuple):
    """Where a server of a cluster listens."""

    host: str
    port: int


class SlotRange(NamedTuple):
    """Slots ``first`` to ``last``, both included, with their primary and its replicas."""

    first: int
    last: int
    primary: Address
    replicas: tuple[Address, ...]


class Redirect(NamedTuple):
    """An answer that another server has the slot: for good, or for this command (``ask``)."""

    slot: int
    address: Address
    ask: bool


def slot_of(key: bytes) -> int:
    """The slot of ``key``, 0 to 16383."""
    opening = key.find(b"{")
    if opening >= 0:
        closing = key.find(b"}", opening + 1)
        if closing > opening + 1:
            key = key[opening + 1 : closing]
    return crc_hqx(key, 0) % SLOTS


def slot_ranges(reply: Sequence[Any], asked: Address) -> list[SlotRange]:
    """The answer to ``CLUSTER SLOTS``. A server that doesn't know its own host is ``asked``."""
    return [
        SlotRange(
            first, last, _address(primary, asked), tuple(_address(r, asked) for r in replicas)
        )
        for first, last, primary, *replicas in reply
    ]


def _address(node: Sequence[Any], asked: Address) -> Address:
    host = node[0].decode() if node[0] else ""
    return Address(host if host not in ("", "?") else asked.host, node[1])


def redirect(error: ServerError, asked: Address) -> Redirect | None:
    """What a MOVED or ASK answer of ``asked`` says; nothing for another error."""
    if error.code not in ("MOVED", "ASK"):
        return None
    _, slot, where = str(error).split(" ")[:3]
    host, _, port = where.rpartition(":")
    address = Address(host if host not in ("", "?") else asked.host, int(port))
    return Redirect(int(slot), address, error.code == "ASK")
