"""The forms that the tables of a storage have had, and what leads from each to the next.

A form has a number, which the meta table keeps. Who makes tables makes them in the newest; who
finds an older one takes the steps that are ahead of it, in one transaction, one process at a time.
That is left to ``cache storage init``: a program that merely starts changes nothing that is there.
Tables of a newer form than ours are left alone by everybody.

A step is for good: it is written once, with the release that needs it, together with the statements
of ``schema.py`` that make the new form at once. Rejected: to compare columns and guess what is
missing, which can't tell an older form from another program's table; and steps back, which nobody
tests before the day on which they are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from .names import Names

__all__ = ["POSTGRES", "SQLITE", "Step", "ahead", "newest", "unusable"]

_FIRST: Final = 1


def _nothing(_: Names) -> list[str]:
    return []


class Step(msgspec.Struct, frozen=True):
    """What leads to form ``version``: statements for the storage's own table, which a user's table
    is spared, and for the outbox and the meta table.
    """

    version: int
    table: Callable[[Names], list[str]] = _nothing
    outbox: Callable[[Names], list[str]] = _nothing


POSTGRES: tuple[Step, ...] = ()
"""In order. None yet: the first form is the newest."""

SQLITE: tuple[Step, ...] = ()
"""The same for SQLite."""


def newest(steps: Sequence[Step]) -> int:
    """The form that we make and know."""
    return steps[-1].version if steps else _FIRST


def ahead(steps: Sequence[Step], found: int, names: Names, *, own: bool) -> list[str]:
    """The statements that lead from the form that was ``found`` to the newest, the last of which
    says so; ``own``: the table is the storage's.
    """
    statements: list[str] = []
    for step in steps:
        if step.version > found:
            statements += step.table(names) if own else []
            statements += step.outbox(names)
    if found < newest(steps):
        statements.append(f"UPDATE {names.meta} SET schema_version = {newest(steps)}")
    return statements


def unusable(steps: Sequence[Step], found: int | None) -> str:
    """Why tables of a form can't be used as they are, with the remedy; empty where they can.
    ``None``: their meta table is empty.
    """
    known = newest(steps)
    if found is None:
        return "has lost the row of its meta table: 'cache storage init' makes it again"
    if found > known:
        return (
            f"was made by a newer release (schema {found}, we know {known}): update "
            f"clusterdb-cache here, or name another table"
        )
    if found < known:
        return (
            f"was made by an older release (schema {found}, we need {known}): 'cache storage init' "
            f"brings it up to date"
        )
    return ""
