"""What is installed: version, compiled modules, extras, clock. Looked at, not remembered."""

from __future__ import annotations

import importlib
import platform
import sys
import time
from collections.abc import Mapping
from functools import partial
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as distribution_version
from importlib.util import find_spec
from types import ModuleType
from typing import Final

from ..clock import SystemClock

__all__ = ["EXTRAS", "HOT_MODULES", "build", "clock_source", "extras", "python", "version"]

HOT_MODULES: Final = (
    "table", "residents", "claims", "tags", "wheel",
    "policy.base", "policy.fifo", "policy.lfu", "policy.lru",
)  # fmt: skip
"""The modules of the hit path and of the engines, which a build may compile."""

EXTRAS: Final[Mapping[str, tuple[str, ...]]] = {
    "redis": ("hiredis",),
    "postgres": ("asyncpg",),
    "avro": ("fastavro",),
    "zstd": ("zstandard",),
    "s3": ("obstore",),
    "schedule": ("cronsim",),
    "metrics": ("prometheus_client",),
    "otel": ("opentelemetry",),
    "cli": ("typer", "rich"),
    "server": ("starlette", "uvicorn"),
}
"""The import names that each extra brings."""


def version() -> str:
    """The version of the distribution; ``unknown`` in a source tree that was never installed."""
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
    """``compiled`` or ``pure`` for each hot module, by the file it was loaded from."""
    return {
        name: _built(importlib.import_module(f"clusterdb.cache.{name}")) for name in HOT_MODULES
    }


def _built(module: ModuleType) -> str:
    file = getattr(module, "__file__", None) or ""
    return "compiled" if file.endswith(tuple(EXTENSION_SUFFIXES)) else "pure"


def extras() -> dict[str, bool]:
    """Whether each extra can be imported."""
    return {
        extra: all(find_spec(name) is not None for name in names) for extra, names in EXTRAS.items()
    }


def clock_source() -> str:
    """The system clock that ages and deadlines are measured with."""
    now = SystemClock().now
    if isinstance(now, partial):
        boot = getattr(time, "CLOCK_BOOTTIME", None)
        return "CLOCK_BOOTTIME" if now.args == (boot,) else f"clock {now.args[0]}"
    return f"time.{getattr(now, '__name__', 'unknown')}"
