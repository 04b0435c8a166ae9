"""Access patterns of running caches: advice on a region, and recordings of its requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from .advice import Advice, advise
from .errors import InvalidArgument, NotSupported
from .recording import MAGIC, SHARE, Log
from .runtime import Runtime
from .table import Table
from .units import seconds as in_seconds

__all__ = ["Reads", "check_sample", "give_advice", "record_reads", "record_requests"]

_WRITE_EVERY: Final = 0.25
_MOST: Final = 20_000_000


async def give_advice(runtime: Runtime, region: str) -> Advice:
    """Advice on ``region``, worked out in a thread. Raises :class:`NotSupported` without a
    table.
    """
    table = await _table(runtime, region)
    settings = runtime.state(region).settings
    counters = table.counters
    reads = counters.hits + counters.misses
    ratio = counters.hits / reads if reads else 0.0
    # A region that is not full is as large as what is in it.
    full = settings.max_items or len(table)
    size = min(full, len(table)) if counters.evictions == 0 or settings.max_weight else full
    profile = table.look(lambda profile, _: profile.copy())
    policy = settings.policy if runtime.backend.inline else "lru"  # as a near tier has it
    return await asyncio.to_thread(advise, region, policy, size, ratio, profile)


async def record_requests(
    runtime: Runtime, region: str, path: str | Path, seconds: float | str | timedelta, sample: float
) -> int:
    """Write the requests of ``seconds`` to ``path``; how many it were."""
    check_sample(sample)
    lasting = in_seconds(seconds)
    table = await _table(runtime, region)
    end = runtime.clock.now() + lasting
    recorded = 0
    file = await asyncio.to_thread(Path(path).open, "wb")
    try:
        await asyncio.to_thread(file.write, MAGIC + SHARE.pack(sample))
        table.look(lambda profile, entries: profile.record(sample, entries))
        while runtime.clock.now() < end and recorded < _MOST:
            await asyncio.sleep(min(_WRITE_EVERY, max(0.0, end - runtime.clock.now())))
            requests = table.look(lambda profile, _: profile.recorded())
            recorded += len(requests) // 8
            await asyncio.to_thread(file.write, requests)
    finally:
        table.look(lambda profile, entries: profile.record(None, entries))
        await asyncio.to_thread(file.close)
    return recorded


class Reads(Protocol):
    """The reads of a region by other processes."""

    async def open(self) -> None:
        """Begin to hear them."""
        ...

    async def listen(self, heard: Callable[[bytes], None]) -> None:
        """Tell each key that was read since it was opened, until cancelled."""
        ...

    async def aclose(self) -> None:
        """End it. Idempotent."""
        ...


def check_sample(sample: float) -> None:
    """Raise :class:`InvalidArgument` for what is no share of keys."""
    if not 0 < sample <= 1:
        raise InvalidArgument(f"sample is a share above 0, up to 1: got {sample}")


async def record_reads(
    reads: Reads,
    path: Path,
    seconds: float,
    sample: float,
    *,
    begun: Callable[[], None],
    wrote: Callable[[int], None],
) -> None:
    """Write the reads of ``seconds`` to ``path``. ``begun`` is called once they are heard,
    ``wrote`` with how many were written. What was heard before an error, or a cancellation, is
    written.
    """
    try:
        await reads.open()
        file = await asyncio.to_thread(path.open, "wb")
        try:
            file.write(MAGIC + SHARE.pack(sample))
            begun()
            await _listen(reads, Log(sample), file, seconds, wrote)
        finally:
            file.close()
    finally:
        await reads.aclose()


async def _listen(
    reads: Reads, log: Log, file: BinaryIO, seconds: float, wrote: Callable[[int], None]
) -> None:
    listening = asyncio.create_task(reads.listen(log.note))
    loop = asyncio.get_running_loop()
    end, recorded = loop.time() + seconds, 0
    try:
        while (left := end - loop.time()) > 0 and recorded < _MOST and not listening.done():
            await asyncio.wait({listening}, timeout=min(_WRITE_EVERY, left))
            noted = log.take()
            recorded += len(noted) // 8
            await asyncio.to_thread(_append, file, noted)
            wrote(len(noted) // 8)
        if listening.done():
            listening.result()
    finally:
        listening.cancel()
        await asyncio.wait({listening})
        noted = log.take()
        file.write(noted)
        wrote(len(noted) // 8)


def _append(file: BinaryIO, noted: bytes) -> None:
    """Write, so that others see it."""
    file.write(noted)
    file.flush()


async def _table(runtime: Runtime, region: str) -> Table:
    state = runtime.state(region)
    table = runtime.backend.table(state.settings.name)
    if table is None:
        raise NotSupported(
            f"region {region!r} keeps nothing in this process, where its requests could be seen: "
            f"the {runtime.backend.kind} backend answers them elsewhere"
        )
    await runtime.ready()
    return table
