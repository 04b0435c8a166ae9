"""Entries out of a backend and in again: export and restore on Redis, beside a loop over SCAN that
calls DUMP and PTTL for each key and RESTORE for each entry, and beside the same in pipelines; and
on a file and in memory. Under two minutes.

The loops are what a script does that knows no cache: on a bare socket with hiredis's parser, so
without the cost of a client library. Ours opens every envelope, checks it, and reads version and
tags; theirs are bytes that only the same kind of server can read.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from importlib import import_module
from pathlib import Path
from typing import Any

import hiredis
from _report import RESULTS, ROOT, Report, Row, Section, judge
from _rounds import Times, alternate, spread, summary, versus
from _workload import SEED

from clusterdb.cache import Cache, CacheConfig, Disk, Memory, Redis
from clusterdb.cache.protocols import Exported

sys.path.insert(0, str(ROOT))
start_redis = import_module("tests.redis.servers").start

OURS, AGAIN = "clusterdb", "clusterdb again"
LOOP, PIPELINES = "a call a key", "pipelines"
FILE, IN_MEMORY = "file", "memory"
BATCH = 1000


def arguments() -> Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small and rough, writes no result")
    parser.add_argument("--output", type=Path, help="where the JSON goes")
    return parser.parse_args()


class Bare:
    """A blocking connection and a parser, and nothing else."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader()

    def calls(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """The replies to commands that travel together."""
        self._socket.sendall(b"".join([hiredis.pack_command(command) for command in commands]))
        replies: list[Any] = []
        while len(replies) < len(commands):
            reply = self._reader.gets()
            if reply is False:
                self._reader.feed(self._socket.recv(1 << 20))
            else:
                replies.append(reply)
        return replies

    def names(self) -> Iterator[list[bytes]]:
        """The names of all keys, in batches."""
        cursor = b"0"
        while True:
            [[cursor, names]] = self.calls([("SCAN", cursor, "COUNT", BATCH)])
            yield names
            if cursor == b"0":
                return

    def dump(self, together: int) -> list[tuple[bytes, int, bytes]]:
        """All keys with time and bytes, asked for in groups."""
        found = []
        for names in self.names():
            for start in range(0, len(names), together):
                some = names[start : start + together]
                asked = [each for name in some for each in (("DUMP", name), ("PTTL", name))]
                replies = self.calls(asked) if together > 1 else [*map(self._one, asked)]
                found += zip(some, replies[1::2], replies[::2], strict=True)
        return found

    def restore(self, entries: Sequence[tuple[bytes, int, bytes]], together: int) -> None:
        """All of them back, in groups."""
        asked = [("RESTORE", name, max(0, left), data, "REPLACE") for name, left, data in entries]
        for start in range(0, len(asked), together):
            self.calls(asked[start : start + together])

    def _one(self, command: tuple[Any, ...]) -> Any:
        return self.calls([command])[0]


async def exported(cache: Cache) -> list[Exported]:
    """All entries of a cache's default region, share by share."""
    backend = cache.access.runtime.backend
    found: list[Exported] = []
    for part in backend.parts("default"):
        async for batch in backend.export("default", part=part, batch_size=BATCH):
            found += [each for each in batch if isinstance(each, Exported)]
    return found


async def restored(cache: Cache, entries: Sequence[Exported]) -> None:
    """Store entries again."""
    backend = cache.access.runtime.backend
    for start in range(0, len(entries), BATCH):
        await backend.restore("default", entries[start : start + BATCH], overwrite="always")


class Timed:
    """Caches with the same entries, and how long it takes to move them."""

    def __init__(self, loop: asyncio.AbstractEventLoop, keys: int, bare: Bare) -> None:
        self._run = loop.run_until_complete
        self._keys = keys
        self._bare = bare

    def filled(self, cache: Cache) -> None:
        """Give a cache its entries: half of them with a TTL and tags."""
        for start in range(0, self._keys, BATCH):
            numbers = range(start, min(start + BATCH, self._keys))
            plain = {f"plain:{each}": {"id": each, "text": "x" * 80} for each in numbers[::2]}
            tagged = {f"tagged:{each}": {"id": each, "text": "y" * 80} for each in numbers[1::2]}
            self._run(cache.set_many(plain))
            self._run(cache.set_many(tagged, ttl=3600, tags=(f"group:{start}", "all")))

    def export(self, cache: Cache) -> Callable[[], float]:
        return lambda: self._timed(lambda: len(self._run(exported(cache))))

    def restore(self, cache: Cache) -> Callable[[], float]:
        entries = self._run(exported(cache))
        return lambda: self._timed(lambda: self._run(restored(cache, entries)) or self._keys)

    def dump(self, together: int) -> Callable[[], float]:
        return lambda: self._timed(lambda: len(self._bare.dump(together)), at_least=True)

    def load(self, together: int) -> Callable[[], float]:
        entries = self._bare.dump(BATCH)
        return lambda: self._timed(
            lambda: self._bare.restore(entries, together) or self._keys, at_least=True
        )

    def _timed(self, work: Callable[[], int], *, at_least: bool = False) -> float:
        """Microseconds an entry. The bare loops also see the tags' nonces."""
        began = time.perf_counter()
        count = work()
        seconds = time.perf_counter() - began
        if count != self._keys and not (at_least and count > self._keys):
            raise RuntimeError(f"{count} entries came of {self._keys}")
        return seconds * 1e6 / self._keys


def rows(times: Times, against: str) -> list[Row]:
    made = []
    for name in times:
        found = summary(times[name])
        ratio = versus(times, name, against).median
        made.append(Row(name, found.median, found.low, found.high, "", "", ratio))
    return made


def measure(quick: bool) -> Report:
    keys, rounds = (600, 2) if quick else (100_000, 7)
    report = Report("moving", {"keys": keys, "rounds": rounds, "batch": BATCH, "seed": SEED})
    loop = asyncio.new_event_loop()
    with tempfile.TemporaryDirectory(prefix="clusterdb-bench-") as folder:
        servers = start_redis("standalone", Path(folder))
        try:
            out, back = moved(loop, servers, Path(folder), keys, rounds)
        finally:
            servers.stop()
            loop.close()
    noise = spread(out, OURS, AGAIN)
    report.sections += [
        Section("Export, an entry", "us", f"x {LOOP}", rows(out, LOOP), f"{noise:.1%}", 2),
        Section("Restore, an entry", "us", f"x {LOOP}", rows(back, LOOP), "", 2),
    ]
    ratio = versus(out, LOOP, OURS).median
    report.verdicts.append(judge("export", f"{LOOP} / export", ratio, ">=", 3, noise))
    return report


def moved(
    loop: asyncio.AbstractEventLoop, servers: Any, folder: Path, keys: int, rounds: int
) -> tuple[Times, Times]:
    """The times out and back in."""
    timed = Timed(loop, keys, Bare(servers.servers[0].port))
    redis = CacheConfig(backend=Redis(urls=servers.urls, near=False))
    caches = {
        OURS: Cache(redis),
        FILE: Cache(CacheConfig(backend=Disk(path=folder / "cache.db", near=False))),
        IN_MEMORY: Cache(CacheConfig(backend=Memory())),
    }
    stack = AsyncExitStack()
    try:
        for cache in caches.values():
            loop.run_until_complete(stack.enter_async_context(cache))
            timed.filled(cache)
        ours, file, memory = caches.values()
        out = {
            OURS: timed.export(ours),
            AGAIN: timed.export(ours),
            LOOP: timed.dump(1),
            PIPELINES: timed.dump(BATCH),
            FILE: timed.export(file),
            IN_MEMORY: timed.export(memory),
        }
        back = {
            OURS: timed.restore(ours),
            LOOP: timed.load(1),
            PIPELINES: timed.load(BATCH),
            FILE: timed.restore(file),
            IN_MEMORY: timed.restore(memory),
        }
        return alternate(out, rounds), alternate(back, rounds)
    finally:
        loop.run_until_complete(stack.aclose())


def main() -> None:
    options = arguments()
    report = measure(options.quick)
    print(report.text())
    path = options.output or (None if options.quick else RESULTS / "moving.json")
    if path is not None:
        report.write(path)


if __name__ == "__main__":
    main()
