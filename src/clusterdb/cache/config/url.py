"""`CacheConfig` from a URL: the common switches in one line.

``memory://?max_items=1000``, ``disk:///var/cache/app.db?ttl=1h``,
``redis://user:password@host:6379/0?near=0&name=main``; several Redis hosts are separated by commas;
a Redis on this machine may be behind a Unix socket: ``unix:///run/redis.sock?db=0``.
No variables are replaced: a URL usually comes from one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from ..errors import ConfigError
from .cache import CacheConfig
from .load import read_config
from .secrets import masked
from .shapes import FromVariable, nearest

__all__ = ["load_url"]

_COMMON: Final = ("name", "ttl", "max_items", "max_memory")
_SWITCHES: Final = {
    "memory": _COMMON,
    "disk": (*_COMMON, "synchronous", "near"),
    "redis": (*_COMMON, "near", "channel", "cluster"),
    "rediss": (*_COMMON, "near", "channel", "cluster"),
    "unix": (*_COMMON, "near", "channel", "db"),
}
_LONGEST: Final = 8192


def load_url(url: str) -> CacheConfig:
    """Return the configuration that `url` describes; raise `ConfigError`, passwords masked."""
    if not isinstance(url, str) or len(url) > _LONGEST:
        raise ConfigError(f"expected a URL of at most {_LONGEST} characters")
    shown = masked(url)[:120]
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ConfigError(f"{shown!r} is not a URL") from None
    if parts.scheme not in _SWITCHES:
        hint = nearest(parts.scheme, _SWITCHES)
        raise ConfigError(f"{shown!r}: unknown scheme {parts.scheme!r} - {hint}")
    if not url[len(parts.scheme) :].startswith("://") or parts.fragment:
        raise ConfigError(f"{shown!r}: expected {parts.scheme}://... without '#'")
    try:
        return read_config(_document(parts))
    except ConfigError as error:
        raise ConfigError(f"{shown!r}: {error}", path=error.path) from None


def _document(parts: SplitResult) -> dict[str, Any]:
    """Return the document that a URL stands for."""
    switches = _switches(parts)
    channel = switches.pop("channel", None)
    document: dict[str, Any] = {"cache": _cache(parts, switches)}
    if channel is not None:
        notification = {"backend": {"type": "redis", "channel": channel}}
        document["invalidation"] = {"notification": notification}
    return document


def _cache(parts: SplitResult, switches: dict[str, str]) -> dict[str, Any]:
    """Return the ``cache:`` section of a URL."""
    cache: dict[str, Any] = {}
    for switch in ("name", "ttl"):
        if switch in switches:
            value = switches.pop(switch)
            cache[switch] = None if switch == "ttl" and value.casefold() == "none" else value
    limits = {key: switches.pop(key) for key in ("max_items", "max_memory") if key in switches}
    if limits:
        cache["policy"] = {"eviction": {"type": "adaptive", **limits}}
    database = switches.pop("db", None)
    cache["backend"] = {**_backend(parts, database), **switches}
    return cache


def _switches(parts: SplitResult) -> dict[str, str]:
    """Return the query as a mapping; values may stand for numbers."""
    known = _SWITCHES[parts.scheme]
    found: dict[str, str] = {}
    for key, value in parse_qsl(parts.query, keep_blank_values=True):
        if key not in known:
            raise ConfigError(f"{key[:80]}: unknown switch - {nearest(key, known)}", path=key[:80])
        if key in found:
            raise ConfigError(f"{key}: given twice", path=key)
        found[key] = FromVariable(value, value)
    return found


def _backend(parts: SplitResult, database: str | None) -> Mapping[str, Any]:
    """Return the ``backend:`` section of a URL, without its switches."""
    if parts.scheme == "memory":
        if parts.netloc or parts.path not in ("", "/"):
            raise ConfigError("memory:// has neither host nor path")
        return {"type": "memory"}
    if parts.scheme == "disk":
        if parts.netloc:
            raise ConfigError("a path begins with a third slash: disk:///path/file.db")
        return {"type": "disk", "path": unquote(parts.path)}
    if parts.scheme == "unix":
        query = "" if database is None else f"?db={database}"
        return {"type": "redis", "urls": [f"unix://{parts.netloc}{parts.path}{query}"]}
    login, at, hosts = parts.netloc.rpartition("@")
    urls = [f"{parts.scheme}://{login}{at}{host}{parts.path}" for host in hosts.split(",")]
    return {"type": "redis", "urls": urls}
