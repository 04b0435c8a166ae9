"""The shape of a cron schedule: five fields, each within its range.

Refuses typing errors when the configuration is read, without the engine that computes times (an
optional dependency). Whether a schedule ever comes due (30 February) is the engine's to say.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from ..errors import InvalidArgument
from .secrets import shown

__all__ = ["check_schedule"]


class _Field(NamedTuple):
    name: str
    lowest: int
    highest: int
    words: tuple[str, ...] = ()


_MONTHS: Final = (
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
)  # fmt: skip
_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS: Final = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of week", 0, 7, _DAYS),
)
_PART: Final = re.compile(r"(?:\*|([a-z0-9]{1,3})(?:-([a-z0-9]{1,3}))?)(?:/([0-9]{1,2}))?")


def check_schedule(text: str) -> None:
    """Raise `InvalidArgument` unless `text` has the shape of a five-field cron schedule."""
    fields = text.lower().split() if len(text) <= 200 else []
    if len(fields) != len(_FIELDS):
        raise InvalidArgument(
            f"{shown(text)} is not a schedule: expected five fields (minute, hour, day of month, "
            'month, day of week), such as "0 3 * * *" for each day at 3:00'
        )
    for given, field in zip(fields, _FIELDS, strict=True):
        for part in given.split(","):
            if not _fits(part, field):
                raise InvalidArgument(
                    f"the {field.name} of schedule {shown(text)} is wrong: expected "
                    f"{field.lowest} to {field.highest}, *, a range (1-5), a step (*/10) or a list"
                )


def _fits(part: str, field: _Field) -> bool:
    """Return whether one part of a list is a value, range or step of the field."""
    found = _PART.fullmatch(part)
    if found is None:
        return False
    first, last, step = found.groups()
    if step is not None and (int(step) < 1 or (first is not None and last is None)):
        return False
    low = field.lowest if first is None else _number(first, field)
    high = field.highest if last is None else _number(last, field)
    return low is not None and high is not None and low <= high


def _number(word: str, field: _Field) -> int | None:
    """Return the number of a value or name of this field, None if it has none."""
    if word in field.words:
        return field.words.index(word) + field.lowest
    if not word.isdecimal() or not field.lowest <= int(word) <= field.highest:
        return None
    return int(word)
