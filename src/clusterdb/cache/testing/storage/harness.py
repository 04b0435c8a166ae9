"""What a conformance run needs of a storage: how it is made, and how time passes for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias, get_args

from ...codec import Encoded
from ...errors import CacheError
from ...rows import Row, RowChange, RowWritten, Storage, StorageCapability
from ...types import MISSING
from ..clock import ManualClock

__all__ = ["MAIN", "OTHER", "TRAITS", "Harness", "Need", "Trait"]

MAIN = "main"
OTHER = "other"
_TEXT = 5

Trait: TypeAlias = Literal[
    "regions",
    "any_key",
    "presence",
    "scans",
    "figures",
    "shared",
    "tombstones",
    "transactions",
]
"""What a storage may leave out. ``regions``: keeps several apart. ``any_key``: takes any key.
``presence``: says whether there was a row to delete. ``scans``: gives all rows, and clears them.
``figures``: ``describe`` counts. ``shared``: another storage object sees the same rows.
``tombstones``: counts deleted rows, and prunes them and expired ones. ``transactions``: nothing is
seen before the commit."""

TRAITS: frozenset[Trait] = frozenset(get_args(Trait))
"""All traits, as the storages with tables of their own have them."""

Need: TypeAlias = StorageCapability | Trait


class Harness:
    """A storage under test, which ``make`` makes for an origin. Override :meth:`advance` for one
    with its own time, :meth:`value` for one with values of its own.
    """

    traits: frozenset[Trait] = TRAITS

    def __init__(self, make: Callable[[str], Storage], clock: ManualClock) -> None:
        self._make = make
        self.clock = clock
        self.storage = make("us")
        self._others: list[Storage] = []

    def offers(self, needs: frozenset[Need]) -> bool:
        """Whether the storage has all of ``needs``."""
        return needs <= (self.storage.capabilities | self.traits)

    def has(self, capability: StorageCapability) -> bool:
        """Whether the storage has a capability."""
        return capability in self.storage.capabilities

    # -- life and time

    async def start(self) -> None:
        """Open the storage."""
        await self.storage.open()

    async def stop(self) -> None:
        """Close all that was opened."""
        for storage in [*self._others, self.storage]:
            await storage.aclose()

    async def another(self, origin: str) -> Storage:
        """A second storage object on the same rows, opened."""
        made = self._make(origin)
        self._others.append(made)
        await made.open()
        return made

    async def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)

    # -- values and changes

    def value(self, word: object) -> Any:
        """A value of its own for each word, as the storage takes it."""
        if self.has("objects"):
            return word
        return Encoded(str(word).encode(), _TEXT)

    def put(self, key: str, word: object, region: str = MAIN, **options: Any) -> RowChange:
        """The change that writes a value; options as :class:`RowChange` has them."""
        return RowChange(region, key, self.value(word), **options)

    def gone(self, key: str, region: str = MAIN, **options: Any) -> RowChange:
        """The change that deletes a row."""
        return RowChange(region, key, MISSING, **options)

    async def make(self, *changes: RowChange, **options: Any) -> list[RowWritten | CacheError]:
        """Make changes in one transaction."""
        return await self.storage.write(changes, **options)

    async def one(self, change: RowChange) -> RowWritten:
        """Make a change that must not fail."""
        [outcome] = await self.make(change)
        assert isinstance(outcome, RowWritten), f"{change} gave {outcome!r}"
        return outcome

    # -- looks

    async def row(self, key: str, region: str = MAIN) -> Row | None:
        """The live row of a key."""
        [row] = await self.storage.read(region, [key])
        return row

    async def found(self, key: str, region: str = MAIN) -> Row:
        """The live row of a key that must be there."""
        row = await self.row(key, region)
        assert row is not None, f"{key!r} is gone"
        return row

    async def keys(self, region: str = MAIN, batch_size: int = 10) -> list[str]:
        """The keys of a scan, as it gives them."""
        batches = [batch async for batch in self.storage.scan(region, batch_size)]
        assert all(0 < len(batch) <= batch_size for batch in batches)
        return [row.key for batch in batches for row in batch]

    async def told(self, after: str) -> list[tuple[str, str, int, str]]:
        """All that changed after a position: region, key, version, origin."""
        found: list[tuple[str, str, int, str]] = []
        while True:
            changes, behind = await self.storage.changes(after, 3)
            if not changes:
                return found
            assert behind != after, "changes are given twice"
            after = behind
            found += [(each.region, each.key, each.version, each.origin) for each in changes]
