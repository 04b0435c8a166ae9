"""Named moments at which a test may hold up or break the cache: off, and free, unless one is set.

A race is a matter of who comes first at one of a few moments. Random delays rarely hit them; a test
that stops a task exactly there does. Where such a moment is, the code says

    if FAILPOINTS:
        await hit("after-load-before-fill")

so that with nothing set it costs one look at an empty dictionary. A hook may delay, fail or
remember; it is for tests, and whoever sets one takes it away again.

| name | where |
|---|---|
| ``after-reply-before-install`` | a read was answered, and is not yet kept near |
| ``after-load-before-fill`` | a loader gave its value, and that is not yet stored |
| ``after-fence`` | the write fence stands, and storage has not committed yet |
| ``after-write-before-replicas`` | a server has written, and its replicas are not asked yet |
| ``after-intent-before-put`` | what is written behind is durable, and not cached yet |
| ``after-flush-before-forget`` | a batch has its rows, and its intents are not forgotten yet |
| ``after-commit-before-put`` | storage has committed, and the cache has not heard of it yet |
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

__all__ = ["FAILPOINTS", "Hook", "hit"]

Hook: TypeAlias = Callable[[], Awaitable[None]]
"""Awaited at its point."""

FAILPOINTS: Final[dict[str, Hook]] = {}
"""The hooks that are set, by the name of their point; empty but in tests."""


async def hit(name: str) -> None:
    """Await the hook at point ``name``, if there is one."""
    hook = FAILPOINTS.get(name)
    if hook is not None:
        await hook()
