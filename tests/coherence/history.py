"""What happened: every call of every process, in one compact file a process.

A record has 48 bytes. Times are nanoseconds of the host's monotonic clock, which all processes of
the machine share. A call that changes something is recorded twice: before it starts, straight to
the file, so that a process that is killed leaves behind what it had begun; and when it ended. A
change with a beginning only has an unknown outcome. Reads are recorded once, in batches.

A value is (writer, number): the process that wrote it plus one and a number it never used before.
Values of the origin, which loaders read, are (ORIGIN, version). Nothing there is ``ABSENT``.
"""

from __future__ import annotations

import enum
import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from time import monotonic_ns
from types import TracebackType
from typing import NamedTuple, Self, TypeAlias

__all__ = [
    "ABSENT",
    "NEVER",
    "ORIGIN",
    "Call",
    "Kind",
    "Outcome",
    "Recorder",
    "Tier",
    "Value",
    "finished",
    "read_file",
]

Value: TypeAlias = tuple[int, int]

ABSENT: Value = (0, 0)
ORIGIN = 0xFFFF
NEVER = 1 << 62
"""The end of what has not ended."""

_RECORD = struct.Struct("<BBBBHHHHIIIqqd")
_BATCH = 1 << 16


class Kind(enum.IntEnum):
    """What was called."""

    GET = 0
    FRESH = 1  # a get with consistent=True
    LOOKUP = 2
    LOAD = 3  # get_or_load
    LOADER = 4  # what get_or_load called
    SET = 10
    DELETE = 11
    INVALIDATE = 12
    CAS = 13
    BUMP = 14  # the origin changed at the start, then the key was invalidated
    BUMP_TAG = 15  # the same for a tag; `key` is its number


class Outcome(enum.IntEnum):
    """How it ended. ``FAILED``: it changed nothing, for sure; ``REFUSED``: a compare-and-set found
    another value.
    """

    BEGUN = 0
    OK = 1
    FAILED = 2
    UNKNOWN = 3
    REFUSED = 4


class Tier(enum.IntEnum):
    """Who answered: this process without waiting, or the backend."""

    NONE = 0
    NEAR = 1
    BACKEND = 2


class Call(NamedTuple):
    """One call. ``wrote`` of a compare-and-set is the new value, ``expected`` the old one.

    ``ttl`` is in milliseconds, 0 for none. ``age`` is what ``lookup`` said, in seconds. ``final``
    marks the reads after all writes had stopped.
    """

    kind: int
    outcome: int
    tier: int
    final: int
    process: int
    key: int
    writer: int
    old_writer: int
    number: int
    old_number: int
    ttl: int
    start: int
    end: int
    age: float

    @property
    def value(self) -> Value:
        return self.writer, self.number

    @property
    def expected(self) -> Value:
        return self.old_writer, self.old_number

    def __str__(self) -> str:
        kind, outcome = Kind(self.kind).name.lower(), Outcome(self.outcome).name.lower()
        tier = f" ({Tier(self.tier).name.lower()})" if self.tier else ""
        took = "?" if self.end >= NEVER else f"{(self.end - self.start) / 1e6:.3f}"
        return (
            f"process {self.process} {kind} key {self.key} value {self.writer}.{self.number}"
            f"{tier} {outcome} at {self.start / 1e9:.6f} s, took {took} ms"
        )


class Recorder:
    """The file of one process."""

    def __init__(self, path: Path, process: int) -> None:
        self._process = process
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._batch = bytearray()
        self.reads = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.flush()
        os.close(self._file)

    def read(
        self,
        kind: Kind,
        key: int,
        start: int,
        value: Value,
        *,
        outcome: Outcome = Outcome.OK,
        tier: Tier = Tier.BACKEND,
        age: float = 0.0,
        final: bool = False,
    ) -> None:
        """A read has ended, just now."""
        writer, number = value
        self._batch += _RECORD.pack(
            *(kind, outcome, tier, final, self._process, key),
            *(writer, 0, number, 0, 0, start, monotonic_ns(), age),
        )
        self.reads += 1
        if len(self._batch) >= _BATCH:
            self.flush()

    def begin(
        self, kind: Kind, key: int, value: Value, *, expected: Value = ABSENT, ttl: int = 0
    ) -> Call:
        """A change starts; the record is in the file when this returns."""
        call = Call(
            kind=kind,
            outcome=Outcome.BEGUN,
            tier=Tier.NONE,
            final=0,
            process=self._process,
            key=key,
            writer=value[0],
            old_writer=expected[0],
            number=value[1],
            old_number=expected[1],
            ttl=ttl,
            start=monotonic_ns(),
            end=NEVER,
            age=0.0,
        )
        self.flush()
        os.write(self._file, _RECORD.pack(*call))
        return call

    def end(self, call: Call, outcome: Outcome) -> None:
        """It ended."""
        ended = call._replace(outcome=outcome, end=monotonic_ns())
        os.write(self._file, _RECORD.pack(*ended))

    def flush(self) -> None:
        """Write down the reads so far."""
        if self._batch:
            os.write(self._file, self._batch)
            self._batch.clear()


def read_file(path: Path) -> Iterator[Call]:
    """The records of a file; one that was cut off by a kill is left out."""
    data = path.read_bytes()
    whole = len(data) - len(data) % _RECORD.size
    return map(Call._make, _RECORD.iter_unpack(data[:whole]))


def finished(records: Iterable[Call]) -> list[Call]:
    """Each call once: a change whose end is not there has an unknown outcome."""
    calls: list[Call] = []
    begun: dict[tuple[int, int, int, int], Call] = {}
    for call in records:
        if call.kind < Kind.SET:
            calls.append(call)
            continue
        name = (call.process, call.kind, call.key, call.start)
        if call.outcome == Outcome.BEGUN:
            begun[name] = call
        else:
            begun.pop(name, None)
            calls.append(call)
    calls += [call._replace(outcome=Outcome.UNKNOWN) for call in begun.values()]
    calls.sort(key=lambda call: call.start)
    return calls
