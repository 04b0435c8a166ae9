"""What the entries of a memory backend weigh: by the user's function or the estimate.

A weigher is the user's code: it runs before anything is changed, and never under a lock. A weight
that is none is the outcome of the entry it was for.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import CacheError
from ..isolation import plain
from ..protocols import Change, Put
from ..settings import RegionSettings
from ..table import Table
from ..types import Version
from ..weigh import checked, weigh

__all__ = ["sound", "weight_of", "weights_in", "weights_of"]


def weight_of(settings: RegionSettings, key: str, value: object) -> int:
    """The weight of one entry. Raises :class:`InvalidArgument`."""
    return checked(settings.weigher or weigh, key, plain(value))


def weights_of(settings: RegionSettings, changes: Sequence[Change]) -> list[int | CacheError]:
    """The weight of each value that is put, or what is wrong with it; 0 where no limit asks."""
    weights: list[int | CacheError] = [0] * len(changes)
    if settings.weighs:
        for at, change in enumerate(changes):
            if isinstance(change, Put):
                try:
                    weights[at] = weight_of(settings, change.key, change.value)
                except CacheError as error:
                    weights[at] = error
    return weights


def weights_in(
    table: Table | None, settings: RegionSettings, now: float
) -> dict[str, tuple[Version, int]]:
    """The weight by new settings of every entry of a region, with its version."""
    if table is None or not settings.weighs:
        return {}
    weights: dict[str, tuple[Version, int]] = {}
    for key in table.keys():  # noqa: SIM118 - a table is no dict
        record = table.peek(key, now, stale=True)
        if record is not None:
            weights[key] = record.version, weight_of(settings, key, record.value)
    return weights


def sound(weight: int | CacheError) -> int:
    """A weight, or what was wrong with it raised."""
    if isinstance(weight, CacheError):
        raise weight
    return weight
