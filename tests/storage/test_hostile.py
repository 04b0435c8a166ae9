"""Whatever a key, a tag, a value or a region's name holds comes back, or is refused alone."""

import random
from typing import Any

import pytest
from tests.storage.worker import config_of

from clusterdb.cache.clock import SystemClock
from clusterdb.cache.codec import Encoded
from clusterdb.cache.errors import RowRefused
from clusterdb.cache.factory import make_storage
from clusterdb.cache.rows import RowChange, RowWritten

NASTY = [
    "'",
    "''; DROP TABLE cache_storage; --",
    '"',
    "\\",
    "\\'",
    "\0",
    "a\0b",
    "$1",
    "%s",
    ":key",
    "?",
    "{}",
    "{a,b}",
    '{"a": 1}',
    "[]",
    "NULL",
    "null",
    "\r\n",
    "\x1b[31m",
    "\ufeff",
    "\u202e",
    "\U0010ffff",
    "e\u0301",
    "\u00e9",
    " ",
    "  lead and trail  ",
    "K" * 2000,
    "-0",
    "1e999",
    "\ud7ff",
]


def hostile(seed: int) -> list[str]:
    """Those above, and random texts of all planes; each once."""
    random_ = random.Random(seed)
    planes = [(1, 0x7F), (0x80, 0x7FF), (0x800, 0xD7FF), (0xE000, 0xFFFF), (0x10000, 0x10FFFF)]
    texts = [
        "".join(
            chr(random_.randint(*random_.choice(planes))) for _ in range(random_.randint(1, 40))
        )
        for _ in range(300)
    ]
    return list(dict.fromkeys([*NASTY, *texts]))


@pytest.mark.server
async def test_all_of_it_comes_back(config: str):
    storage: Any = make_storage(config_of(config), SystemClock(), "o'\"rigin")
    await storage.open()
    texts = hostile(5)
    random_ = random.Random(6)
    changes = [
        RowChange(
            "re'gion",
            text,
            Encoded(random_.randbytes(random_.choice([0, 1, 100, 5000])), random_.randint(0, 255)),
            tags=tuple(random_.sample(texts, random_.randint(0, 5))),
        )
        for text in texts
    ]
    position = await storage.position()
    outcomes = await storage.write(changes)
    rows = await storage.read("re'gion", texts)
    nul = storage.kind == "postgresql"
    for change, outcome, row in zip(changes, outcomes, rows, strict=True):
        if nul and any("\0" in text for text in (change.key, *change.tags)):
            assert isinstance(outcome, RowRefused)
            assert row is None
        else:
            assert isinstance(outcome, RowWritten), outcome
            assert (row.key, row.value, row.tags) == (change.key, change.value, change.tags)
    written = {row.key for row in rows if row is not None}
    assert len(written) > 200
    scanned = [row.key async for batch in storage.scan("re'gion", 50) for row in batch]
    assert scanned == sorted(written, key=str.encode)  # byte by byte
    told, _ = await storage.changes(position, 1000)
    assert {change.key for change in told} == written
    assert {change.origin for change in told} == {"o'\"rigin"}
    assert await storage.clear(["re'gion"]) == len(written)
    await storage.aclose()
