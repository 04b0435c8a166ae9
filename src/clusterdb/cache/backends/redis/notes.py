"""What a process did to the entries of a limited region and has not told the index yet.

Several things that happened to one key become one note, so that a batch names each key once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final, Literal, TypeAlias

from ...settings import RegionSettings
from .index import Line

__all__ = ["AS_IT_WAS", "Kind", "Note", "Notes"]

Kind: TypeAlias = Literal["put", "new", "kept", "use", "gone"]

AS_IT_WAS: Final = -1
"""In the place of a time: the entry ends when it ended before."""


class Note:
    """What happened to one key. Times are microseconds since 1970; ``weight`` is bytes, ``None``
    as it was; ``ends`` is ``None`` for never.
    """

    __slots__ = ("count", "ends", "first", "kind", "last", "weight")

    def __init__(
        self,
        kind: Kind,
        time: int,
        weight: int | None = None,
        ends: int | None = AS_IT_WAS,
        count: int = 1,
    ) -> None:
        self.kind = kind
        self.first = self.last = time
        self.weight = weight
        self.ends = ends
        self.count = count

    def after(self, before: Note) -> Note:
        """This one, with what happened before it."""
        kind = self.kind
        if kind in ("gone", "new"):
            return self
        ended = before.ends is not None and before.ends != AS_IT_WAS and before.ends <= self.first
        if before.kind == "gone" or (ended and before.kind != "kept"):
            if kind == "use":
                return before
            self.kind = "new"
            return self
        if kind == "kept" and before.kind == "kept" and ended:
            pass  # it was there all the time, or both were new: the index knows
        elif kind == "kept" and before.kind != "use":  # it was there: it goes on as it was
            self.kind, self.ends = before.kind, before.ends
        elif kind == "use" and before.kind == "kept" and self.ends != AS_IT_WAS:
            self.kind = "put"
        elif kind == "use" or before.kind == "new":
            self.kind = before.kind
        if self.weight is None:
            self.weight = before.weight
        if self.ends == AS_IT_WAS:
            self.ends = before.ends
        self.first, self.count = before.first, before.count + self.count
        return self

    def line(self, fifo: bool, now: int) -> Line:
        """What the index is told now."""
        left: str | int = "-"
        if self.ends is not None:
            left = "" if self.ends == AS_IT_WAS else max(0, (self.ends - now) // 1000)
        time = self.first if fifo else self.last
        return self.kind, time, self.count, "" if self.weight is None else self.weight, left


class Notes:
    """The notes of one region, and which uses have been told in this minute."""

    def __init__(self, settings: RegionSettings) -> None:
        self.settings = settings
        self.waiting: dict[str, Note] = {}
        self._told: set[str] = set()
        self._later: Counter[str] = Counter()

    def take(self, key: str, note: Note) -> None:
        """Something happened."""
        before = self.waiting.get(key)
        self.waiting[key] = note if before is None else note.after(before)

    def used(self, keys: Iterable[str], time: int) -> None:
        """Keys were used; each is told once in a minute."""
        policy, told = self.settings.policy, self._told
        if policy == "fifo":
            return
        for key in keys:
            if key not in told:
                told.add(key)
                self.take(key, Note("use", time))
            elif policy == "lfu":
                self._later[key] += 1

    def turn(self, time: int) -> None:
        """A minute has passed."""
        self._told.clear()
        later, self._later = self._later, Counter()
        for key, count in later.items():
            self.take(key, Note("use", time, count=count))

    def batch(self) -> dict[str, Note]:
        """What is to be told, which is then not waiting any more."""
        batch, self.waiting = self.waiting, {}
        return batch

    def lines(self, batch: dict[str, Note], now: int) -> dict[str, Line]:
        """``batch`` as the index takes it."""
        fifo = self.settings.policy == "fifo"
        return {key: note.line(fifo, now) for key, note in batch.items()}

    def put_back(self, batch: dict[str, Note], lost: Iterable[str], most: int) -> None:
        """What could not be told waits again, as long as fewer than ``most`` do."""
        for key in lost:
            if len(self.waiting) >= most:
                return
            newer = self.waiting.get(key)
            self.waiting[key] = batch[key] if newer is None else newer.after(batch[key])
