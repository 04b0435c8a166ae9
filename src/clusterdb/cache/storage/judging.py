"""What becomes of a change of a row: the rules of the contract, the same for every database.

A database locks the row and says what it has; here is decided, without I/O, what is to be written.
"""

from __future__ import annotations

from typing import Final

import msgspec

from ..rows import RowChange, RowWritten
from ..types import MISSING

__all__ = ["ABSENT", "Held", "Verdict", "judge"]


class Held(msgspec.Struct, frozen=True):
    """What is under a key: ``version`` 0 where no row ever was. ``expiry`` is in whatever form the
    database has moments, ``None`` for ever.
    """

    version: int
    live: bool
    expiry: object = None


ABSENT: Final = Held(0, False)
"""No row, live or deleted."""


class Verdict(msgspec.Struct, frozen=True):
    """What a change comes to. ``writes``: a row, which may be a deleted one, is to be written with
    ``written.version``.
    """

    writes: bool
    written: RowWritten


def judge(change: RowChange, held: Held) -> Verdict:
    """Whether ``change`` is made over what is ``held``, and the version that the row then has.

    A deletion of what is not there writes nothing, unless it has a version of its own: then that
    stays, so that an older change that comes later is known for what it is.
    """
    stays = Verdict(False, RowWritten(applied=False, version=held.version))
    if change.when != "always" and (change.when == "present") != held.live:
        return stays
    if change.expect is not None and change.expect != (held.version if held.live else 0):
        return stays
    if change.version is not None and change.version <= held.version:
        return stays
    version = held.version + 1 if change.version is None else change.version
    if change.value is not MISSING:
        return Verdict(True, RowWritten(applied=True, version=version))
    if not held.live and change.version is None:
        return stays
    return Verdict(True, RowWritten(applied=held.live, version=version))
