"""A program with a maintained cache: it says when it leads, until it is told to end."""

import asyncio
import json
import sys

from clusterdb.cache import Cache, CacheConfig


def say(**line: object) -> None:
    print(json.dumps(line), flush=True)


async def main(config: dict[str, object]) -> None:
    async with Cache(CacheConfig.from_dict(config)) as cache:
        maintenance, led = cache.access.runtime.maintenance, False
        say(ready=maintenance.name)
        while True:
            await asyncio.sleep(0.02)
            if maintenance.leads != led:
                led = not led
                say(leads=led)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
