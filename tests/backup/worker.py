"""A process that makes or restores a backup, slowly, and tells when it is in the middle of it.

``python worker.py create|restore PLACE CACHE_FILE`` prints ``begun`` once entries have moved.
"""

from __future__ import annotations

import asyncio
import sys

from clusterdb.cache import (
    BackupConfig,
    Cache,
    CacheConfig,
    Directory,
    Disk,
    Memory,
)
from clusterdb.cache.backup import Throttle
from clusterdb.cache.clock import SystemClock


async def main(operation: str, place: str, file: str) -> None:
    backend = Disk(path=file) if file else Memory()
    config = BackupConfig(
        schedule="0 0 * * *", retention="7d", storage=Directory(path=place), file_size=1024
    )
    async with Cache(CacheConfig(backend=backend, backup=config)) as cache:
        if not file:
            await cache.set_many({f"k{at}": at for at in range(20_000)})
        moved = 0

        def tell(done: int) -> None:
            nonlocal moved
            moved += done
            print(f"moved {moved}", flush=True)

        slowly = Throttle(1000, None, SystemClock().now)
        await getattr(cache.backups, operation)(progress=tell, throttle=slowly)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
