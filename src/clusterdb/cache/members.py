"""The processes that share a backend: what each says of itself, and what it is told by.

A process announces itself every few seconds and is forgotten a minute after it fell silent, so that
nobody has to remove those that were killed. Its arguments are not told: they may be secret.
"""

from __future__ import annotations

import os
import socket
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import msgspec

from .stats import NearFigures

__all__ = ["SILENT_FOR", "Member", "Process", "this_process"]

SILENT_FOR: Final = 60.0
"""Seconds after which who was not heard of is taken to be gone."""

_LONGEST: Final = 100


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """Who a process is; ``version`` is that of this library."""

    host: str
    pid: int
    program: str
    version: str


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A process that shares the backend. ``started`` is seconds since the Unix epoch, ``silent``
    how many seconds ago it was last heard of; ``version`` is that of its library.
    """

    host: str
    pid: int
    program: str
    started: float
    silent: float
    version: str = ""
    figures: NearFigures = NearFigures()


def this_process() -> Process:
    """Who we are."""
    return Process(
        host=socket.gethostname()[:_LONGEST],
        pid=os.getpid(),
        program=Path(sys.argv[0] or "python").name[:_LONGEST],
        version=_version(),
    )


@cache
def _version() -> str:
    """The version of this library; empty where it runs without having been installed."""
    try:
        return version("clusterdb-cache")
    except PackageNotFoundError:
        return ""
