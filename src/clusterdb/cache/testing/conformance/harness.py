"""What a conformance run needs of a backend: how it is made, and how time passes for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from ...claims import Claim
from ...errors import CacheError
from ...protocols import Add, Backend, Capability, Change, Drop, Put, Touch, Written
from ...settings import NearSettings, RegionSettings, plain_region
from ...types import MISSING, Record, RemovalCause
from ..clock import ManualClock

__all__ = ["MAIN", "OTHER", "TRAITS", "Harness", "Need", "Trait", "region_settings"]

MAIN = "main"
OTHER = "other"

Trait: TypeAlias = Literal["exact_time", "limits", "weighers", "counters", "sizes", "tag_counts"]
"""What a backend may leave to its server. ``exact_time``: expiry to the instant. ``limits``: keeps
``max_items``, ``max_weight`` and the policy of a region exactly, and tells observers.
``weighers``: weighs by the user's function. ``counters``: ``describe`` counts each call.
``sizes``: ``describe`` knows how many entries a region has.
``tag_counts``: ``invalidate_tags`` knows how many it hit, ``describe`` how many are in use."""

TRAITS: frozenset[Trait] = frozenset(
    {"exact_time", "limits", "weighers", "counters", "sizes", "tag_counts"}
)
"""All traits, as the embedded backend has them."""

Need: TypeAlias = Capability | Trait


def region_settings(name: str, **changes: Any) -> RegionSettings:
    """Settings of a region without limits, expiry and grace, and with a near tier where its backend
    has one, but for ``changes``.
    """
    near = NearSettings(max_items=None, max_weight=None, max_staleness=1.0)
    return msgspec.structs.replace(plain_region(name, None), **{"near": near} | changes)


class Harness:
    """A backend under test. Override :meth:`advance` and :meth:`settle` for one with its own time.

    All times of the checks are in units of ``unit`` seconds; a remaining time may be short by
    ``slack`` units.
    """

    traits: frozenset[Trait] = TRAITS
    unit: float = 1.0
    slack: float = 0.0

    def __init__(self, backend: Backend, clock: ManualClock) -> None:
        self.backend = backend
        self.clock = clock
        self.settings = {name: region_settings(name) for name in (MAIN, OTHER)}

    def offers(self, needs: frozenset[Need]) -> bool:
        """Whether the backend has all of ``needs``."""
        return needs <= (self.backend.capabilities | self.traits)

    # -- life and time

    async def start(self) -> None:
        """Declare the regions and open the backend."""
        self.backend.configure(self.settings)
        await self.backend.open()

    async def stop(self) -> None:
        """Close the backend."""
        await self.backend.aclose()

    async def advance(self, units: float) -> None:
        """Let time pass."""
        self.clock.advance(units * self.unit)

    async def settle(self) -> None:
        """Let background work that is due be done."""

    def configure(self, region: str = MAIN, **changes: Any) -> None:
        """Change settings of a region; ``grace`` is in units."""
        if "grace" in changes:
            changes["grace"] *= self.unit
        self.settings[region] = msgspec.structs.replace(self.settings[region], **changes)
        self.backend.configure(self.settings)

    # -- changes, with times in units

    def scaled(self, change: Change) -> Change:
        """``change`` with its TTL turned from units into seconds."""
        ttl = None if isinstance(change, Drop) else change.ttl
        if ttl is None:
            return change
        return msgspec.structs.replace(change, ttl=ttl * self.unit)

    async def write(self, *changes: Change, region: str = MAIN) -> list[Written | CacheError]:
        """Carry out changes."""
        return await self.backend.write(region, [self.scaled(change) for change in changes])

    async def one(self, change: Change, region: str = MAIN) -> Written:
        """Carry out a change that must not fail."""
        [outcome] = await self.write(change, region=region)
        assert isinstance(outcome, Written), f"{change} gave {outcome!r}"
        return outcome

    async def put(self, key: str, value: Any, *, region: str = MAIN, **options: Any) -> Written:
        """Store a value; options as :class:`Put` has them."""
        return await self.one(Put(key, value, **options), region)

    async def drop(
        self, key: str, cause: RemovalCause = RemovalCause.DELETED, region: str = MAIN
    ) -> bool:
        """Remove a key; whether a live entry was there."""
        return (await self.one(Drop(key, cause), region)).applied

    async def touch(self, key: str, ttl: float | None) -> Written:
        """Give a key a new TTL."""
        return await self.one(Touch(key, ttl))

    async def add(self, key: str, delta: int, initial: int = 0, ttl: float | None = None) -> int:
        """Add to an integer; the sum."""
        return (await self.one(Add(key, delta, initial, ttl))).total

    # -- looks

    async def record(self, key: str, region: str = MAIN, *, stale: bool = False) -> Record | None:
        """What a read of a key gives."""
        [record] = await self.backend.read(region, [key], stale=stale)
        return record

    async def glance(self, key: str, region: str = MAIN, *, stale: bool = False) -> Record | None:
        """What a look without trace gives."""
        [record] = await self.backend.peek(region, [key], stale=stale)
        return record

    async def found(self, key: str, region: str = MAIN) -> Record:
        """The live record of a key that must be there."""
        record = await self.record(key, region)
        assert record is not None, f"{key!r} is gone"
        assert not record.stale, f"{key!r} came back stale"
        return record

    async def value(self, key: str, region: str = MAIN) -> object:
        """The live value of a key, or ``MISSING``."""
        record = await self.record(key, region)
        return MISSING if record is None else record.value

    def left(self, record: Record, expected: float | None) -> bool:
        """Whether ``record`` has the ``expected`` time to live, in units."""
        if record.expires_in is None or expected is None:
            return record.expires_in is expected
        short = expected - record.expires_in / self.unit
        return -1e-9 <= short <= self.slack + 1e-9

    # -- claims

    async def claim(self, key: str, *tags: str, region: str = MAIN) -> Claim:
        """A claim that must be given."""
        answer = await self.answer(key, *tags, region=region)
        assert isinstance(answer, Claim), f"no claim on {key!r}, but {answer!r}"
        return answer

    async def answer(self, key: str, *tags: str, region: str = MAIN) -> Record | Claim | None:
        """What asking for a claim gives."""
        [answer] = await self.backend.claim(region, [key], tags, 30 * self.unit)
        return answer

    async def fence(self, *keys: str, region: str = MAIN) -> list[Claim]:
        """Fences on keys."""
        fences = await self.backend.fence(region, keys, 30 * self.unit)
        assert [fence.key for fence in fences] == list(keys)
        return fences

    async def fill(
        self, claim: Claim, value: Any, ttl: float | None = None, region: str = MAIN
    ) -> bool:
        """Fill a claim; whether it was stored."""
        put = Put(claim.key, value, None if ttl is None else ttl * self.unit)
        [outcome] = await self.backend.fill(region, [(claim, put)])
        assert isinstance(outcome, Written), f"the fill of {claim.key!r} gave {outcome!r}"
        assert outcome.applied == (outcome.version > 0), f"{outcome} contradicts itself"
        return outcome.applied

    async def release(self, *claims: Claim, region: str = MAIN) -> None:
        """Give claims back."""
        await self.backend.release(region, claims)

    # -- scans

    async def scan(self, glob: str = "*", batch_size: int = 10, region: str = MAIN) -> list[str]:
        """All keys a scan gives, sorted."""
        batches = [batch async for batch in self.backend.scan(region, glob, batch_size)]
        return sorted([key for batch in batches for key in batch])

    async def put_all(self, keys: Sequence[str], **options: Any) -> None:
        """Store each key as its own value."""
        for outcome in await self.write(*[Put(key, key, **options) for key in keys]):
            assert isinstance(outcome, Written), f"a write failed: {outcome!r}"
