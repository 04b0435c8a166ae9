"""Scans: keys in batches, within a time limit, and what is done to all of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import timedelta

from .access import Access
from .errors import InvalidArgument, ScanTimeout
from .events import MatchingInvalidated
from .keys import matcher
from .options import Pattern, PatternOptions
from .runtime import Runtime
from .units import seconds

__all__ = ["invalidate_matching", "resolve_pattern", "scan_keys"]


async def scan_keys(
    runtime: Runtime, region: str, glob: str, batch_size: int, timeout: float | None
) -> AsyncIterator[str]:
    """Keys of ``region`` that match ``glob``, one by one."""
    async with aclosing(_batches(runtime, region, glob, batch_size, timeout)) as batches:
        async for batch in batches:
            for key in batch:
                if not runtime.waiting.holds(region, key):
                    yield key


async def invalidate_matching(
    access: Access, glob: str, batch_size: int, timeout: float | None
) -> int:
    """Invalidate the keys of a region that match ``glob``; how many entries were there."""
    runtime, region, removed = access.runtime, access.region, 0
    batches = _batches(runtime, region, glob, batch_size, timeout, dead=True)
    try:
        async with aclosing(batches):
            async for batch in batches:
                removed += await access.drop(batch)
    finally:  # also of what a scan that failed had removed
        runtime.forget_all()
        runtime.publish(MatchingInvalidated, region=region, pattern=glob, entries=removed)
    return removed


async def _batches(
    runtime: Runtime,
    region: str,
    glob: str,
    batch_size: int,
    timeout: float | None,
    *,
    dead: bool = False,
) -> AsyncGenerator[list[str], None]:
    await runtime.ready()
    now = runtime.clock.now
    until = None if timeout is None else now() + timeout
    seen = 0
    async with aclosing(runtime.backend.scan(region, glob, batch_size, dead=dead)) as batches:
        while True:
            try:
                async with asyncio.timeout(None if until is None else until - now()):
                    batch = await anext(batches, None)
            except TimeoutError:
                raise ScanTimeout(float(timeout or 0), seen) from None
            if batch is None:
                return
            if until is not None and now() >= until:
                raise ScanTimeout(float(timeout or 0), seen)
            seen += len(batch)
            yield batch


def resolve_pattern(
    pattern: str | Pattern,
    batch_size: int | None,
    timeout: float | str | timedelta | None,
    options: PatternOptions | None,
) -> tuple[str, int, float | None]:
    """Glob, keys a batch and seconds in all; keywords win over ``options`` or the pattern's own."""
    if isinstance(pattern, Pattern):
        if options is not None:
            raise InvalidArgument("a Pattern carries its options: give one of them")
        glob, base = (
            pattern.glob,
            PatternOptions(batch_size=pattern.batch_size, timeout=pattern.timeout),
        )
    else:
        glob, base = pattern, options or PatternOptions()
    matcher(glob)
    merged = PatternOptions(
        batch_size=base.batch_size if batch_size is None else batch_size,
        timeout=base.timeout if timeout is None else timeout,
    )
    return glob, merged.batch_size, None if merged.timeout is None else seconds(merged.timeout)
