"""When something comes due: a cron schedule in a time zone. Pure; the time is an argument.

Moments are seconds since the Unix epoch, so that no two of them can be mistaken for each other; the
time zone says what the fields of the schedule mean. Where clocks change, the rules are those of
Debian's cron, by `cronsim <https://github.com/cuu508/cronsim>`_: a time of day that is skipped in
spring comes due right after the gap, one that exists twice in autumn comes due the first time; a
schedule that goes by every hour or minute follows the hours that really pass.

Rejected: counting intervals from the last run (a daily run drifts through the day), and times of
day without a zone (they move with the machine).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, tzinfo
from hashlib import blake2b
from typing import Final
from zoneinfo import ZoneInfo

from .errors import ConfigError, MissingExtra

__all__ = ["Schedule"]

_MOST_PAST: Final = 400
"""How many times that are over may be skipped: in the second of two equal hours a schedule may
answer with the times of the first."""


class Schedule:
    """Due times of ``cron`` in ``timezone``, an IANA name; ``path`` is where the settings stand.

    Raises :class:`ConfigError` for an unknown zone, and for a schedule that never comes due;
    :class:`MissingExtra` without the extra ``schedule``.
    """

    def __init__(
        self, cron: str, timezone: str = "UTC", jitter: float = 0.0, *, path: str = "schedule"
    ) -> None:
        self.cron = cron
        self.timezone = timezone
        self.jitter = jitter
        self._zone = _zone(timezone, path)
        self._times = _times()
        if self._next(0.0) is None:
            raise ConfigError(
                f"{path}.schedule: {cron!r} never comes due: there is no such day", path=path
            )

    def after(self, moment: float) -> float:
        """The first due time later than ``moment``."""
        due = self._next(moment)
        assert due is not None, "it came due once, so it comes due again"
        return due

    def delay(self, due: float, name: str) -> float:
        """By how much the run of ``due`` is put off: up to ``jitter`` seconds, as the hash of the
        name and the time has it, so that all processes of a cache come to the same.
        """
        digest = blake2b(f"{name}\0{due}".encode(), digest_size=8).digest()
        return self.jitter * int.from_bytes(digest, "big") / 2**64

    def _next(self, moment: float) -> float | None:
        found = self._times(self.cron, datetime.fromtimestamp(moment, self._zone))
        for _ in range(_MOST_PAST):
            due = next(found, None)
            if due is None:
                return None
            if due.timestamp() > moment:
                return due.timestamp()
        return None


def _zone(name: str, path: str) -> tzinfo:
    if name.upper() == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError) as error:  # no such zone, or no name of one
        raise ConfigError(
            f"{path}.timezone: there is no time zone {name!r} on this machine: use a name such as "
            f"Europe/Berlin, and install tzdata where the system has no zones",
            path=path,
        ) from error


def _times() -> Callable[[str, datetime], Iterator[datetime]]:
    try:
        from cronsim import CronSim, CronSimError
    except ImportError as error:
        raise MissingExtra("a schedule", "schedule") from error

    def times(cron: str, after: datetime) -> Iterator[datetime]:
        try:
            return iter(CronSim(cron, after))
        except CronSimError:  # its shape was checked; what is left is a day that no month has
            return iter(())

    return times
