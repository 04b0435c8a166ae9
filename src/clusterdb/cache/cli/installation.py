"""What is installed: version, compiled modules, extras, clock. Looked at, not remembered."""

from __future__ import annotations

import importlib
import os
import platform
import sys
import time
from collections.abc import Mapping
from functools import partial
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from types import ModuleType
from typing import Final

from ..clock import SystemClock
from ..hot import HOT_MODULES

__all__ = [
    "EXTRAS",
    "asked_pure",
    "build",
    "clock_is_compiled",
    "clock_source",
    "extras",
    "python",
    "version",
]

EXTRAS: Final[Mapping[str, tuple[str, ...]]] = {
    "redis": ("hiredis",),
    "postgres": ("asyncpg",),
    "avro": ("fastavro",),
    "zstd": ("zstandard",),
    "s3": ("obstore",),
    "backup": ("fastavro", "zstandard"),
    "encryption": ("cryptography",),
    "schedule": ("cronsim",),
    "metrics": ("prometheus_client",),
    "otel": ("opentelemetry",),
    "cli": ("typer", "rich"),
    "server": ("starlette", "uvicorn"),
}
"""The import names that each extra brings."""


def version() -> str:
    """The version of the distribution; ``unknown`` in a source tree that was never installed."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as distribution_version

    try:
        return distribution_version("clusterdb-cache")
    except PackageNotFoundError:
        return "unknown"


def python() -> str:
    """The interpreter and its version."""
    free_threaded = not getattr(sys, "_is_gil_enabled", lambda: True)()
    suffix = ", free-threaded" if free_threaded else ""
    return f"{platform.python_implementation()} {platform.python_version()}{suffix}"


def build() -> dict[str, str]:
    """``compiled`` or ``pure`` for each hot module, by the file it was loaded from; without those
    whose driver is not installed.
    """
    found = {}
    for name in HOT_MODULES:
        try:
            found[name] = _built(importlib.import_module(f"clusterdb.cache.{name}"))
        except ModuleNotFoundError as error:
            if error.name is None or error.name.startswith("clusterdb"):
                raise
    return found


def _built(module: ModuleType) -> str:
    file = getattr(module, "__file__", None) or ""
    return "compiled" if file.endswith(tuple(EXTENSION_SUFFIXES)) else "pure"


def asked_pure() -> str | None:
    """The value of ``CLUSTERDB_PURE``, which a build obeys; it changes nothing at run time."""
    return os.environ.get("CLUSTERDB_PURE")


def extras() -> dict[str, bool]:
    """Whether each extra can be imported."""
    return {
        extra: all(find_spec(name) is not None for name in names) for extra, names in EXTRAS.items()
    }


def clock_source() -> str:
    """The system clock that ages and deadlines are measured with."""
    now = SystemClock().now
    if clock_is_compiled():
        return "CLOCK_BOOTTIME"
    if isinstance(now, partial):
        boot = getattr(time, "CLOCK_BOOTTIME", None)
        return "CLOCK_BOOTTIME" if now.args == (boot,) else f"clock {now.args[0]}"
    return f"time.{getattr(now, '__name__', 'unknown')}"


def clock_is_compiled() -> bool:
    """Whether the clock is read by the C function of this package."""
    return getattr(SystemClock().now, "__module__", None) == "clusterdb.cache._boottime"
