"""The lock of a table, and what must not happen under it.

Values that leave a table are kept until the lock is free again: dropping the last reference to
one runs its finalizer, which is the user's code and may call the cache. A collection of cyclic
garbage may still start under the lock; a finalizer that it runs must not change a cache.
"""

from __future__ import annotations

import threading

__all__ = ["Guard"]


class Guard:
    """``with guard:`` holds the lock; what was put into ``dropped`` dies after it is released."""

    __slots__ = ("dropped", "lock")

    def __init__(self, lock: threading.Lock) -> None:
        self.lock = lock
        self.dropped: list[object] = []

    def __enter__(self) -> None:
        self.lock.acquire()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        dropped = self.dropped
        if dropped:
            self.dropped = []
        self.lock.release()
