"""A program that counts up entries, and says each count once it is stored."""

import asyncio
import json
import sys

from clusterdb.cache import Cache, CacheConfig, CacheError


async def main(config: dict[str, object], keys: list[str]) -> None:
    async with Cache(CacheConfig.from_dict(config)) as cache:
        number = 0
        while True:
            for key in keys:
                number += 1
                stored = True
                try:
                    await cache.set(key, number)
                except CacheError:  # it may be stored, or not
                    stored = False
                print(json.dumps({"key": key, "number": number, "stored": stored}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1]), sys.argv[2:]))
