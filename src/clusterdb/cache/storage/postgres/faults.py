"""The driver's errors as ours."""

from __future__ import annotations

import asyncio
from typing import Final

import asyncpg

from ...config.secrets import masked
from ...errors import CacheError, ConfigError, RowRefused, StorageUnavailable

__all__ = ["LOST", "REFUSED", "code_of", "is_lost", "is_race", "refusal", "translated"]

LOST: Final = (
    OSError,
    EOFError,
    asyncio.TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresError,
    asyncpg.InternalClientError,
)
"""What the driver raises."""

_RACES: Final = ("40001", "40P01")
REFUSED: Final = ("22", "23", "44", "54", "P0")
"""Classes of what the server refuses of a row: its data, a constraint, a view's check, its size,
a trigger of the user's own.
"""
_CONNECTION: Final = ("08", "57P", "25P03")
_REMEDIES: Final = {
    "28": ". Look at the user and the password of the url, and at the server's pg_hba.conf",
    "3D000": ". Make that database, or name another in the url",
    "53300": ". Lower pool.max_connections here, or raise max_connections there",
    "25006": ". It is a standby, or read-only: name the primary in the url",
}
"""What to do, by the beginning of the server's code."""

_NUL: Final = "text has no NUL character here; leave it out"


def code_of(error: BaseException) -> str:
    """What the server says that it is: also its last words before it closed the connection."""
    last = error.__cause__
    if isinstance(error, asyncpg.ConnectionDoesNotExistError) and last is not None:
        return code_of(last) or str(error.sqlstate)
    return str(getattr(error, "sqlstate", None) or "")


def is_race(error: BaseException) -> bool:
    """Whether the transaction lost to others, and may win when it is made again."""
    return code_of(error) in _RACES


def is_lost(error: BaseException) -> bool:
    """Whether the connection is of no use any more: another may be."""
    if isinstance(error, TimeoutError | asyncio.TimeoutError):
        return False
    return isinstance(error, OSError | asyncpg.InterfaceError | asyncpg.InternalClientError) or (
        code_of(error).startswith(_CONNECTION)
    )


def refusal(key: str, error: Exception) -> RowRefused | None:
    """The error of one row, if that is what the server, or the driver, complains of."""
    if isinstance(error, RowRefused):
        return error
    code = code_of(error)
    if code.startswith(REFUSED):
        return RowRefused(key, code, _NUL if code in ("22P05", "22021") else _first_words(error))
    if isinstance(error, ValueError):  # the driver has no form for it
        return RowRefused(key, "22000", str(error))
    return None


def _first_words(error: BaseException) -> str:
    """What a server says, without the details, in which it shows the row."""
    return str(error.args[0] if error.args else error)


def translated(error: BaseException, about: str, timeout: float) -> CacheError:
    """Our error for one of the driver's, from before the commit: nothing was written."""
    code = code_of(error)
    text = " ".join(masked(str(error) or type(error).__name__).split())
    nothing = "nothing was written"
    if isinstance(error, TimeoutError | asyncio.TimeoutError) or code == "57014":
        return StorageUnavailable(
            f"{about} has not answered within {timeout:g} s (pool.timeout), or all connections of "
            f"the pool were in use; {nothing}"
        )
    if code == "55P03":
        return StorageUnavailable(
            f"{about}: another transaction has held the lock of a row for nearly {timeout:g} s "
            f"(pool.timeout); {nothing}. Look for it in pg_stat_activity"
        )
    if code in _RACES:
        return StorageUnavailable(
            f"{about}: the transaction lost to others again and again ({text}); {nothing}"
        )
    if code == "25P03":
        return StorageUnavailable(
            f"{about}: no commit came within {timeout:g} s (pool.timeout), and the server ended "
            f"the transaction; {nothing}"
        )
    if code in ("42P01", "42703"):
        return ConfigError(
            f"{about}: {text}; 'cache storage init' makes the tables", path="backend.table"
        )
    if code == "42501":
        return StorageUnavailable(f"{about}: {text}; grant it to this role; {nothing}")
    if code == "53100":
        return StorageUnavailable(f"{about}: the server's disk is full ({text}); {nothing}")
    named = f"{text} ({code})" if code else text
    remedy = next((words for start, words in _REMEDIES.items() if code.startswith(start)), "")
    if not code and isinstance(error, OSError):
        remedy = ". Does the server run, and is the url right?"
    return StorageUnavailable(f"{about}: {named}; {nothing}{remedy}")
