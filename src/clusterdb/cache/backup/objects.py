"""Where the files of backups are kept, as a contract: named objects, whole or not there at all.

Names are relative, of parts joined by ``/``. Every method raises :class:`BackupUnavailable` where
the place can't be reached in time, is full, or refuses.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from typing import Final, Protocol

import msgspec

from ..errors import BackupError

__all__ = ["ObjectStore", "StoredObject", "Upload", "check_name", "is_name"]

_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_LONGEST: Final = 512


class StoredObject(msgspec.Struct, frozen=True):
    """An object by name, with its bytes, and when it was written: seconds since the Unix epoch by
    the clock of the place.
    """

    name: str
    size: int
    modified: float


class Upload(Protocol):
    """An object on its way, which nobody sees before it is closed."""

    async def write(self, data: bytes) -> None:
        """Append."""
        ...

    async def close(self) -> None:
        """Let it appear."""
        ...

    async def abort(self) -> None:
        """Give it up. Never raises; idempotent, and harmless after ``close``."""
        ...


class ObjectStore(Protocol):
    """A place for objects."""

    @property
    def place(self) -> str:
        """Where it is, for a person; no credentials."""
        ...

    async def upload(self, name: str) -> Upload:
        """Begin an object, in place of any that is there. Memory is bounded, whatever its size."""
        ...

    async def put(self, name: str, content: bytes) -> None:
        """Store a small object, in place of any that is there."""
        ...

    async def create(self, name: str, content: bytes) -> bool:
        """Store a small object unless there is one of that name; whether it was stored."""
        ...

    async def read(self, name: str, start: int, length: int) -> bytes:
        """Bytes of an object, fewer where it ends before. Raises :class:`BackupCorrupt` where there
        is none.
        """
        ...

    def list(self, prefix: str) -> AsyncGenerator[Sequence[StoredObject], None]:
        """The objects whose names begin with ``prefix``, which ends with ``/`` or is empty."""
        ...

    async def delete(self, names: Sequence[str]) -> None:
        """Remove objects; one that is not there is no error."""
        ...

    async def aclose(self) -> None:
        """End connections. Idempotent."""
        ...


def is_name(name: str) -> bool:
    """Whether it may be the name of an object: none leads out of its place."""
    return len(name) <= _LONGEST and _NAME.fullmatch(name) is not None


def check_name(name: str) -> str:
    """``name``, which may have come from a file. Raises :class:`BackupError`."""
    if not is_name(name):
        raise BackupError(f"{name[:80]!r} is no name of a backup or of a file of one")
    return name
