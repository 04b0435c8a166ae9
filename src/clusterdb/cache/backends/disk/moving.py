"""Entries of a cache file on their way out, and in again.

An export goes by key, a few rows a statement: each statement is a snapshot of its own, and between
two of them the file is anybody's. So each row is of one moment, no key that stays is missed, and
none comes twice. A restore is one transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Final

from ...codec import Encoded, RegionCodec
from ...errors import CacheError
from ...keys import matcher
from ...protocols import Exported, NotExported, Overwrite, Written
from ...settings import RegionSettings
from ...types import Record
from ..restoring import exported, opened
from .attachment import Attachment
from .rows import AliveRow
from .transaction import Transaction

__all__ = ["codec_of", "export_rows", "restore_rows"]

_ROWS: Final = 200
_BYTES: Final = 4 << 20
"""How much is read at once, while the event loop waits."""


def codec_of(settings: RegionSettings) -> RegionCodec:
    """The codec of a region, which in a backend that encodes each has."""
    assert settings.codec is not None, "a region of an encoding backend has a codec"
    return settings.codec


async def export_rows(
    attachment: Attachment,
    region: str,
    codec: RegionCodec,
    record: Callable[[str, AliveRow], Record],
    glob: str,
    batch_size: int,
    values: bool,
) -> AsyncGenerator[list[Exported | NotExported], None]:
    """See :meth:`Backend.export`. ``record`` makes a record of a key and its row."""
    matches, last = matcher(glob), ""
    batch: list[Exported | NotExported] = []
    while True:
        attached = await attachment.get()
        found = attached.reader.entries(region, last, attached.stored_now(), _ROWS, _BYTES)
        for key, row in found:
            if matches(key):
                batch.append(_moved(codec, record(key, row), values))
                if len(batch) >= batch_size:
                    yield batch
                    batch = []
        if not found:
            break
        last = found[-1][0]
        await asyncio.sleep(0)
    if batch:
        yield batch


def _moved(codec: RegionCodec, record: Record, values: bool) -> Exported | NotExported:
    if not isinstance(record.value, Encoded):
        return NotExported(record.key, record.value)
    return exported(codec, record, record.value if values else None)


async def restore_rows(
    attachment: Attachment,
    region: str,
    codec: RegionCodec,
    entries: Sequence[Exported],
    overwrite: Overwrite,
) -> list[Written | CacheError]:
    """See :meth:`Backend.restore`."""
    checked = [_opened(codec, entry) for entry in entries]

    def job(transaction: Transaction) -> list[Written | CacheError]:
        outcomes: list[Written | CacheError] = []
        for entry, value in zip(entries, checked, strict=True):
            try:
                done = (
                    value
                    if isinstance(value, CacheError)
                    else transaction.restore(region, entry, value, overwrite)
                )
                outcomes.append(done)
            except CacheError as error:
                outcomes.append(error)
        return outcomes

    return await attachment.do(job, region)


def _opened(codec: RegionCodec, entry: Exported) -> Encoded | CacheError:
    try:
        return opened(codec, entry)
    except CacheError as error:
        return error
