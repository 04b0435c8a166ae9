"""Entries of a table on their way out, and in again: the memory backend's export and restore."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Final

from ..codec import RegionCodec
from ..errors import CacheError
from ..keys import matcher
from ..protocols import Exported, NotExported, Overwrite, Written
from ..settings import RegionSettings
from ..table import Table
from ..types import FOREVER, Version
from ..versions import Versions
from .objects import decoded, exported_object
from .restoring import is_over, opened, too_new
from .weighing import weight_of

__all__ = ["Restoring", "export_table"]

_AT_ONCE: Final = 100


async def export_table(
    table: Table,
    codec: RegionCodec,
    now: Callable[[], float],
    glob: str,
    batch_size: int,
    values: bool,
) -> AsyncGenerator[list[Exported | NotExported], None]:
    """See :meth:`Backend.export`. Memory for a list of the keys, and for one batch."""
    matches = matcher(glob)
    batch: list[Exported | NotExported] = []
    for at, key in enumerate(table.keys(), 1):
        record = table.peek(key, now()) if matches(key) else None
        if record is not None:
            batch.append(exported_object(codec, record, values))
        if len(batch) >= batch_size:
            yield batch
            batch = []
        if not at % _AT_ONCE:
            await asyncio.sleep(0)
    if batch:
        yield batch


class Restoring:
    """One call's restores into a table. ``keeps``: it has objects, and no bytes."""

    def __init__(
        self,
        table: Table,
        settings: RegionSettings,
        codec: RegionCodec,
        keeps: bool,
        overwrite: Overwrite,
        now: float,
    ) -> None:
        self._table = table
        self._settings = settings
        self._codec = codec
        self._keeps = keeps
        self._overwrite = overwrite
        self._now = now

    def restored(self, entry: Exported, versions: Iterator[Version]) -> Written | CacheError:
        """The outcome of one entry; ``versions`` are those that the table draws."""
        try:
            return self._restore(entry, versions)
        except CacheError as error:
            return error

    def _restore(self, entry: Exported, versions: Iterator[Version]) -> Written:
        encoded, left = opened(self._codec, entry), entry.expires_in
        if isinstance(versions, Versions) and versions.ahead(entry.version):
            raise too_new(entry)
        if is_over(entry):
            return Written(applied=False)
        value = decoded(self._codec, encoded, entry.kind) if self._keeps else encoded
        weighs = self._settings.weighs
        weight = weight_of(self._settings, entry.key, value) if weighs else 0
        deadline = FOREVER if left is None else self._now + left
        stored = entry.key, value, deadline, weight, entry.tags
        applied = self._table.restore(stored, entry.version, self._overwrite, self._now)
        return Written(applied, entry.version if applied else 0)
