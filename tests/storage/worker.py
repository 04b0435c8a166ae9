"""A process that writes to a storage and is killed: `python -m tests.storage.worker CONFIG MOMENT`.

It says where it is on standard output, one word a line, and then waits to be killed.
"""

import asyncio
import json
import sys
from typing import Any

from clusterdb.cache import PostgreSQL, SQLite
from clusterdb.cache.clock import SystemClock
from clusterdb.cache.codec import Encoded
from clusterdb.cache.factory import make_storage
from clusterdb.cache.rows import RowChange


def config_of(text: str) -> PostgreSQL | SQLite:
    settings: dict[str, Any] = json.loads(text)
    return SQLite(**settings) if "path" in settings else PostgreSQL(**settings)


async def here(word: str) -> None:
    print(word, flush=True)
    await asyncio.Event().wait()


async def main(config: str, moment: str) -> None:
    storage = make_storage(config_of(config), SystemClock(), "worker")
    await storage.open()

    async def before(_: object) -> None:
        if moment == "before-commit":
            await here("before-commit")

    rows = [RowChange("main", key, Encoded(b"new", 5)) for key in ("a", "b")]
    await storage.write(rows, before_commit=before)
    if moment == "after-commit":
        await here("after-commit")
    number = 0
    while True:  # until killed: each number that is printed was acknowledged
        await storage.write([RowChange("main", "n", Encoded(str(number).encode(), 5))])
        print(number, flush=True)
        number += 1


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
