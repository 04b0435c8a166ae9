"""Entries on their way in: stored under their own versions, where nothing newer is.

A script a key judges and stores in one step; all keys travel together. An entry that is there, is
not lower and has tags may be dead: its header comes back, its nonces are read, and the script is
called once more with the verdict, as for any write with a condition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...codec import Encoded
from ...errors import BackendUnavailable, CacheError
from ...protocols import Exported, Overwrite, Put, Written
from ...settings import RegionSettings
from ...transport import Command
from ...versions import Versions
from ..restoring import highest, is_over, opened, too_new
from .effects import Effects
from .limits import Limits
from .link import BULK_BYTES, Link, explained, raised_if_away
from .names import Names
from .nonces import REGION_TAG, Nonces
from .scripts import RESTORE
from .stored import codec_of, expiry_ms, head_tags, packed, seal, version_of
from .succession import Succession

__all__ = ["Restoring"]

_UNJUDGED = (b"", b"")


class _Step:
    """An entry on its way: its command's parts, and what it says of one that only we can judge."""

    __slots__ = ("at", "data", "entry", "known", "name", "px")

    def __init__(self, at: int, entry: Exported, name: bytes, data: bytes, px: int | str) -> None:
        self.at = at
        self.entry = entry
        self.name = name
        self.data = data
        self.px = px
        self.known = _UNJUDGED


class Restoring:
    """The restores of one backend."""

    def __init__(
        self,
        link: Link,
        names: Names,
        nonces: Nonces,
        versions: Versions,
        settings: Mapping[str, RegionSettings],
        limits: Limits,
        effects: Effects,
        succession: Succession,
    ) -> None:
        self._link = link
        self._names = names
        self._nonces = nonces
        self._versions = versions
        self._settings = settings
        self._limits = limits
        self._effects = effects
        self._succession = succession

    async def restore(
        self, region: str, entries: Sequence[Exported], overwrite: Overwrite
    ) -> list[Written | CacheError]:
        """See :meth:`Backend.restore`."""
        outcomes: list[Written | CacheError] = [Written(applied=False)] * len(entries)
        puts: dict[int, Put] = {}
        for at, entry in enumerate(entries):
            put = self._put(region, entry)
            if isinstance(put, Put):
                puts[at] = put
            elif put is not None:
                outcomes[at] = put
        if not puts:
            return outcomes
        if self._succession.due:
            await self._succession.repeat()
        self._versions.saw(highest([entries[at] for at in puts]))
        changes = list(puts.values())
        with self._effects.beginning(region, changes) as since:
            await self._store(region, entries, puts, overwrite, outcomes)
        self._effects.made(region, changes, [outcomes[at] for at in puts], since)
        return raised_if_away(outcomes)

    def _put(self, region: str, entry: Exported) -> Put | CacheError | None:
        """What an entry comes to: a change, nothing, or what is wrong with it."""
        try:
            value = opened(codec_of(self._settings[region]), entry)
        except CacheError as error:
            return error
        if self._versions.ahead(entry.version):
            return too_new(entry)
        if is_over(entry):
            return None
        put = Put(entry.key, value, entry.expires_in, entry.tags)
        refusal = self._limits.refusal(region, put) if region in self._limits else None
        return refusal or put

    async def _store(
        self,
        region: str,
        entries: Sequence[Exported],
        puts: Mapping[int, Put],
        overwrite: Overwrite,
        outcomes: list[Written | CacheError],
    ) -> None:
        settings, deadline = self._settings[region], self._link.deadline()
        own = (REGION_TAG,) if settings.instant_clear else ()
        tags = [*own, *[tag for put in puts.values() for tag in put.tags]]
        stamps = await self._nonces.snapshot(region, tags, deadline) if tags else {}
        steps = [
            self._step(
                settings, at, entries[at], put, [(tag, stamps[tag]) for tag in own + put.tags]
            )
            for at, put in puts.items()
        ]
        while steps:
            steps = await self._send(region, steps, overwrite, outcomes, deadline)
            if steps and self._link.now() >= deadline:
                for step in steps:
                    outcomes[step.at] = _contended(step.entry.key)
                return

    def _step(
        self,
        settings: RegionSettings,
        at: int,
        entry: Exported,
        put: Put,
        stamps: Sequence[tuple[str, int]],
    ) -> _Step:
        value: Encoded = put.value
        data = seal(codec_of(settings), entry.key, entry.version, value, settings.grace, stamps)
        name = self._names.entry(settings.name, entry.key)
        return _Step(at, entry, name, data, expiry_ms(put.ttl, settings.grace))

    async def _send(
        self,
        region: str,
        steps: Sequence[_Step],
        overwrite: Overwrite,
        outcomes: list[Written | CacheError],
        deadline: float,
    ) -> list[_Step]:
        """Those that have to be sent again, as there was something to judge."""
        commands: list[Command] = [
            RESTORE.call(
                step.name, *step.known, step.data, step.px, packed(step.entry.version), overwrite
            )
            for step in steps
        ]
        names = [step.name for step in steps]
        bulk = any(len(step.data) >= BULK_BYTES for step in steps)
        replies = await self._link.send(commands, names, write=True, bulk=bulk, deadline=deadline)
        asked: dict[_Step, bytes] = {}
        for step, reply in zip(steps, replies, strict=True):
            if isinstance(reply, CacheError):
                outcomes[step.at] = explained(reply)
            elif isinstance(reply, bytes):
                asked[step] = reply
            else:
                applied = reply == 1
                outcomes[step.at] = Written(applied, step.entry.version if applied else 0)
        tags = [head_tags(head) for head in asked.values()]
        alive = await self._nonces.alive(region, [each or () for each in tags], deadline)
        for (step, head), lives, known in zip(asked.items(), alive, tags, strict=True):
            step.known = packed(version_of(head)), b"1" if lives and known is not None else b"0"
        return list(asked)


def _contended(key: str) -> BackendUnavailable:
    return BackendUnavailable(f"others changed {key!r} all the time that its restore had")
