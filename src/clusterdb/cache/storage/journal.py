"""The journal of what is to be written behind: files that are synced before "accepted" is said.

A directory holds one SQLite file for each process that writes; the process locks it (``flock``) for
as long as it lives. A file that nobody locks was left by a process that has died: whoever finds it
takes what is in it into its own file, and removes it. So what was accepted is written by the next
start, or by another process of the same machine, whichever comes first.

All calls that wait are one transaction, with one sync of the file.

A disk may be full of intents that are in storage by now, and forgetting them takes room as well.
So those that can't be forgotten are remembered, and once the file holds nothing else it is emptied,
which takes none.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import secrets
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from ..codec import Encoded
from ..errors import StorageUnavailable
from ..intents import Intent, Mine, PutAside
from ..types import MISSING
from .sqlite.lane import Lane

__all__ = ["Journals", "journal_directory", "read_journals"]

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS intents (
    region TEXT NOT NULL, key TEXT NOT NULL, version INTEGER NOT NULL, payload BLOB,
    codec INTEGER, flags INTEGER, deadline REAL, tags TEXT NOT NULL,
    PRIMARY KEY (region, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS aside (
    region TEXT NOT NULL, key TEXT NOT NULL, version INTEGER NOT NULL, code TEXT NOT NULL,
    reason TEXT NOT NULL, time REAL NOT NULL, payload BLOB, codec INTEGER, flags INTEGER
);
"""
_PUT: Final = """
INSERT INTO intents VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (region, key) DO UPDATE SET
version = excluded.version, payload = excluded.payload, codec = excluded.codec,
flags = excluded.flags, deadline = excluded.deadline, tags = excluded.tags
WHERE excluded.version > version
"""
_END: Final = ".journal"
_DAMAGED: Final = ("SQLITE_CORRUPT", "SQLITE_NOTADB")


def journal_directory(cache: str, wanted: str | None) -> Path:
    """Where the journals of a cache are."""
    if wanted is not None:
        return Path(wanted).expanduser().absolute()
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser().absolute() / "clusterdb-cache" / cache


