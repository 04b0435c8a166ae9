"""Many callers at work on a topology, who notice a reply of another and a write done twice.

Each key holds its own name, and counters count each write once. A load's counters are its own: a
failover may lose the write that made one, and what a load before it had counted would be back.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from time import monotonic
from typing import Self

from tests.redis.conftest import now

from clusterdb.cache.errors import BackendUnavailable
from clusterdb.cache.transport import Command, Topology

__all__ = ["CALLERS", "DEADLINE", "SLACK", "Load", "loop_gap", "until"]

CALLERS = 64
DEADLINE = 0.5
SLACK = 0.25  # a loop that is busy, on a machine that is


class Load:
    """Callers that read their keys and add to their counters, until told to stop."""

    def __init__(self, client: Topology, deadline: float = DEADLINE, cancel: float = 0.0) -> None:
        self.client = client
        self.deadline = deadline
        self.cancel = cancel
        self.running = True
        self.outcomes: Counter[str] = Counter()
        self.acknowledged: Counter[bytes] = Counter()
        self.unknown: Counter[bytes] = Counter()
        self.worst = 0.0
        self.tasks: list[asyncio.Task[None]] = []
        self.prefix = b"count:%x" % random.getrandbits(64)

    async def __aenter__(self) -> Self:
        keys = [b"key:%d" % n for n in range(CALLERS)]
        commands: list[Command] = [("SET", key, key) for key in keys]
        counters = [b"%s:%d" % (self.prefix, n) for n in range(CALLERS)]
        commands += [("SET", counter, 0) for counter in counters]
        replies = await self.client.execute(commands, keys + counters, now() + 5, write=True)
        assert set(replies) == {b"OK"}
        self.tasks = [asyncio.create_task(self.caller(n)) for n in range(CALLERS)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.running = False
        await asyncio.gather(*self.tasks)

    async def caller(self, number: int) -> None:
        key, counter = b"key:%d" % number, b"%s:%d" % (self.prefix, number)
        while self.running:
            write = random.random() < 0.3
            command = ("INCR", counter) if write else ("GET", key)
            began = monotonic()
            outcome = await self.one(counter if write else key, command, write)
            self.worst = max(self.worst, monotonic() - began)
            self.outcomes[outcome] += 1
            if write:
                self.acknowledged[counter] += outcome == "ok"
                self.unknown[counter] += outcome in ("OutcomeUnknown", "cancelled")
            if outcome not in ("ok", "cancelled"):
                await asyncio.sleep(0.01)

    async def one(self, key: bytes, command: tuple[str, bytes], write: bool) -> str:
        call = self.client.call(key, command, now() + self.deadline, write=write)
        try:
            if random.random() < self.cancel:
                async with asyncio.timeout(random.uniform(0, 0.004)):
                    reply = await call
            else:
                reply = await call
        except TimeoutError:
            return "cancelled"
        except BackendUnavailable as error:
            return type(error).__name__
        if not write:
            assert reply == key, f"{key!r} was answered {reply!r}"
        return "ok"

    async def flows(self, within: float = 5.0) -> None:
        """Wait until hundreds of calls in a row succeed."""
        async with asyncio.timeout(within):
            while True:
                before = self.outcomes.copy()
                await asyncio.sleep(0.1)
                since = self.outcomes - before
                if since["ok"] > 300 and since.keys() <= {"ok", "cancelled"}:
                    return

    async def check_counters(self, *, may_lose: bool = False) -> None:
        """Each acknowledged write was done once, unless a failover lost it, and no unknown one
        more than once.
        """
        counters = sorted(self.acknowledged)
        reads = [("GET", counter) for counter in counters]
        values = await self.client.execute(reads, counters, now() + 5)
        for counter, value in zip(counters, values, strict=True):
            count, done = int(value or 0), self.acknowledged[counter]
            assert done <= count or may_lose
            assert count <= done + self.unknown[counter]


async def loop_gap(seconds: float) -> float:
    """Sleep; return the longest time that the event loop was held up meanwhile."""
    worst, end = 0.0, monotonic() + seconds
    while (before := monotonic()) < end:
        await asyncio.sleep(0.01)
        worst = max(worst, monotonic() - before - 0.01)
    return worst


async def until(true: Callable[[], object], within: float = 15.0) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(within):
        while True:
            if true():
                return
            await asyncio.sleep(0.02)
