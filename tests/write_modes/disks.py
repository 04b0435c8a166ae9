"""Disks of a test's own that are soon full."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["ROOM", "grow", "mounted"]

ROOM = 1024 * 1024
"""Bytes that such a disk has."""


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    """A small disk in ``folder``; who may not mount one skips."""
    folder.mkdir()
    words = ",".join([f"size={ROOM}", *options])
    mount = ["mount", "-t", "tmpfs", "-o", words, "none", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small disk can't be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def grow(folder: Path) -> None:
    """Make room on the disk."""
    words = ["mount", "-o", f"remount,size={8 * ROOM}", str(folder)]
    subprocess.run(words, check=True, capture_output=True)
