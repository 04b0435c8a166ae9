"""The backups of one cache in their place: which there are, and their files.

::

    <cache>/<backup>/entries-00001.avro     files, in any order
    <cache>/<backup>/index.avro
    <cache>/<backup>/running.json           while it is being made: written to again and again
    <cache>/<backup>/manifest.json          last: from then on it is a backup
    <cache>/pruned.json                     when old backups were last removed

File names in manifests are relative to the cache's folder, so that a whole folder can be copied.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from typing import Any, Final

from ..errors import BackupCorrupt, BackupError, CacheError
from .ahead import one_ahead
from .chains import Catalog
from .files import FileReader
from .manifest import MANIFEST, MOST_MANIFEST, BackupFile, Manifest, dump_manifest, load_manifest
from .objects import ObjectStore, Upload, check_name, is_name
from .sealing import Keyring, SecretKey

__all__ = ["RUNNING", "Repository"]

RUNNING: Final = "running.json"
_PRUNED: Final = "pruned.json"
_PIECE: Final = 1024 * 1024
_MANIFESTS_AT_ONCE: Final = 8


class Repository:
    """The backups of the cache called ``cache``."""

    def __init__(self, store: ObjectStore, cache: str, keys: Keyring) -> None:
        self._store = store
        self._folder = f"_{cache}/" if cache.startswith(".") else f"{cache}/"
        self.keys = keys

    @property
    def place(self) -> str:
        """Where they are, for a person."""
        return f"{self._store.place}/{self._folder}"

    # -- what is there

    async def catalog(self) -> Catalog:
        """All backups, with their manifests. One request for each, and one a thousand files."""
        sizes: dict[str, int] = {}
        touched: dict[str, float] = {}
        now = 0.0
        async for page in self._store.list(self._folder):
            for each in page:
                name = each.name.removeprefix(self._folder)
                backup, slash, _ = name.partition("/")
                if slash and is_name(name):
                    sizes[name] = each.size
                    touched[backup] = max(each.modified, touched.get(backup, 0.0))
                elif name == _PRUNED:
                    now = each.modified
        names = [backup for backup in touched if f"{backup}/{MANIFEST}" in sizes]
        complete, unreadable = await self._manifests(names)
        return Catalog(
            complete=tuple(sorted(complete, key=lambda each: (each.sequence, each.id))),
            unreadable=unreadable,
            unfinished=tuple(sorted(touched.keys() - set(names))),
            sizes=sizes,
            touched=touched,
            now=now,
        )

    async def _manifests(
        self, names: Sequence[str]
    ) -> tuple[list[Manifest], dict[str, CacheError]]:
        found: list[Manifest] = []
        unreadable: dict[str, CacheError] = {}
        gate = asyncio.Semaphore(_MANIFESTS_AT_ONCE)

        async def load(name: str) -> None:
            async with gate:
                try:
                    found.append(await self._manifest(name))
                except CacheError as error:
                    # A place that fails is no property of one backup.
                    if isinstance(error, OSError):
                        raise
                    unreadable[name] = error

        try:
            async with asyncio.TaskGroup() as group:
                for name in names:
                    group.create_task(load(name))
        except* CacheError as errors:
            raise errors.exceptions[0] from None
        return found, unreadable

    async def _manifest(self, backup: str) -> Manifest:
        name = f"{backup}/{MANIFEST}"
        content = await self._read(name, 0, MOST_MANIFEST)
        manifest = load_manifest(name, content, self.keys)
        if manifest.id != backup:
            raise BackupCorrupt(name, f"is the manifest of another backup, {manifest.id!r}")
        return manifest

    # -- reading

    async def blocks(
        self, manifest: Manifest, file: BackupFile
    ) -> AsyncGenerator[list[dict[str, Any]], None]:
        """The records of a file of a backup, a block at a time. Raises :class:`BackupCorrupt` at
        the first that is damaged, and at the end where the file is not the one that is meant.
        """
        key = self.keys.find(manifest.key_id) if manifest.key_id else None
        reader = FileReader(file, key)
        async with aclosing(one_ahead(self._pieces(file))) as pieces:
            async for piece in pieces:
                found = reader.feed(piece)
                while (block := await asyncio.to_thread(next, found, None)) is not None:
                    yield block
        reader.end()

    async def _pieces(self, file: BackupFile) -> AsyncGenerator[bytes, None]:
        for start in range(0, file.size, _PIECE):
            yield await self._piece(file, start)

    async def _piece(self, file: BackupFile, start: int) -> bytes:
        length = min(_PIECE, file.size - start)
        piece = await self._read(file.name, start, length)
        if len(piece) != length:
            raise BackupCorrupt(file.name, "is truncated")
        return piece

    async def _read(self, name: str, start: int, length: int) -> bytes:
        return await self._store.read(self._folder + check_name(name), start, length)

    # -- writing

    async def begin(self, backup: str, note: bytes) -> bool:
        """Take the name of a backup; whether it was free."""
        return await self._store.create(f"{self._folder}{backup}/{RUNNING}", note)

    async def still_running(self, backup: str, note: bytes) -> None:
        """Show that somebody works on it."""
        await self._store.put(f"{self._folder}{backup}/{RUNNING}", note)

    async def upload(self, name: str) -> Upload:
        """Begin a file."""
        return await self._store.upload(self._folder + check_name(name))

    async def complete(self, manifest: Manifest, key: SecretKey | None) -> None:
        """Let a backup exist. Every file that it names must be there, whole, and every backup that
        it needs.
        """
        sizes: dict[str, int] = {}
        async for page in self._store.list(f"{self._folder}{manifest.id}/"):
            sizes |= {each.name.removeprefix(self._folder): each.size for each in page}
        for file in manifest.files:
            if sizes.get(file.name) != file.size:
                raise BackupCorrupt(file.name, "was removed or changed while the backup was made")
        for link in manifest.chain[:-1]:
            await self._read(f"{link}/{MANIFEST}", 0, 1)  # it was not removed meanwhile
        name = f"{self._folder}{manifest.id}/{MANIFEST}"
        if not await self._store.create(name, dump_manifest(manifest, key)):
            raise BackupError(f"{name!r} is there already: another process made this backup")
        with suppress(CacheError):  # it is no harm, and the backup is there
            await self._store.delete([f"{self._folder}{manifest.id}/{RUNNING}"])

    async def remove(self, backup: str) -> None:
        """Remove a backup, its manifest first, so that no part of it counts as one meanwhile; or
        the rest of one.
        """
        check_name(backup)
        await self._store.delete([f"{self._folder}{backup}/{MANIFEST}"])
        async for page in self._store.list(f"{self._folder}{backup}/"):
            await self._store.delete([each.name for each in page])

    async def mark(self, note: bytes) -> None:
        """Write to the place, so that the next catalog says what time it is there."""
        await self._store.put(self._folder + _PRUNED, note)

    async def aclose(self) -> None:
        """End connections."""
        await self._store.aclose()
