"""Options of single calls: frozen presets that say the same as the keyword arguments.

A keyword that is given wins over the preset. ``resolve_set`` is the one place where both meet
and where their rules are checked.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from functools import lru_cache
from typing import Final, Literal, TypeAlias, get_args

import msgspec
from msgspec import UNSET, UnsetType

from .errors import InvalidArgument
from .units import seconds, ttl_seconds

__all__ = [
    "TTL",
    "Consistency",
    "GetOptions",
    "Pattern",
    "PatternOptions",
    "SetOptions",
    "WriteOptions",
    "resolve_set",
    "resolve_tags",
    "resolve_ttl",
]

TTL: TypeAlias = float | str | timedelta | None
"""A time to live: seconds, a ``timedelta``, or ``"90s" "1h30m" "7d"``; ``None`` never expires."""

Consistency: TypeAlias = Literal["strong", "bounded", "eventual"]
"""What a reader may see after a write: see :class:`CacheCoherence`."""

_MAX_TAGS: Final = 1024
_MAX_TAG_BYTES: Final = 1024


class SetOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to store a value.

    ``ttl``: see :data:`TTL`; unset means the region's default. ``nx``: only if the key is absent.
    ``xx``: only if it is there. ``keep_ttl``: keep the expiry the key has. ``tags``: names under
    which the entry can be invalidated.
    """

    ttl: TTL | UnsetType = UNSET
    nx: bool = False
    xx: bool = False
    keep_ttl: bool = False
    tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("nx", "xx", "keep_ttl"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidArgument(f"{name} is True or False, not {getattr(self, name)!r}")
        msgspec.structs.force_setattr(self, "tags", resolve_tags(self.tags))
        if self.ttl is not UNSET:
            msgspec.structs.force_setattr(self, "ttl", ttl_seconds(self.ttl))
        if self.nx and self.xx:
            raise InvalidArgument("nx=True and xx=True exclude each other: choose one")
        if self.keep_ttl and self.ttl is not UNSET:
            raise InvalidArgument(f"keep_ttl=True and ttl={self.ttl!r} exclude each other")


class GetOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to read: ``consistent`` lifts this read to level ``strong``; ``allow_stale`` takes an
    expired value within the region's grace.
    """

    consistent: bool = False
    allow_stale: bool = False


class WriteOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to write through to storage: ``sync`` returns after the commit and the cache's write."""

    sync: bool = True
    consistency: Consistency | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.sync, bool):
            raise InvalidArgument(f"sync is True or False, not {self.sync!r}")
        if self.consistency not in (None, *get_args(Consistency)):
            levels = ", ".join(get_args(Consistency))
            raise InvalidArgument(f"consistency is one of {levels}, not {self.consistency!r}")


class PatternOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to scan: keys a batch, and seconds in all (``None``: no limit)."""

    batch_size: int = 1000
    timeout: float | str | timedelta | None = None

    def __post_init__(self) -> None:
        if type(self.batch_size) is not int or not 1 <= self.batch_size <= 1_000_000:
            raise InvalidArgument(f"batch_size must be 1 to 1,000,000, not {self.batch_size!r}")
        if self.timeout is not None:
            limit = seconds(self.timeout)
            if limit <= 0:
                raise InvalidArgument(f"timeout must be above 0 seconds, not {self.timeout!r}")
            msgspec.structs.force_setattr(self, "timeout", limit)


class Pattern(PatternOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A glob with the way to scan for it: ``Pattern(glob="user:*", batch_size=1000)``."""

    glob: str


def resolve_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Check tags and drop doubles; at most 1,024, each a non-empty str of at most 1,024 bytes."""
    if isinstance(tags, str):
        raise InvalidArgument(f"tags is a collection of str: write tags=({tags!r},)")
    if not isinstance(tags, Iterable):
        raise InvalidArgument(f"tags is a collection of str, not {tags!r}")
    unique = tuple(dict.fromkeys([_checked_tag(tag) for tag in tags]))
    if len(unique) > _MAX_TAGS:
        raise InvalidArgument(f"an entry may have {_MAX_TAGS} tags, not {len(unique)}")
    return unique


def _checked_tag(tag: object) -> str:
    if not isinstance(tag, str) or not tag:
        raise InvalidArgument(f"a tag is a non-empty str, not {tag!r}")
    try:
        size = len(tag.encode())
    except UnicodeEncodeError:
        raise InvalidArgument(f"tag {tag!r} holds a lone surrogate") from None
    if size > _MAX_TAG_BYTES:
        raise InvalidArgument(f"tag {tag[:40]!r}... is {size} bytes, over {_MAX_TAG_BYTES}")
    return str.__str__(tag)


def resolve_ttl(ttl: TTL | UnsetType, default: float | None) -> float | None:
    """Seconds to live, ``None`` for ever; an unset TTL is the region's ``default``."""
    return default if ttl is UNSET else ttl_seconds(ttl)


def resolve_set(
    options: SetOptions | None,
    ttl: TTL | UnsetType,
    nx: bool | None,
    xx: bool | None,
    keep_ttl: bool | None,
    tags: Iterable[str] | None,
) -> SetOptions:
    """Merge keywords over a preset and check the result's rules.

    A keyword also wins over what it excludes: ``nx`` over a preset's ``xx``, ``keep_ttl`` over its
    ``ttl``, and the other way round.
    """
    base = _PLAIN if options is None else options
    if not isinstance(base, SetOptions):
        raise InvalidArgument(f"options is a SetOptions, not a {type(base).__name__}")
    if nx is None and xx is None and keep_ttl is None and tags is None:
        if ttl is UNSET:
            return base
        if base is _PLAIN and type(ttl) in _HASHABLE:
            return _lasting(ttl)
    return SetOptions(
        ttl=ttl if ttl is not UNSET or keep_ttl else base.ttl,
        nx=nx if nx is not None else base.nx and not xx,
        xx=xx if xx is not None else base.xx and not nx,
        keep_ttl=keep_ttl if keep_ttl is not None else base.keep_ttl and ttl is UNSET,
        tags=base.tags if tags is None else resolve_tags(tags),
    )


@lru_cache(maxsize=512, typed=True)
def _lasting(ttl: TTL) -> SetOptions:
    """What most writes say: a TTL, of which a program has few, and no more."""
    return SetOptions(ttl=ttl)


_PLAIN: Final = SetOptions()
_HASHABLE: Final = frozenset({int, float, str, timedelta, type(None)})
