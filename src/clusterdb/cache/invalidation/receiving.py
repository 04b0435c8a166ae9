"""What other processes changed, applied to a backend that this process has for itself.

A shared backend was changed by whoever sent the event. One in the memory of this process was not:
here copies are dropped, and never stored, as nothing on a channel is trusted with a value.

Events are collected and applied together, so that a flood of them costs little more than its
distinct keys; beyond a bound everything is dropped instead, once. A gap drops everything too: what
was lost may have been anything.

``versioned``: an entry goes only if it is older than the event, by versions that all processes draw
from one order (:mod:`clusterdb.cache.versions`). A loaded value has the version of the moment at
which its load began, as it may be that old. A version that is far from what the clock says here
tells nothing: one of the two clocks is wrong. ``plain``: whatever is there goes. A load that is
running is ended either way, unless an entry stays.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from ..errors import CacheError, InvalidPattern
from ..events import (
    Cleared,
    EntryDeleted,
    EntrySet,
    Event,
    EventGap,
    Invalidated,
    MatchingInvalidated,
    TagInvalidated,
)
from ..events.backlog import Backlog
from ..keys import matcher
from ..protocols import Backend, Drop
from ..types import RemovalCause, Version
from ..versions import Versions

__all__ = ["Receiving"]

_LOG: Final = logging.getLogger("clusterdb.cache")
_MOST: Final = 10_000
_MOST_PATTERNS: Final = 16
_SCANNED: Final = 1000
_NEWEST: Final = 2**64


class _Due:
    """What is to be dropped."""

    def __init__(self) -> None:
        self.keys: dict[tuple[str, str], Version] = {}
        self.patterns: dict[tuple[str, str], None] = {}
        self.tags: dict[str, None] = {}
        self.regions: dict[str, None] = {}
        self.everything = False

    def __len__(self) -> int:
        return len(self.keys) + len(self.patterns) + len(self.tags) + len(self.regions)

    def add(self, event: Event, *, versioned: bool) -> None:
        """Note what an event makes worthless; ``versioned``: its version tells of what."""
        if self.everything:
            return
        match event:
            case EventGap():
                self._all()
            case EntrySet() | EntryDeleted() | Invalidated():
                version = event.version if versioned else _NEWEST
                key = event.region, event.key
                self.keys[key] = max(version, self.keys.get(key, 0))
            case MatchingInvalidated():
                self._match(event.region, event.pattern)
            case TagInvalidated():
                self.tags[event.tag] = None
            case Cleared():
                self.regions[event.region] = None
        if len(self) > _MOST:
            self._all()

    def _match(self, region: str, pattern: str) -> None:
        """Note a pattern; one that is none, or one too many, makes the whole region worthless."""
        try:
            matcher(pattern)
        except InvalidPattern:
            self.regions[region] = None
            return
        self.patterns[region, pattern] = None
        if len(self.patterns) > _MOST_PATTERNS:
            self.regions.update({each: None for each, _ in self.patterns})
            self.patterns.clear()

    def _all(self) -> None:
        self.__init__()  # type: ignore[misc]
        self.everything = True


class Receiving:
    """Applies events to ``backend``; ``regions`` are the names it knows, ``tell`` gets each event
    once it was applied, ``forget`` the keys, or none for all of them.
    """

    def __init__(
        self,
        backend: Backend,
        versions: Versions,
        regions: Callable[[], Iterable[str]],
        tell: Callable[[Event], None],
        forget: Callable[[str | None, str], None],
        *,
        versioned: bool,
    ) -> None:
        self._backend = backend
        self._versions = versions
        self._regions = regions
        self._tell = tell
        self._forget = forget
        self._due = _Due()
        self._untold: Backlog[Event] = Backlog(_MOST, "drop_newest")
        self._task: asyncio.Task[None] | None = None
        self._said = False
        self._versioned = versioned

    def take(self, events: Sequence[Event]) -> None:
        """Apply ``events``, in the running loop, and tell of them afterwards."""
        for event in events:
            told = False
            if isinstance(event, EntrySet | EntryDeleted | Invalidated):
                self._versions.saw(event.version)
                told = self._versioned and self._versions.plausible(event.version)
            self._due.add(event, versioned=told)
            self._untold.offer(event)
        loop = asyncio.get_running_loop()
        if self._task is None or self._task.done() or self._task.get_loop() is not loop:
            self._task = loop.create_task(self._work(), name="clusterdb-cache: invalidations in")

    async def aclose(self) -> None:
        """Apply no more."""
        task, self._task = self._task, None
        if task is not None and task.get_loop() is asyncio.get_running_loop():
            task.cancel()
            await asyncio.wait([task])

    async def _work(self) -> None:
        while self._due or self._due.everything or len(self._untold):
            due, self._due = self._due, _Due()
            untold = self._all_untold()
            try:
                await self._apply(due)
            except CacheError as error:
                self._due.everything = True  # when it works again
                if not self._said:
                    self._said = True
                    _LOG.warning("what other processes changed can't be dropped here: %s", error)
                await asyncio.sleep(1)
            else:
                self._said = False
            for event in untold:
                self._tell(event)

    def _all_untold(self) -> list[Event]:
        untold: list[Event] = []
        while (event := self._untold.take()) is not None:
            untold.append(event)
        return untold

    async def _apply(self, due: _Due) -> None:
        regions = set(self._regions())
        cleared = regions if due.everything else regions & set(due.regions)
        if cleared:
            await self._backend.clear(sorted(cleared))
        if due.tags:
            await self._backend.invalidate_tags(list(due.tags))
        if cleared or due.tags or due.patterns:
            self._forget(None, "")
        keys = {each: version for each, version in due.keys.items() if each[0] in regions}
        for region in regions:
            globs = [glob for name, glob in due.patterns if name == region]
            for key in await self._matching(region, globs):
                keys[region, key] = _NEWEST
        by_region: dict[str, dict[str, Version]] = {}
        for (region, key), version in keys.items():
            by_region.setdefault(region, {})[key] = version
        for region, versions in by_region.items():
            await self._drop(region, versions)

    async def _matching(self, region: str, globs: Sequence[str]) -> list[str]:
        if not globs:
            return []
        found: list[str] = []
        matches = [matcher(glob) for glob in globs]
        async for batch in self._backend.scan(region, "*", _SCANNED, dead=True):
            found += [key for key in batch if any(match(key) for match in matches)]
        return found

    async def _drop(self, region: str, versions: dict[str, Version]) -> None:
        keys = list(versions)
        found = await self._backend.peek(region, keys, stale=True)
        drops = [
            Drop(key, RemovalCause.INVALIDATED)
            for key, record in zip(keys, found, strict=True)
            if record is None or record.version <= versions[key]
        ]
        for outcome in await self._backend.write(region, drops) if drops else ():
            if isinstance(outcome, CacheError):
                raise outcome
        for drop in drops:
            self._forget(region, drop.key)
