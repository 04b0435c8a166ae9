"""A process that uses a cache file and does what it is told, one line of JSON at a time.

Each line is a piece of Python with top-level ``await``; ``cache`` is the cache, and what an
expression gives, or a program leaves in ``answer``, goes back. Names stay from line to line.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import os
import random
import signal
import socket
import time
import warnings
from typing import Any

from clusterdb.cache import Cache, CacheConfig, CacheRegion, Disk

__all__ = ["boottime", "make", "run", "serve"]


def innermost(cache: Cache) -> Any:
    """The backend itself, without what stands round it: `tests` can't be imported here."""
    backend: Any = cache._runtime.backend
    while hasattr(backend, "_backend"):
        backend = backend._backend
    return backend


def boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def make(path: str, **disk: Any) -> Cache:
    """A cache on a file, with a second region."""
    cache = Cache(CacheConfig(backend=Disk(path=path, **disk), regions=[CacheRegion(name="other")]))
    assert cache._runtime.backend.kind == "disk"
    return cache


async def watch(cache: Cache, key: str, seconds: float, pause: float | None) -> Any:
    """Each value read under ``key``, with when it was first and last read; ``pause`` lets the loop
    do other things after each read.
    """
    seen: dict[Any, list[float]] = {}
    end = boottime() + seconds
    while (now := boottime()) < end:
        value = await cache.get(key)
        seen.setdefault(value, [now, now])[1] = now
        if pause is not None:
            await asyncio.sleep(pause)
    return [[value, *times] for value, times in seen.items()]


async def count_up(cache: Cache, key: str, seconds: float, pause: float, start: int = 1) -> Any:
    """Write growing numbers; each number and when its write was acknowledged."""
    written = []
    end = boottime() + seconds
    while boottime() < end:
        await cache.set(key, start)
        written.append([start, boottime()])
        start += 1
        await asyncio.sleep(pause)
    return written


async def run(code: str, names: dict[str, Any]) -> Any:
    """What ``code`` gives."""
    for mode in ("eval", "exec"):
        try:
            compiled = compile(code, "<told>", mode, ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        except SyntaxError:
            if mode == "exec":
                raise
            continue
        names.pop("answer", None)
        value = eval(compiled, names)
        if inspect.isawaitable(value):
            value = await value
        return names.get("answer") if mode == "exec" else value
    return None


async def _serve(told: socket.socket, path: str, disk: dict[str, Any]) -> None:
    lines, replies = await asyncio.open_connection(sock=told, limit=2**26)
    cache = make(path, **disk)
    names = {
        "cache": cache,
        "backend": innermost(cache),
        "make": make,
        "watch": watch,
        "count_up": count_up,
        "asyncio": asyncio,
        "boottime": boottime,
        "os": os,
        "path": path,
        "random": random,
        "signal": signal,
        "time": time,
    }
    while line := await lines.readline():
        try:
            reply = {"value": await run(json.loads(line), names)}
        except Exception as error:  # noqa: BLE001 - it is the test's
            reply = {"error": type(error).__name__, "text": str(error)}
        replies.write(json.dumps(reply, default=repr).encode() + b"\n")
        await replies.drain()
    await cache.aclose()
    replies.close()


def serve(told: socket.socket, path: str, disk: dict[str, Any]) -> None:
    """Be told by ``told`` until it ends."""
    warnings.simplefilter("error")
    asyncio.run(_serve(told, path, disk))