class Journals:
    """This process's journal in ``directory``, and those that others left there."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path: Path | None = None
        self._lock = -1
        self._lane: Lane | None = None
        self._waiting: list[tuple[Sequence[Intent], asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None
        self._written: dict[tuple[str, str], int] = {}

    async def open(self, mine: Mine) -> list[Intent]:
        """Begin a file, or go on with ours, and take up what was left. Raises
        :class:`StorageUnavailable`.
        """
        self._writing, self._waiting = None, []  # of a loop that has ended
        if self._lane is not None:
            return await self.adopt(mine)
        with _errors(self._directory):
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._path, self._lock = _locked_file(self._directory)
            folder = os.open(self._directory, os.O_RDONLY)
            try:
                os.fsync(folder)  # else a power cut may lose the file with all that is in it
            finally:
                os.close(folder)
        path = self._path
        self._lane = Lane("clusterdb-cache-journal", lambda: _connect(path))
        try:
            await self._do(partial(_is_all, written={}))  # make the tables
        except StorageUnavailable:
            await self._close(self._lane, path, remove=True)
            raise
        return await self.adopt(mine)

    async def adopt(self, mine: Mine) -> list[Intent]:
        """Take what is ours in files that nobody has locked into our own. Those in which nothing is
        left are removed.
        """
        adopted: list[Intent] = []
        for path in sorted(self._directory.glob(f"*{_END}")):
            if path == self._path:
                continue
            with _errors(path), _taken(path) as ours:
                if ours:
                    moved, left = await self._do(partial(_move, path=path, mine=mine))
                    adopted += moved
                    if not left:
                        _remove(path)
        return adopted

    async def append(self, intents: Sequence[Intent]) -> list[Intent]:
        """Write intents; returns when they are synced. Cost: one sync, shared."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((intents, done))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        await asyncio.shield(done)
        return list(intents)

    async def _write(self) -> None:
        """Write what waits, all of it in one transaction, as long as there is any."""
        while self._waiting:
            group, self._waiting = self._waiting, []
            rows = [_row(intent) for intents, _ in group for intent in intents]
            error: Exception | None = None
            try:
                await self._do(partial(_put, rows=rows))
            except Exception as failed:  # noqa: BLE001 - it is the callers'
                error = failed
            for _, done in group:
                if done.done():
                    continue
                if error is None:
                    done.set_result(None)
                else:
                    done.set_exception(error)
        self._writing = None

    async def flushed(self, intents: Sequence[Intent]) -> None:
        """Forget intents, and older ones of their keys: at the latest when all of them are."""
        for intent in intents:
            known = self._written.get(intent.place, 0)
            self._written[intent.place] = max(known, intent.version)
        written = dict(self._written)
        try:
            await self._do(partial(_forget, written=written))
        except StorageUnavailable:
            if not await self._empty(written):
                return
        for place, version in written.items():
            if self._written.get(place) == version:
                del self._written[place]

    async def _empty(self, written: Mapping[tuple[str, str], int]) -> bool:
        """Empty the file, if nothing is in it but what is ``written``."""
        lane, path, lock = self._lane, self._path, self._lock
        if lane is None or path is None:
            return False

        def job(connection: sqlite3.Connection) -> bool:
            if not _is_all(connection, written):
                return False
            connection.close()
            os.ftruncate(lock, 0)  # the log of an empty file counts for nothing
            _remove_log(path)
            return True

        with _errors(path):
            return await lane.renew(job)

    async def put_aside(self, intent: Intent, refused: PutAside) -> None:
        """Keep what was refused, with its value."""
        payload, codec, flags = _parts(intent)
        row = (*intent.place, refused.version, refused.code, refused.reason, refused.time)

        def job(connection: sqlite3.Connection) -> None:
            with _transaction(connection):
                connection.execute(
                    "INSERT INTO aside VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (*row, payload, codec, flags),
                )

        await self._do(job)

    async def find(self, region: str, keys: Sequence[str]) -> list[Intent]:
        """Nothing: what other processes have in their files is theirs until they die."""
        del region, keys
        return []

    async def aside(self) -> list[PutAside]:
        """What was put aside, here and by those whose files we took."""
        found: list[PutAside] = await self._do(_aside)
        return found

    async def aclose(self) -> None:
        """Close the file, and remove it if nothing is in it."""
        lane, self._lane = self._lane, None
        if lane is None or self._path is None:
            return
        if self._writing is not None:
            await asyncio.wait({self._writing})
        job = partial(_is_all, written=dict(self._written))
        done = False
        try:
            with _errors(self._path):
                done = await lane.do(job)
        finally:
            await self._close(lane, self._path, remove=done)

    async def _close(self, lane: Lane, path: Path, *, remove: bool) -> None:
        self._lane = None
        try:
            with _errors(path):
                await lane.aclose()
                if remove:
                    _remove(path)
        finally:
            os.close(self._lock)

    def forked(self) -> None:
        """The file stays locked by the parent alone: a lock is held as long as anybody has it."""
        if self._lane is not None:
            os.close(self._lock)

    async def _do(self, job: Callable[[sqlite3.Connection], Any]) -> Any:
        if self._lane is None:
            raise StorageUnavailable(f"the journal in {str(self._directory)!r} is not open")
        with _errors(self._directory):
            return await self._lane.do(job)


def read_journals(directory: Path) -> tuple[list[Intent], list[PutAside]]:
    """What all journals of a directory hold, pending and put aside, without taking any."""
    intents: list[Intent] = []
    aside: list[PutAside] = []
    for path in sorted(directory.glob(f"*{_END}")):
        with _errors(path), contextlib.closing(_read_only(path)) as connection:
            if connection.execute("SELECT 1 FROM sqlite_master").fetchone() is not None:
                intents += _intents(connection)
                aside += _aside(connection)
    return intents, aside


