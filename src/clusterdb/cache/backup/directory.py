"""Backups in a directory of this machine.

What appears was written to a file beside it, brought to the disk (fsync), and then renamed or
linked, so that a crash at any moment leaves an object or none. Only the owner may read it. Calls of
the file system run in threads, as a disk may take its time.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

from ..errors import BackupCorrupt, BackupUnavailable
from .objects import StoredObject, Upload, check_name

__all__ = ["DirectoryStore"]

R = TypeVar("R")

_UNFINISHED: Final = ".unfinished"
_PAGE: Final = 1000


class DirectoryStore:
    """Objects as files below ``root``, which is made when the first is stored."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def place(self) -> str:
        return str(self._root)

    async def upload(self, name: str) -> Upload:
        return _FileUpload(self._path(name), self.place)

    async def put(self, name: str, content: bytes) -> None:
        upload = await self.upload(name)
        try:
            await upload.write(content)
            await upload.close()
        finally:
            await upload.abort()

    async def create(self, name: str, content: bytes) -> bool:
        return await self._call(partial(_create, self._path(name), content))

    async def read(self, name: str, start: int, length: int) -> bytes:
        try:
            return await self._call(partial(_read, self._path(name), start, length))
        except BackupUnavailable as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise BackupCorrupt(name, "is missing") from error
            raise

    async def list(self, prefix: str) -> AsyncGenerator[Sequence[StoredObject], None]:
        found = await self._call(partial(_objects, self._root, prefix))
        for at in range(0, len(found), _PAGE):
            yield found[at : at + _PAGE]

    async def delete(self, names: Sequence[str]) -> None:
        await self._call(partial(_delete, self._root, [self._path(name) for name in names]))

    async def aclose(self) -> None:
        """There is nothing to end."""

    def _path(self, name: str) -> Path:
        return self._root / check_name(name)

    async def _call(self, work: Callable[[], R]) -> R:
        with _refused(self.place):
            return await _to_its_end(work)


class _FileUpload:
    """A file under another name, until it is whole. It is made with the first write."""

    def __init__(self, path: Path, place: str) -> None:
        self._path, self._place = path, place
        self._temporary = path.with_name(f"{path.name}{_UNFINISHED}-{secrets.token_hex(4)}")
        self._file: BinaryIO | None = None

    async def write(self, data: bytes) -> None:
        with _refused(self._place):
            await _to_its_end(partial(self._append, data))

    async def close(self) -> None:
        with _refused(self._place):
            await _to_its_end(self._finish)

    async def abort(self) -> None:
        if self._file is not None:
            await _to_its_end(self._drop)

    def _append(self, data: bytes) -> None:
        if self._file is None:
            self._file = _open_new(self._temporary)
        self._file.write(data)

    def _finish(self) -> None:
        self._append(b"")
        assert self._file is not None
        _to_disk(self._file)
        self._file.close()
        self._temporary.replace(self._path)
        self._file = None
        _entries_to_disk(self._path.parent)

    def _drop(self) -> None:
        file, self._file = self._file, None
        with suppress(OSError):
            if file is not None:
                file.close()
        with suppress(OSError):
            self._temporary.unlink(missing_ok=True)


async def _to_its_end(work: Callable[[], R]) -> R:
    """Do it in a thread. Whoever is cancelled waits for it: what comes next may remove its file."""
    doing = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        await asyncio.wait({doing})
        raise


@contextmanager
def _refused(place: str) -> Iterator[None]:
    """Name the place that an error of the file system is of."""
    try:
        yield
    except BackupUnavailable:
        raise
    except OSError as error:
        raise BackupUnavailable(
            f"backups in {place!r}: {error.strerror or error}; nothing incomplete counts as a "
            f"backup: see that there is space, and that this user may write there"
        ) from error


def _open_new(path: Path) -> BinaryIO:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    return os.fdopen(os.open(path, flags, 0o600), "wb")


def _to_disk(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _entries_to_disk(directory: Path) -> None:
    """Bring to the disk which files a directory has."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _create(path: Path, content: bytes) -> bool:
    temporary = path.with_name(f"{path.name}{_UNFINISHED}-{secrets.token_hex(4)}")
    try:
        with _open_new(temporary) as file:
            file.write(content)
            _to_disk(file)
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            return False
    finally:
        temporary.unlink(missing_ok=True)
    _entries_to_disk(path.parent)
    return True


def _read(path: Path, start: int, length: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(length)


def _objects(root: Path, prefix: str) -> list[StoredObject]:
    found = []
    for place, _, files in os.walk(root / prefix):
        for file in files:
            path = Path(place, file)
            with suppress(FileNotFoundError):  # another process has removed it
                info = path.stat()
                name = path.relative_to(root).as_posix()
                found.append(StoredObject(name, info.st_size, info.st_mtime))
    return sorted(found, key=lambda each: each.name)


def _delete(root: Path, paths: Sequence[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
    for directory in {path.parent for path in paths} - {root}:
        with suppress(OSError):  # it holds something else
            directory.rmdir()
