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
        return RowRefused(key, code, str(error))
    if isinstance(error, ValueError):  # the driver has no form for it
        return RowRefused(key, "22000", str(error))
    return None


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
    if code == "53300":
        return StorageUnavailable(
            f"{about}: {text}; {nothing}. Lower pool.max_connections here, or raise "
            f"max_connections there"
        )
    named = f"{text} ({code})" if code else text
    return StorageUnavailable(f"{about}: {named}; {nothing}")
