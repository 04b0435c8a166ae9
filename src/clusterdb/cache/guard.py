"""The lock of a table, and what must not happen under it.

Values that leave a table are kept until the lock is free again: dropping the last reference to
one runs its finalizer, which is the user's code and may call the cache. A collection of cyclic
garbage, or a signal handler, may still run such code under the lock: a change that it tries is
refused (:class:`ReentrantCall`), as waiting for the lock would be waiting for itself.
"""

from __future__ import annotations

import threading
from threading import get_ident

from .errors import ReentrantCall

__all__ = ["Guard", "TableLock"]


class TableLock:
    """A lock that knows its owner; shared by all tables whose tags are."""

    __slots__ = ("_lock", "_owner")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner = 0

    def acquire(self) -> None:
        """Wait for the lock. Raises :class:`ReentrantCall` in the thread that has it."""
        me = get_ident()
        if self._owner == me:
            raise ReentrantCall
        self._lock.acquire()
        self._owner = me

    def try_acquire(self) -> bool:
        """Take the lock if nobody has it."""
        if not self._lock.acquire(blocking=False):
            return False
        self._owner = get_ident()
        return True

    def release(self) -> None:
        """Give the lock back."""
        self._owner = 0
        self._lock.release()

    def locked(self) -> bool:
        """Whether somebody has it."""
        return self._lock.locked()


class Guard:
    """``with guard:`` holds the lock; what was put into ``dropped`` dies after it is released."""

    __slots__ = ("dropped", "lock")

    def __init__(self, lock: TableLock) -> None:
        self.lock = lock
        self.dropped: list[object] = []

    def __enter__(self) -> None:
        self.lock.acquire()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        dropped = self.dropped
        if not dropped:
            self.lock.release()
            return
        self.dropped = []
        self.lock.release()
        dropped.clear()  # a local of compiled code dies at its last use: this is after the release