@contextlib.contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        code = getattr(error, "sqlite_errorname", "")
        remedy = "free space, or name another directory as journal"
        if code.startswith(_DAMAGED):
            remedy = "move it away, and look at what is in it with sqlite3 and .recover"
        raise StorageUnavailable(
            f"the journal in {str(path)!r} can't be used: {error}; {remedy}"
        ) from error


def _locked_file(directory: Path) -> tuple[Path, int]:
    """A new file, and its descriptor, which has it locked. Who looks for files of the dead just
    then takes one that is not locked yet for such, and removes it; then it is another one.
    """
    while True:
        path = directory / f"{os.getpid()}-{secrets.token_hex(8)}{_END}"
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(lock).st_nlink:
                return path, lock
        os.close(lock)


@contextlib.contextmanager
def _taken(path: Path) -> Iterator[bool]:
    """Whether the file is ours while this lasts: whoever made it has died."""
    try:
        lock = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        yield False
        return
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield path.exists()
    finally:
        os.close(lock)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    _remove_log(path)


def _remove_log(path: Path) -> None:
    for end in ("-wal", "-shm"):
        Path(f"{path}{end}").unlink(missing_ok=True)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.executescript(_SCHEMA)
    return connection


def _read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None)


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _parts(intent: Intent) -> tuple[bytes | None, int | None, int | None]:
    value = intent.value
    if not isinstance(value, Encoded):
        return None, None, None
    return value.payload, int(value.codec), value.flags


def _row(intent: Intent) -> tuple[Any, ...]:
    tags = json.dumps(intent.tags)
    return (*intent.place, intent.version, *_parts(intent), intent.deadline, tags)


def _put(connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    with _transaction(connection):
        connection.executemany(_PUT, rows)


def _forget(connection: sqlite3.Connection, written: Mapping[tuple[str, str], int]) -> None:
    gone = [(*place, version) for place, version in written.items()]
    with _transaction(connection):
        connection.executemany(
            "DELETE FROM intents WHERE region = ? AND key = ? AND version <= ?", gone
        )


def _is_all(
    connection: sqlite3.Connection,
    written: Mapping[tuple[str, str], int],
    regions: Collection[str] = (),
) -> bool:
    """Whether nothing is there but what is ``written``, and put aside for ``regions``."""
    if any(row[0] not in regions for row in connection.execute("SELECT region FROM aside")):
        return False
    left = connection.execute("SELECT region, key, version FROM intents")
    return all(version <= written.get((region, key), 0) for region, key, version in left)


def _intents(connection: sqlite3.Connection) -> list[Intent]:
    found = []
    for region, key, version, payload, codec, flags, deadline, tags in connection.execute(
        "SELECT region, key, version, payload, codec, flags, deadline, tags FROM intents"
    ):
        value = MISSING if payload is None else Encoded(payload, codec, flags)
        found.append(Intent(region, key, value, version, deadline, tuple(json.loads(tags))))
    return found


def _aside(connection: sqlite3.Connection) -> list[PutAside]:
    rows = connection.execute("SELECT region, key, version, code, reason, time FROM aside")
    return [PutAside(*row) for row in rows]


def _move(connection: sqlite3.Connection, path: Path, mine: Mine) -> tuple[list[Intent], bool]:
    """What another file holds of ours, moved to our file; and whether anything is left."""
    with contextlib.closing(_connect(path)) as other:
        intents = [intent for intent in _intents(other) if mine(intent.region)]
        aside = [row for row in other.execute("SELECT * FROM aside") if mine(row[0])]
        with _transaction(connection):
            connection.executemany(_PUT, [_row(intent) for intent in intents])
            connection.executemany("INSERT INTO aside VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", aside)
        moved = {intent.place: intent.version for intent in intents}
        left = not _is_all(other, moved, {row[0] for row in aside})
        if left and (intents or aside):
            _forget(other, moved)
            with _transaction(other):
                other.executemany(
                    "DELETE FROM aside WHERE region = ?", {(row[0],) for row in aside}
                )
    return intents, left
