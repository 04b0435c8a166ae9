"""Numbers that are added to: what is held, and what a sum may be, the same for every backend."""

from __future__ import annotations

from ..errors import InvalidArgument, TypeMismatch, Undecodable
from .encoded import CodecId, Encoded
from .integer import MAX, MIN, decode

__all__ = ["addend", "bounded", "fits", "out_of_bounds"]


def addend(key: str, held: object) -> int:
    """The number that is stored under ``key``. Raises :class:`TypeMismatch` for anything else."""
    if not isinstance(held, Encoded) or held.codec != CodecId.INTEGER:
        raise TypeMismatch(f"increment needs an int: {key!r} holds something else")
    try:
        number: int = decode(held.payload, held.flags, int)
    except Undecodable:
        raise TypeMismatch(f"increment needs an int: {key!r} holds malformed digits") from None
    return number


def bounded(key: str, total: int) -> int:
    """``total``. Raises :class:`InvalidArgument` where it leaves 64 bits."""
    if not fits(total):
        raise out_of_bounds(key, total)
    return total


def fits(number: int) -> bool:
    """Whether a number has 64 bits at most, its sign among them."""
    return MIN <= number <= MAX


def out_of_bounds(key: str, total: int) -> InvalidArgument:
    """The error for a sum that does not fit."""
    return InvalidArgument(f"increment of {key!r} would leave 64 bits: {total}")
