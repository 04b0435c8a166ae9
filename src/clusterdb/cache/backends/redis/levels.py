"""What a read may return, by its level: how it goes, and when its answer counts.

``strong`` asks the primary, whose answer counts only after a confirmation that was sent behind it.
``bounded`` and ``eventual`` take what is near, else what a server says that surely was a primary at
most a staleness bound ago. Where a primary was replaced, what it had invalidated in its last
moments is invalidated again, and the read is made anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from ...claims import Claim
from ...settings import RegionSettings
from ...types import Record
from .claiming import Claiming
from .confirming import Confirming
from .link import Link
from .names import Names
from .nearby import Nearby
from .reading import Reading
from .replicas import Replicas
from .succession import Succession

__all__ = ["Levels"]


class Levels:
    """The reads of one backend. ``settings`` are those of its regions, as they are now."""

    def __init__(
        self,
        link: Link,
        names: Names,
        reading: Reading,
        nearby: Nearby,
        confirming: Confirming,
        succession: Succession,
        claiming: Claiming,
        replicas: Replicas | None,
        settings: Mapping[str, RegionSettings],
    ) -> None:
        self._link = link
        self._names = names
        self._reading = reading
        self._nearby = nearby
        self._confirming = confirming
        self._succession = succession
        self._claiming = claiming
        self._replicas = replicas
        self._settings = settings

    async def read(
        self, region: str, keys: Sequence[str], *, stale: bool, consistent: bool, brief: bool
    ) -> list[Record | None]:
        """See :meth:`Backend.read`; counts nothing."""
        settings, deadline = self._settings[region], self._link.deadline()
        strong = consistent or settings.strong
        while True:
            moment = self._succession.moment
            if settings.near is not None and not strong:
                records = await self._nearby.read(region, keys, stale, deadline)
            else:
                replicas = self._replicas if settings.replicas and not strong else None
                records = await self._reading.read(
                    region, keys, stale=stale, brief=brief, replicas=replicas, deadline=deadline
                )
            if not self._succession.due and moment == self._succession.moment:
                break
            self._nearby.release(region, records)
            if self._succession.due:
                await self._succession.repeat()
        if self._confirming.needed:
            bound = None if strong else settings.max_staleness
            records = await self._confirmed(region, keys, records, bound, deadline)
        if self._claiming.claims:
            missing = [key for key, found in zip(keys, records, strict=True) if found is None]
            await self._claiming.compare_tags(region, missing)
        return records

    async def claim(
        self, region: str, keys: Sequence[str], tags: tuple[str, ...], lease: float
    ) -> list[Record | Claim | None]:
        """See :meth:`Backend.claim`; without the records of a server that may lack an invalidation:
        who wants them asks again.
        """
        moment = self._succession.moment
        answers = await self._claiming.claim(region, keys, tags, lease)
        if not self._succession.due and moment == self._succession.moment:
            return answers
        try:
            await self._succession.repeat()
        except BaseException:
            for answer in answers:
                if isinstance(answer, Claim):
                    self._claiming.doubt(region, answer.key)
            raise
        return [None if isinstance(answer, Record) else answer for answer in answers]

    @property
    def problems(self) -> list[str]:
        """Sentences for a person: replicas that are not read, or not now."""
        if self._replicas is None:
            return []
        if not any(settings.replicas for settings in self._settings.values()):
            return [
                "backend.read_replicas is without effect: coherence.consistency is not eventual"
            ]
        return self._replicas.problems()

    async def _confirmed(
        self,
        region: str,
        keys: Sequence[str],
        records: Sequence[Record | None],
        bound: float | None,
        deadline: float,
    ) -> list[Record | None]:
        """What servers said that surely were primaries, with how long ago that was."""
        asked = [
            self._names.entry(region, key)
            for key, record in zip(keys, records, strict=True)
            if record is None or record.tier != "near"
        ]
        try:
            age = await self._confirming.check(asked, bound, deadline) if asked else 0.0
        except BaseException:
            self._nearby.release(region, records)
            raise
        return [record and replace(record, age_bound=self._age(record, age)) for record in records]

    def _age(self, record: Record, age: float) -> float:
        """How old a record may be whose server surely was the primary ``age`` seconds ago."""
        if record.tier == "near":
            return record.age_bound + self._confirming.spread
        return max(age, record.age_bound)
