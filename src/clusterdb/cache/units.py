"""Durations and sizes: the only place where ``"1h30m"`` and ``"64MiB"`` are read.

Pure functions, no clock. Everything above this module holds durations as float seconds and sizes
as `ByteSize` (an int), so that no caller has to know the text forms. A value that can't be read
raises `InvalidArgument` with the value and the forms that are accepted.
"""

from __future__ import annotations

import math
import re
from datetime import timedelta
from functools import lru_cache
from typing import Final, Self

from .errors import InvalidArgument

__all__ = ["MAX_BYTES", "MAX_SECONDS", "ByteSize", "format_seconds", "seconds", "ttl_seconds"]

MAX_SECONDS: Final = 1e10
"""The longest duration accepted, about 317 years: further deadlines are surely mistakes."""

MAX_BYTES: Final = 2**63 - 1
"""The largest size accepted: what a signed 64-bit counter holds."""

_LONGEST_TEXT: Final = 64
_DURATION_FORMS: Final = (
    'seconds as a number, a timedelta, or text such as "250ms", "90s", "1h30m", "7d", "2w"'
)
_SIZE_FORMS: Final = (
    'bytes as an int >= 0, or text such as "512", "64MiB", "1.5kB", "10GB"'
    " (kB, MB, GB, TB are powers of 1000; KiB, MiB, GiB, TiB of 1024)"
)

_SECONDS_IN: Final[dict[str, float]] = {
    "w": 604800.0, "d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6,
}  # fmt: skip
_DURATION_PART: Final = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(ms|us|w|d|h|m|s)")
_NUMBER: Final = re.compile(r"[0-9]+(?:\.[0-9]+)?")

_BYTES_IN: Final[dict[str, int]] = {
    "": 1, "b": 1,
    "kb": 1000, "mb": 1000**2, "gb": 1000**3, "tb": 1000**4,
    "kib": 1024, "mib": 1024**2, "gib": 1024**3, "tib": 1024**4,
}  # fmt: skip
_SIZE: Final = re.compile(r"([0-9]+)(?:\.([0-9]+))?\s*([a-z]*)")


def seconds(value: float | str | timedelta) -> float:
    """Return a duration as float seconds.

    Accepts int or float seconds, a `timedelta`, or text: one or more parts of a number and a unit
    (`us`, `ms`, `s`, `m`, `h`, `d`, `w`), largest first, or a bare number of seconds. Raises
    `InvalidArgument` for a bool, NaN, an infinite, negative or absurdly long duration (over
    `MAX_SECONDS`) and for anything else.
    """
    return _signed_seconds(value, lowest=0.0)


def ttl_seconds(value: float | str | timedelta | None) -> float | None:
    """Return a time to live as float seconds; None means no expiry.

    Raises `InvalidArgument` where `seconds` does and for zero or less: an entry that is to go now
    is deleted, not written with an expiry in the past.
    """
    if value is None:
        return None
    if (type(value) is int or type(value) is float) and 0 < value <= MAX_SECONDS:
        return float(value)  # what most are, without a look at what else it could be
    found = _signed_seconds(value, lowest=-math.inf)
    if found <= 0:
        raise InvalidArgument(
            f"a TTL must be greater than 0, got {_shown(value)}: "
            "use delete() to remove an entry now, or None for no expiry"
        )
    return found


def format_seconds(value: float) -> str:
    """Return a duration as short text that `seconds` reads back: ``5400`` gives ``"1h30m"``.

    Exact down to a microsecond; what is finer is rounded.
    """
    whole, micros = divmod(round(seconds(value) * 1_000_000), 1_000_000)
    parts = []
    for unit in ("w", "d", "h", "m", "s"):
        count, whole = divmod(whole, int(_SECONDS_IN[unit]))
        if count:
            parts.append(f"{count}{unit}")
    millis, micros = divmod(micros, 1000)
    if millis:
        parts.append(f"{millis}ms")
    if micros:
        parts.append(f"{micros}us")
    return "".join(parts) or "0s"


def _signed_seconds(value: object, *, lowest: float) -> float:
    """Read any accepted form; refuse what is not finite, too long, or below `lowest`."""
    if isinstance(value, str):
        found = _text_seconds(value)
    elif isinstance(value, timedelta):
        found = value.total_seconds()
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        found = _as_float(value)
    else:
        found = math.nan
    if math.isnan(found):
        raise InvalidArgument(f"{_shown(value)} is not a duration: expected {_DURATION_FORMS}")
    if not lowest <= found <= MAX_SECONDS:
        bound = "negative" if found < 0 else f"longer than {MAX_SECONDS:.0e} seconds"
        raise InvalidArgument(f"{_shown(value)} is {bound}: expected {_DURATION_FORMS}")
    return found


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # an int beyond 1.8e308
        return math.inf if value > 0 else -math.inf


