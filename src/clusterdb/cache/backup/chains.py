"""Which backups belong together, and which of them may go. Pure: lists in, lists out.

A chain is a full backup and the incremental ones on top of it; each can be restored if all before
it in the chain are there. Backups are ordered by their sequence numbers and not by their times, as
a clock may be set back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final

import msgspec

from ..errors import BackupCorrupt, CacheError, UnknownBackup
from .manifest import MANIFEST, Manifest

__all__ = ["HEARTBEAT", "Catalog", "abandoned", "expired", "next_sequence", "pick", "usable_parent"]


HEARTBEAT: Final = 60.0
"""A backup that is being made is written to so often, in seconds."""

_ABANDONED: Final = 30 * HEARTBEAT


class Catalog(msgspec.Struct, frozen=True, kw_only=True):
    """What is there of one cache: complete backups, the oldest first; those whose manifest can't be
    read, with why; and the names of what was begun and not finished. ``sizes`` are the bytes of
    every object by its name, ``touched`` when each backup or its rest was last written to, and
    ``now`` the last mark, by the clock of the place.
    """

    complete: tuple[Manifest, ...] = ()
    unreadable: dict[str, CacheError] = {}
    unfinished: tuple[str, ...] = ()
    sizes: dict[str, int] = {}
    touched: dict[str, float] = {}
    now: float = 0.0

    def find(self, backup: str) -> Manifest | None:
        """The complete backup of that name."""
        return next((each for each in self.complete if each.id == backup), None)

    def chain(self, manifest: Manifest) -> list[Manifest]:
        """The backups that one needs, from the full one to itself. Raises
        :class:`BackupCorrupt` where one is missing, or a file of one is missing or too short.
        """
        chain = []
        for name in manifest.chain:
            link = self.find(name)
            if link is None:
                if name in self.unreadable:
                    raise self.unreadable[name]
                raise BackupCorrupt(f"{name}/{MANIFEST}", f"is missing, and {manifest.id} needs it")
            chain.append(link)
        for link in chain:
            for file in link.files:
                size = self.sizes.get(file.name)
                if size != file.size:
                    found = "is missing" if size is None else f"has {size} bytes"
                    raise BackupCorrupt(file.name, f"{found}, and its manifest says {file.size}")
        return chain

    def is_good(self, manifest: Manifest) -> bool:
        """Whether all that one needs is there, by name and size."""
        try:
            self.chain(manifest)
        except CacheError:
            return False
        return True


def next_sequence(catalog: Catalog) -> int:
    """The number of the next backup."""
    return max([each.sequence for each in catalog.complete], default=0) + 1


def pick(catalog: Catalog, backup: str | None) -> Manifest:
    """The backup of that name, or the last good one. Raises :class:`UnknownBackup`, and what is
    wrong with the one that was named, or the last, where none is good.
    """
    if backup is not None:
        if backup in catalog.unreadable:
            raise catalog.unreadable[backup]
        found = catalog.find(backup)
        if found is None:
            unfinished = backup in catalog.unfinished
            why = "it was begun and never finished" if unfinished else _there_are(catalog)
            raise UnknownBackup(f"no backup {backup!r}: {why}")
        return found
    for manifest in reversed(catalog.complete):
        if catalog.is_good(manifest):
            return manifest
    if catalog.complete:
        catalog.chain(catalog.complete[-1])
    for _, error in sorted(catalog.unreadable.items(), reverse=True):
        raise error
    raise UnknownBackup("there is no complete backup: 'cache backup create' makes one")


def usable_parent(catalog: Catalog, full_every: int, keys: Collection[str]) -> Manifest | None:
    """The backup that the next may build on; ``None`` where it is to be a full one: the chain is
    long enough, a part of it is missing, or it is encrypted otherwise than the next would be.
    """
    if full_every <= 1 or not catalog.complete:
        return None
    last = catalog.complete[-1]
    if len(last.chain) >= full_every or last.key_id not in keys or not catalog.is_good(last):
        return None
    return last


def expired(catalog: Catalog, now: float, retention: float) -> list[Manifest]:
    """The backups that may go, the newest first, so that none is without those it needs meanwhile.

    Kept is what is younger than ``retention``, the last good one, and whatever those need. One that
    seems to be from the future is young.
    """
    keep = {each.id for each in catalog.complete if now - each.finished <= retention}
    good = next((each for each in reversed(catalog.complete) if catalog.is_good(each)), None)
    if good is not None:
        keep.add(good.id)
    needed = _needed(catalog.complete, keep)
    return [each for each in reversed(catalog.complete) if each.id not in needed]


def abandoned(catalog: Catalog) -> list[str]:
    """What was begun and never finished, and nobody has written to for so long that nobody works on
    it any more. By the clock of the place alone.
    """
    return [name for name in catalog.unfinished if catalog.now - catalog.touched[name] > _ABANDONED]


def _needed(backups: Iterable[Manifest], keep: Collection[str]) -> set[str]:
    return {link for each in backups if each.id in keep for link in each.chain}


def _there_are(catalog: Catalog) -> str:
    names: Sequence[str] = [each.id for each in catalog.complete[-3:]]
    return f"there are {', '.join(names)}" if names else "there is none"
