"""A file with the contents of a memory backend, from an orderly end to the next start.

It is written whole beside its place, synced and renamed, and taken away by who starts from it.
After a crash there is none, as nobody could say what was invalidated since it was written: a start
is warm after an orderly end, else cold, and never wrong.

Layout: the magic bytes, then for each entry a length (4 bytes, big-endian) and as many bytes of
MessagePack (region, class, key, envelope), then a length of 0 and the BLAKE2b digest of all before.
``class`` is the ``module:name`` of a value that its bytes don't describe: see :mod:`.objects`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from ..errors import Undecodable

__all__ = ["Saved", "save", "take"]

_MAGIC: Final = b"CDBSNAP1"
_DIGEST: Final = 32
_LENGTH: Final = 4


class Saved(msgspec.Struct, frozen=True, array_like=True):
    """One entry. Oldest use first; ``kind`` is empty where the envelope says all."""

    region: str
    kind: str
    key: str
    envelope: bytes


def save(path: Path, entries: Iterable[Saved]) -> int:
    """Write the file; how many entries. Raises OSError, with what was there before untouched."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}.new")
    digest, count = hashlib.blake2b(_MAGIC, digest_size=_DIGEST), 0
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | os.O_CLOEXEC
    with suppress(FileNotFoundError):
        beside.unlink()
    try:
        with os.fdopen(os.open(beside, flags, 0o600), "wb") as file:
            file.write(_MAGIC)
            for entry in entries:
                body = msgspec.msgpack.encode(entry)
                piece = len(body).to_bytes(_LENGTH, "big") + body
                digest.update(piece)
                file.write(piece)
                count += 1
            end = bytes(_LENGTH)
            digest.update(end)
            file.write(end + digest.digest())
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        with suppress(OSError):
            beside.unlink()
        raise
    return count


def take(path: Path) -> list[Saved]:
    """Read the file and remove it; empty where there is none.

    Raises :class:`Undecodable` for one that is damaged or not ours, which is left where it is.
    """
    try:
        if path.is_symlink():
            raise Undecodable(f"{str(path)!r} is a symbolic link: name the file itself")
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    entries = _read(path, data)
    with suppress(FileNotFoundError):
        path.unlink()
    return entries


def _read(path: Path, data: bytes) -> list[Saved]:
    end = len(data) - _DIGEST
    body = memoryview(data)[: max(end, 0)]
    if not data.startswith(_MAGIC):
        raise Undecodable(f"{str(path)!r} is no snapshot of a cache")
    if hashlib.blake2b(body, digest_size=_DIGEST).digest() != data[max(end, 0) :]:
        raise Undecodable(f"{str(path)!r} is damaged or cut short")
    decoder, entries, at = msgspec.msgpack.Decoder(Saved), [], len(_MAGIC)
    while size := int.from_bytes(body[at : at + _LENGTH], "big"):
        at += _LENGTH
        try:
            entries.append(decoder.decode(body[at : at + size]))
        except msgspec.DecodeError as error:
            raise Undecodable(f"{str(path)!r}: {error}") from None
        at += size
    return entries