@lru_cache(maxsize=512)
def _text_seconds(text: str) -> float:
    """Return the seconds a text stands for, NaN when it is not a duration."""
    if len(text) > _LONGEST_TEXT:
        return math.nan
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return float(text)
    total, at, largest = 0.0, 0, math.inf
    while at < len(text):
        part = _DURATION_PART.match(text, at)
        if part is None or _SECONDS_IN[part[2]] >= largest:
            return math.nan
        largest = _SECONDS_IN[part[2]]
        total += float(part[1]) * largest
        at = part.end()
    return total if at else math.nan


class ByteSize(int):
    """A number of bytes: an int that can be written ``ByteSize("64MiB")`` and prints that way.

    kB, MB, GB and TB are powers of 1000; KiB, MiB, GiB and TiB of 1024; letter case does not matter
    and a bare number is bytes. Arithmetic gives plain ints. Raises `InvalidArgument` for a bool, a
    fraction of a byte, a negative size, one over `MAX_BYTES`, and for anything else.
    """

    __slots__ = ()

    def __new__(cls, value: int | str = 0) -> Self:
        """Read `value`; see the class."""
        found = _any_bytes(value)
        if found is None or not 0 <= found <= MAX_BYTES:
            raise InvalidArgument(
                f"{_shown(value)} is {_size_fault(found)}: expected {_SIZE_FORMS}"
            )
        return super().__new__(cls, found)

    @classmethod
    def parse(cls, value: int | str) -> Self:
        """Return `value` as a size; the same as calling the class."""
        return cls(value)

    @classmethod
    def kb(cls, count: int) -> Self:
        """Return `count` times 1000 bytes."""
        return cls(count * 1000)

    @classmethod
    def mb(cls, count: int) -> Self:
        """Return `count` times 1000**2 bytes."""
        return cls(count * 1000**2)

    @classmethod
    def gb(cls, count: int) -> Self:
        """Return `count` times 1000**3 bytes."""
        return cls(count * 1000**3)

    @classmethod
    def kib(cls, count: int) -> Self:
        """Return `count` times 1024 bytes."""
        return cls(count * 1024)

    @classmethod
    def mib(cls, count: int) -> Self:
        """Return `count` times 1024**2 bytes."""
        return cls(count * 1024**2)

    @classmethod
    def gib(cls, count: int) -> Self:
        """Return `count` times 1024**3 bytes."""
        return cls(count * 1024**3)

    def __str__(self) -> str:
        """Return the exact size in the largest unit that divides it: ``1500MB``, not ``1.5GB``."""
        for unit in ("TiB", "TB", "GiB", "GB", "MiB", "MB", "KiB", "kB"):
            count, rest = divmod(int(self), _BYTES_IN[unit.lower()])
            if count and not rest:
                return f"{count}{unit}"
        return f"{int(self)}B"

    def __repr__(self) -> str:
        """Return ``ByteSize('64MiB')``."""
        return f"ByteSize({str(self)!r})"

    def __format__(self, spec: str) -> str:
        """Format like text without a numeric presentation type, like an int with one."""
        return format(int(self), spec) if spec[-1:] in _INT_FORMATS else format(str(self), spec)


_INT_FORMATS: Final = frozenset("bcdoxXneEfFgG%,_")


def _any_bytes(value: object) -> int | None:
    """Read any accepted form; None when it is none."""
    if isinstance(value, str):
        return _text_bytes(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    return None


def _size_fault(found: int | None) -> str:
    if found is None:
        return "not a size"
    return "negative" if found < 0 else "over 2**63 - 1 bytes"


@lru_cache(maxsize=512)
def _text_bytes(text: str) -> int | None:
    """Return the bytes a text stands for, None when it is not a whole number of bytes."""
    if len(text) > _LONGEST_TEXT:
        return None
    found = _SIZE.fullmatch(text.strip().lower())
    if found is None or found[3] not in _BYTES_IN:
        return None
    digits = found[2] or ""
    count, rest = divmod(int(found[1] + digits) * _BYTES_IN[found[3]], 10 ** len(digits))
    return count if not rest else None


def _shown(value: object) -> str:
    """Return a value for a message, shortened; a URL may hold a password and is not shown."""
    if isinstance(value, str) and "://" in value:
        return "a URL"
    if not isinstance(value, (str, int, float, timedelta)):
        return f"a {type(value).__name__}"
    huge = isinstance(value, int) and value.bit_length() > 4096  # repr refuses so many digits
    text = "a very large int" if huge else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
