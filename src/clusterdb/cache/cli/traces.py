"""Traces of requests, from files of three kinds.

``*.u32`` holds little-endian 32-bit key numbers, one a request; a recording of a cache
64-bit hashes of keys behind a head of 20 bytes; anything else is text, a key a line (of CSV: the
first column). Each may be packed by gzip.
"""

from __future__ import annotations

import array
import csv
import gzip
import io
import sys
import zlib
from pathlib import Path
from typing import Final

from clusterdb.cache import InvalidArgument

from ..recording import MAGIC, SHARE

__all__ = ["MOST", "read_requests"]

MOST: Final = 50_000_000
"""Requests that are read; a longer trace is refused."""


def read_requests(path: Path) -> tuple[list[str], float]:
    """The keys of all requests in their order, and the share of all keys that they are a sample of.

    Raises :class:`InvalidArgument` for a file that can't be read, is cut short, or is no trace.
    """
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidArgument(f"can't read the trace {str(path)!r}: {error}") from error
    name = path.name.removesuffix(".gz")
    share = 1.0
    if data.startswith(MAGIC):
        head = len(MAGIC) + SHARE.size
        if len(data) < head:
            raise InvalidArgument(f"{str(path)!r} is cut short: its head is not whole")
        [share] = SHARE.unpack(data[len(MAGIC) : head])
        if not 0 < share <= 1:
            raise InvalidArgument(f"{str(path)!r} is damaged: it says to hold {share} of all keys")
        requests = _numbers(data[head:], 8, path)
    elif name.endswith(".u32"):
        requests = _numbers(data, 4, path)
    else:
        requests = _text(data, path)
    if not requests:
        raise InvalidArgument(f"{str(path)!r} holds no requests")
    if len(requests) > MOST:
        raise InvalidArgument(f"{str(path)!r} holds {len(requests)} requests, over {MOST}: cut it")
    return requests, share


def _numbers(data: bytes, width: int, path: Path) -> list[str]:
    if len(data) % width:
        raise InvalidArgument(
            f"{str(path)!r} is cut short: {len(data)} bytes are no whole number of keys of {width}"
        )
    numbers = array.array("I" if width == 4 else "Q")
    numbers.frombytes(data)
    if sys.byteorder == "big":
        numbers.byteswap()
    known: dict[int, str] = {}
    return [known.setdefault(number, str(number)) for number in numbers]


def _text(data: bytes, path: Path) -> list[str]:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidArgument(
            f"{str(path)!r} is no trace: neither text, nor a recording, nor named *.u32 ({error})"
        ) from error
    if "\0" in text:
        raise InvalidArgument(f"{str(path)!r} is no trace: it has NUL characters")
    known: dict[str, str] = {}
    try:
        rows = csv.reader(io.StringIO(text))
        return [known.setdefault(row[0], row[0]) for row in rows if row and row[0]]
    except csv.Error as error:
        raise InvalidArgument(f"{str(path)!r} is no CSV of keys: {error}") from error
