"""The driver's errors as ours."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...errors import CacheError, ConfigError, OutcomeUnknown, RowRefused, StorageUnavailable

__all__ = ["driver_errors", "refusal"]

_OF_A_ROW = ("SQLITE_CONSTRAINT", "SQLITE_TOOBIG", "SQLITE_MISMATCH")


def refusal(key: str, error: Exception) -> RowRefused | None:
    """The error of one row, if that is what the driver complains of."""
    code = getattr(error, "sqlite_errorname", "")
    if code.startswith(_OF_A_ROW):
        return RowRefused(key, code, str(error))
    if isinstance(error, (sqlite3.DataError, OverflowError)):
        return RowRefused(key, "SQLITE_TOOBIG", str(error))
    return None


@contextmanager
def driver_errors(path: Path, timeout: float, *, committing: bool = False) -> Iterator[None]:
    """Turn the driver's errors into ours; ``committing``: a write may have been made or not."""
    try:
        yield
    except sqlite3.Error as error:
        raise _translated(path, timeout, error, committing) from error


def _translated(path: Path, timeout: float, error: sqlite3.Error, committing: bool) -> CacheError:
    code, text = getattr(error, "sqlite_errorname", ""), str(error)
    about = f"storage file {str(path)!r}"
    if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StorageUnavailable(
            f"{about}: another process has held the write lock for over {timeout:g} s; nothing was "
            f"written. Is it stopped? It gives the lock back when it goes on or ends"
        )
    if code.startswith("SQLITE_FULL"):
        return StorageUnavailable(f"{about}: the disk is full; nothing was written. Make room")
    if code.startswith("SQLITE_READONLY"):
        return StorageUnavailable(f"{about}: it, or its folder, is read-only for us")
    if code == "SQLITE_NOTADB":
        return ConfigError(f"{about} is not a database: name another file", path="backend.path")
    if code.startswith("SQLITE_CANTOPEN"):
        return StorageUnavailable(f"{about} can't be opened: is the folder there, and ours?")
    if committing and code.startswith("SQLITE_IOERR"):
        return OutcomeUnknown(
            f"{about}: {text} while the write was made durable: it may be there or not. "
            f"Look at the disk, its quota and the system's log"
        )
    return StorageUnavailable(f"{about}: {text} ({code}); look at the disk, its quota and rights")
