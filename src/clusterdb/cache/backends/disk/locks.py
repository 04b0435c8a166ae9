"""Who holds the write lock of a cache file.

SQLite's write lock in WAL mode is a lock of the system on byte 120 of the ``-shm`` file. Linux
lists all locks with their holders in ``/proc/locks``. Asking by ``fcntl`` instead would mean to
open that file and to close it, which gives back the locks of our own connections.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["lock_holder"]

_WRITE_LOCK: Final = 120


def lock_holder(path: Path) -> int | None:
    """The process that holds the write lock of the file at ``path``, if the system tells."""
    try:
        inode = path.with_name(path.name + "-shm").stat().st_ino
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        # 1: POSIX  ADVISORY  WRITE 4711 fe:00:123456 120 120
        words = line.split()
        if len(words) < 8 or words[1] == "->" or words[3] != "WRITE":
            continue
        pid, place, first, last = words[4:8]
        if place.rpartition(":")[2] != str(inode):
            continue
        if int(first) <= _WRITE_LOCK and (last == "EOF" or int(last) >= _WRITE_LOCK):
            return int(pid)
    return None
