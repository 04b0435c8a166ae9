"""Versions that processes can compare: the time of drawing, and a little randomness.

The idea is a hybrid logical clock (Kulkarni et al., "Logical Physical Clocks", 2014): microseconds
of the wall clock, but never less than what was drawn or seen before, so that what happens after
something was heard of has a higher version than it, whatever the clocks of the machines say.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from random import getrandbits as _random_bits
from typing import Any, Final, Self

from .clock import Clock
from .types import Version

__all__ = ["RANDOM_BITS", "Versions", "above", "first_version"]

RANDOM_BITS: Final = 12
"""The low bits of a version, which say nothing of the time."""

_APART: Final = 60_000_000 << RANDOM_BITS
"""How far another clock may be from ours to be believed, a minute: to follow one that is set to the
next century would end the order of versions for good.
"""

_NEARLY_LAST: Final = 2**63 - 2**52
"""Nobody draws versions from here on, which databases could not count further: a person wrote them.
"""


class Versions:
    """Draws versions: they grow in this process, and two processes draw the same one in 4096 only
    if they do it in the same microsecond. An iterator, for tables.
    """

    def __init__(self, clock: Clock) -> None:
        self._wall = clock.wall
        self._last = 0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        """A version. Not an int for the compiler: its slot for this hands out what is in the
        register, and not an object.
        """
        return self.draw()

    def draw(self) -> Version:
        """The next version, of 64 bits."""
        drawn = self._now() | _random_bits(RANDOM_BITS)
        self._last = drawn if drawn > self._last else self._last + 1
        return self._last

    def saw(self, version: Version) -> None:
        """Draw nothing below ``version``, which another process drew, from now on."""
        if self._last < version <= self._now() + _APART:
            self._last = version

    def follow(self, version: Version) -> None:
        """Draw nothing below ``version`` from now on, however far its clock is from ours: for those
        to whom an order matters more than the time. Two who follow one version go on apart.
        """
        if self._last < version < _NEARLY_LAST:
            self._last = version + _random_bits(RANDOM_BITS)

    def later(self, version: Version) -> bool:
        """Whether our clock has not come to a version yet."""
        return version > self._now()

    def ahead(self, version: Version) -> bool:
        """Whether no clock that is about right can have drawn a version yet."""
        return version > self._now() + _APART

    def plausible(self, version: Version) -> bool:
        """Whether a version may have been drawn lately by a clock that is about right."""
        return abs(version - self._now()) <= _APART

    def _now(self) -> Version:
        return int(self._wall() * 1_000_000) << RANDOM_BITS


def first_version(wall: float) -> Version:
    """Where versions that are only counted begin, at a time in seconds since 1970: above all that
    were counted before, in an earlier process or another file, as long as clocks are about right.
    So what is written after a loss is newer than a backup of before it.
    """
    return int(wall * 1_000_000) << RANDOM_BITS


def above(versions: Iterator[Version], version: Version) -> Iterator[Version]:
    """``versions`` that go on above ``version``: by the clock, or where they are only counted from
    there.
    """
    if isinstance(versions, Versions):
        versions.saw(version)
        return versions
    return versions if next(versions) > version else count(version + 1)
