"""The file of a disk backend: made or checked, and opened safely.

A file that is not ours, of a newer release, of another user, or whose tables are not exactly those
of :mod:`.schema` is refused: what opens a file runs its triggers and views. SQLite makes the
``-wal`` and ``-shm`` files beside it with the same rights. Errors of the driver become ours here.

SQLite's locks are the system's, and those end for the whole process when it closes any descriptor
of the file. So nothing here opens a file that is there already: it is looked at by its name.
"""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

from ...clock import Clock
from ...errors import BackendUnavailable, CacheError, ConfigError, OutcomeUnknown
from ...versions import first_version
from .locks import lock_holder
from .schema import APPLICATION_ID, FORMAT, SCHEMA

__all__ = ["CacheFile", "driver_errors", "translated"]

_NEW: Final = 0
_BESIDE: Final = ("-wal", "-shm")
_LONG_AGO: Final = -1e12
_MAKING: Final = threading.Lock()


class CacheFile:
    """One cache file. ``timeout`` is how many seconds a call waits for another's write lock."""

    def __init__(
        self,
        path: str,
        synchronous: Literal["normal", "full"],
        timeout: float,
        clock: Clock,
        boot: str | None = None,
    ) -> None:
        self.path = Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100 - keep symlinks
        self.timeout = timeout
        self.shift = 0.0
        self._synchronous = synchronous
        self._clock = clock
        self._boot = _boot_id() if boot is None else boot
        self._identity: tuple[int, int] | None = None
        self._log: tuple[int, int] | None = None
        self.opening = threading.RLock()

    def open(self) -> None:
        """Make or check the file. Raises :class:`ConfigError` for one that is not a cache file of
        this user and release, :class:`BackendUnavailable` where the disk does not let us.
        """
        with self.opening, driver_errors(self):
            self._forget_old_log()
            self._make()
            connection = self.connect()
            try:
                self._check(connection)
                self._set_time(connection)
            finally:
                connection.close()

    def connect(self) -> sqlite3.Connection:
        """A connection in autocommit mode, for one thread at a time."""
        with self.opening, driver_errors(self):
            connection = sqlite3.connect(
                f"{self.path.as_uri()}?mode=rw",
                uri=True,
                timeout=self.timeout,
                isolation_level=None,
                check_same_thread=False,
            )
            try:
                connection.execute("PRAGMA trusted_schema = OFF")
                connection.execute("PRAGMA cell_size_check = ON")
                connection.execute(f"PRAGMA synchronous = {self._synchronous}")
                connection.execute("PRAGMA journal_size_limit = 67108864")
            except BaseException:
                connection.close()
                raise
            return connection

    def watch_log(self) -> None:
        """From now on the log of recent writes is there, and part of the identity."""
        self._log = _identity(self._beside("-wal"))

    def check_identity(self) -> None:
        """Raise :class:`BackendUnavailable` where the file, or its log of recent writes, was
        deleted or replaced since.
        """
        if _identity(self.path) != self._identity:
            gone = self.path
        elif self._log is not None and _identity(self._beside("-wal")) != self._log:
            gone = self._beside("-wal")
        else:
            return
        raise BackendUnavailable(
            f"cache file {str(gone)!r} was deleted or replaced while it was in use; "
            f"the next call opens what is there now"
        )

    def size(self) -> int:
        """Bytes on disk, the log of recent writes included."""
        files = [self.path, self._beside("-wal")]
        return sum([file.stat().st_size for file in files if file.exists()])

    def _beside(self, end: str) -> Path:
        return self.path.with_name(self.path.name + end)

    # -- making and checking

    def _make(self) -> None:
        directory = self.path.parent
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _MAKING, contextlib.suppress(FileExistsError):
                os.close(os.open(self.path, flags, 0o600))  # no other thread has it open yet
            mode = directory.stat().st_mode
            found = self.path.lstat()
        except OSError as error:
            raise BackendUnavailable(
                f"cache file {str(self.path)!r} can't be opened: {error.strerror}"
            ) from error
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise self._refused("is in a folder where every user may replace it: chmod o-w that")
        self._check_owner(self.path, found)
        for end in _BESIDE:
            with contextlib.suppress(FileNotFoundError):
                self._check_owner(self._beside(end), self._beside(end).lstat())
        self._identity = found.st_dev, found.st_ino

    def _forget_old_log(self) -> None:
        """The log of a file that was replaced is not the new one's: SQLite would believe it is."""
        log, self._log = self._log, None
        replaced = self._identity is not None and _identity(self.path) != self._identity
        if replaced and log is not None and _identity(self._beside("-wal")) == log:
            for end in _BESIDE:
                with contextlib.suppress(OSError):
                    self._beside(end).unlink()

    def _check_owner(self, path: Path, found: os.stat_result) -> None:
        if stat.S_ISLNK(found.st_mode):
            raise self._refused("is a symbolic link: name the file itself", path)
        if not stat.S_ISREG(found.st_mode):
            raise self._refused("is not a regular file", path)
        if hasattr(os, "geteuid") and found.st_uid != os.geteuid():
            raise self._refused(f"belongs to user {found.st_uid}, and we are {os.geteuid()}", path)
        if found.st_mode & stat.S_IWOTH:
            raise self._refused("may be written by every user: chmod 600 it if you trust it", path)

    def _check(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN")  # one look, while another process may be making it
        try:
            version = _pragma(connection, "user_version")
            application = _pragma(connection, "application_id")
            tables = _tables(connection)
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        if (application, version) == (0, _NEW) and not tables:
            self._create(connection)
            return
        if application != APPLICATION_ID:
            raise self._refused("is the database of another program: name another file")
        if version > FORMAT:
            raise self._refused(
                f"was made by a newer release (format {version}, we know {FORMAT}): "
                f"update, or name another file"
            )
        if version < FORMAT:
            raise self._refused(
                f"was made by an earlier release (format {version}, ours is {FORMAT}): "
                f"delete it, or name another file"
            )
        if tables != _expected():
            raise self._refused("has tables, triggers or views that no cache file has")

    def _use_log(self, connection: sqlite3.Connection) -> None:
        """Two who ask for it at once refuse each other, without waiting as elsewhere."""
        end = time.monotonic() + self.timeout
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > end:
                    raise
                time.sleep(random.uniform(0.001, 0.01))
            else:
                return

    def _create(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # only before the first table
        self._use_log(connection)
        connection.execute("BEGIN IMMEDIATE")
        try:
            if _pragma(connection, "user_version") == _NEW:  # else another process was faster
                for statement in SCHEMA:
                    connection.execute(statement)
                connection.execute(
                    "INSERT INTO meta (id, boot, origin, shift, lift) VALUES (1, ?, ?, 0.0, ?)",
                    (self._boot, self._origin(), first_version(self._clock.wall())),
                )
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {FORMAT}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _set_time(self, connection: sqlite3.Connection) -> None:
        """Times are stored as seconds of the clock that ages use, plus a shift. That clock starts
        anew with the machine; then the shift takes up what the calendar says has passed.
        """
        connection.execute("BEGIN IMMEDIATE")
        try:
            boot, origin, shift = connection.execute(
                "SELECT boot, origin, shift FROM meta"
            ).fetchone()
            if boot != self._boot or not boot:
                shift += self._origin() - origin
            if boot != self._boot:  # nobody of then is there: their claims end, see members.py
                connection.execute("UPDATE members SET seen = ?", (_LONG_AGO,))
            connection.execute(
                "UPDATE meta SET boot = ?, origin = ?, shift = ?",
                (self._boot, self._origin(), shift),
            )
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        self.shift = shift

    def _origin(self) -> float:
        return self._clock.wall() - self._clock.now()

    def _refused(self, why: str, path: Path | None = None) -> ConfigError:
        return refused(self.path if path is None else path, why)


def refused(path: Path, why: str) -> ConfigError:
    """The error of a file that is not to be used."""
    return ConfigError(f"cache file {str(path)!r} {why}", path="backend.path")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    found: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return found


def _tables(connection: sqlite3.Connection) -> set[str]:
    """The text of everything in the schema, white space aside."""
    rows = connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL").fetchall()
    return {" ".join(sql.split()) for (sql,) in rows}


def _expected() -> set[str]:
    made_by_sqlite = {"CREATE TABLE sqlite_sequence(name,seq)"}
    return {" ".join(statement.split()) for statement in SCHEMA} | made_by_sqlite


def _boot_id() -> str:
    """What names this run of the machine; empty where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


@contextmanager
def driver_errors(file: CacheFile, *, committing: bool = False) -> Iterator[None]:
    """Turn the driver's errors into ours; ``committing``: a write may have been made or not."""
    try:
        yield
    except CacheError:
        raise
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise translated(file, error, committing=committing) from error


def translated(
    file: CacheFile, error: sqlite3.Error | UnicodeDecodeError, *, committing: bool = False
) -> CacheError:
    """Our error for one of the driver's, which may not be able to read out what it complains of."""
    code, text, name = getattr(error, "sqlite_errorname", ""), str(error), str(file.path)
    if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        holder = lock_holder(file.path)
        who = f"process {holder}" if holder else "another process"
        return BackendUnavailable(
            f"cache file {name!r}: {who} has held the write lock for over {file.timeout:g} s; "
            f"nothing was written. Is it stopped? It gives the lock back when it goes on or ends"
        )
    if code == "SQLITE_NOTADB":
        return refused(file.path, "is not a cache file: name another file")
    if code.startswith("SQLITE_FULL"):
        return BackendUnavailable(
            f"cache file {name!r}: the disk is full; nothing was written. Make room, "
            f"or give its regions a smaller size"
        )
    if code.startswith("SQLITE_READONLY"):
        return BackendUnavailable(
            f"cache file {name!r} can't be written: it, or its folder, is read-only for us"
        )
    if code.startswith("SQLITE_CORRUPT") or isinstance(error, UnicodeDecodeError):
        return BackendUnavailable(
            f"cache file {name!r} is damaged ({text}); it is a cache: delete it and it fills again"
        )
    if committing and code.startswith("SQLITE_IOERR"):
        return OutcomeUnknown(
            f"cache file {name!r}: {text} while the write was made durable: it may be there or "
            f"not. Look at the disk, its quota and the system's log"
        )
    return BackendUnavailable(
        f"cache file {name!r}: {text} ({code}); look at the disk, its quota and its rights"
    )
