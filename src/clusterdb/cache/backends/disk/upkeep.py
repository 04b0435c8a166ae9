"""What a process does for a cache file once a second, beside its calls.

It writes what it counted and what was used (so that eviction knows, and other processes see the
figures), says that it is alive, gives back claims, removes expired entries, and goes through the
rows in small steps when a tag ended or a region was cleared, to give back the dead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from msgspec.structs import asdict

from ...near import NearTier
from ...settings import RegionSettings
from ...stats import Counters
from .claiming import DiskClaims
from .hints import Hints
from .members import forget, join
from .reader import Reader
from .transaction import Transaction

__all__ = ["Upkeep"]

_HEARTBEAT: Final = 5.0
_LOADING: Final = 0.5
_EXPIRE: Final = 1_000
_PURGE: Final = 1_000
_MOST_USES: Final = 10_000


class Upkeep:
    """The upkeep of one open file by one process."""

    def __init__(
        self,
        reader: Reader,
        near: NearTier,
        hints: Hints,
        settings: Mapping[str, RegionSettings],
        totals: Callable[[str], Counters],
        claims: DiskClaims,
        told: dict[str, Counters],
        now: Callable[[], float],
    ) -> None:
        self._reader = reader
        self._near = near
        self._hints = hints
        self._settings = settings
        self._totals = totals
        self._claims = claims
        self._uses: dict[str, dict[str, int]] = {}
        self._told = told
        self._now = now
        self._heard = 0.0
        self._gone: set[str] = set()
        self._dead = True
        self._more = False
        self._round: int | None = None
        self._round_began = 0

    # -- what happened since

    def use(self, region: str, key: str) -> None:
        """A key was read."""
        uses = self._uses.setdefault(region, {})
        uses[key] = uses.pop(key, 0) + 1

    def found_dead(self) -> None:
        """A tag ended or a region was cleared: there may be rows to give back."""
        self._dead = True

    def found_gone(self, addresses: Iterable[str]) -> None:
        """Processes that are members and not there any more."""
        self._gone.update(addresses)

    def failed(self) -> None:
        """In the writer's thread: a transaction was rolled back, and with it perhaps a step of
        ours. A round must miss none of the dead: their tags are forgotten at its end.
        """
        self._dead, self._round = True, None

    # -- in the loop

    def uses(self, region: str) -> dict[str, int]:
        """The keys used since the last call, in the order of their last use; the latest, if they
        are very many.
        """
        uses = self._uses.pop(region, {})
        for key, times in self._near.used(region).items():
            uses[key] = uses.pop(key, 0) + times
        surplus = len(uses) - _MOST_USES
        for key in list(uses)[:surplus] if surplus > 0 else ():
            del uses[key]
        return uses

    def job(self, now: float, *, closing: bool = False) -> Callable[[Transaction], None] | None:
        """What there is to do at ``now``, in stored time; ``None`` if nothing."""
        uses = {region: uses for region in self._settings if (uses := self.uses(region))}
        counts = {region: new for region in self._settings if (new := self._new_counts(region))}
        due = [
            name
            for name, settings in self._settings.items()
            if self._reader.due(name, now - settings.grace)
        ]
        suspects, self._gone = list(self._gone), set()
        gone = self._hints.tell(suspects)  # those who came back meanwhile are there
        heartbeat = now - self._heard >= (_LOADING if self._claims else _HEARTBEAT)
        if self._dead and self._round is None and not closing:
            self._dead, self._round = False, 0
            self._round_began = self._reader.last_change()
        purging = self._round is not None and not closing
        owed = dict(self._claims.owed)
        if not (uses or counts or due or gone or heartbeat or purging or owed):
            return None
        figures = self._near.figures(map(self._totals, self._settings), self._now())
        awake = now - self._heard < 3 * _HEARTBEAT  # else it may be us who slept
        self._heard = now

        def job(transaction: Transaction) -> None:
            for region, used in uses.items():
                transaction.rows.used(region, used)
            for region, new in counts.items():
                transaction.rows.count(region, new)
            expired = [transaction.rows.expire(region, _EXPIRE) for region in due]
            self._more = max(expired, default=0) == _EXPIRE
            if not transaction.heard_of():
                join(transaction, self._hints.address, transaction.rows.member)
            transaction.does(figures)
            for number, (region, key) in owed.items():
                transaction.release(region, key, number)
            for address in forget(transaction, gone, silent_too=awake):
                self._hints.forget(address)
            if purging and self._round is not None:  # a job before this one may have ended it
                self._round = transaction.rows.purge(self._round, _PURGE) or None
                if self._round is None:
                    transaction.rows.forget_tags(self._round_began)

        return job

    @property
    def busy(self) -> bool:
        """Whether there is more to do than the last job did."""
        return self._round is not None or self._dead or self._more

    def _new_counts(self, region: str) -> dict[str, int]:
        """What was counted since the last call."""
        now = self._totals(region)
        before = self._told.get(region, Counters())
        self._told[region] = now
        grown = {name: value - getattr(before, name) for name, value in asdict(now).items()}
        return {name: value for name, value in grown.items() if value}
