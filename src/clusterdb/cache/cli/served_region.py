"""A region of a served cache: what the commands do with a :class:`Region`, over HTTP."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final

from msgspec import UNSET, UnsetType

from clusterdb.cache import InvalidArgument, NotSupported

from ..types import Record
from .served import Server, region_path

__all__ = ["ServedRegion"]

_MOST_KEYS: Final = 10_000
_TTL = str | UnsetType | None


class ServedRegion:
    """A region of a served cache; without a name ``default``, and for ``clear`` all of them."""

    def __init__(self, server: Server, name: str | None) -> None:
        self._server, self.name, self._whole = server, name or "default", name is None
        self._path = region_path(self.name)

    async def read(self, key: str) -> Record | None:
        """What is under a key."""
        status, entry = self._server.ask("GET", f"{self._path}/entry", {"key": key})
        if status != 200:
            return None
        value = entry["value"]
        return Record(
            key=key,
            value=base64.b64decode(value) if entry["type"] == "bytes" else value,
            version=entry["version"],
            expires_in=entry["expires_in"],
            tags=tuple(entry["tags"]),
            tier=entry["tier"],
            age_bound=entry["age_bound"],
        )

    async def present(self, key: str) -> bool:
        """Whether there is an entry."""
        query = {"key": key, "peek": "true", "limit": "1"}
        return self._server.ask("GET", f"{self._path}/entry", query)[0] == 200

    async def set(
        self,
        key: str,
        value: Any,
        *,
        ttl: _TTL = UNSET,
        nx: bool = False,
        xx: bool = False,
        keep_ttl: bool = False,
        tags: Iterable[str] = (),
    ) -> bool:
        """Store a value; whether it was."""
        if nx and xx:
            raise InvalidArgument("nx and xx exclude each other: choose one")
        body: dict[str, Any] = {"value": value, "tags": list(tags), "keep_ttl": keep_ttl}
        if isinstance(value, bytes):
            body |= {"value": base64.b64encode(value).decode(), "type": "bytes"}
        if not isinstance(ttl, UnsetType):
            body["ttl"] = ttl
        headers = {"If-None-Match": "*"} if nx else {"If-Match": "*"} if xx else {}
        path = f"{self._path}/entry"
        return self._server.ask("PUT", path, {"key": key}, body, headers)[0] == 200

    async def delete_many(self, keys: Iterable[str]) -> int:
        """Delete entries; how many there were. One request each."""
        path = f"{self._path}/entry"
        asked = [self._server.ask("DELETE", path, {"key": key}) for key in dict.fromkeys(keys)]
        return sum([status == 204 for status, _ in asked])

    async def touch(self, key: str, ttl: str | None) -> bool:
        """Give an entry a new time to live; whether there is one."""
        path = f"{self._path}/entry"
        return self._server.ask("PATCH", path, {"key": key}, {"ttl": ttl})[0] == 204

    async def increment(
        self, key: str, delta: int = 1, *, initial: int = 0, ttl: _TTL = UNSET
    ) -> int:
        """Add to a whole number; the sum."""
        body: dict[str, Any] = {"delta": delta, "initial": initial}
        if not isinstance(ttl, UnsetType):
            body["ttl"] = ttl
        total: int = self._server.ask("POST", f"{self._path}/increment", {"key": key}, body)[1][
            "value"
        ]
        return total

    async def scan(self, pattern: str, *, timeout: str | None = None) -> AsyncIterator[str]:
        """The keys that match. Raises :class:`NotSupported` after ten thousand: a server gives no
        more at once.
        """
        if timeout is not None:
            raise NotSupported("--timeout does not work over HTTP: the server has its own")
        query = {"pattern": pattern, "limit": str(_MOST_KEYS)}
        found = self._server.ask("GET", f"{self._path}/keys", query)[1]
        for key in found["keys"]:
            yield key
        if not found["complete"]:
            raise NotSupported(
                f"a server lists {_MOST_KEYS} keys at once, and there are more: narrow the pattern"
            )

    async def invalidate_many(self, keys: Iterable[str]) -> int:
        """Make entries misses by key."""
        return self._count("invalidated", f"{self._path}/invalidate", {"keys": list(keys)})

    async def invalidate_matching(self, pattern: str) -> int:
        """Make entries misses by glob."""
        return self._count("invalidated", f"{self._path}/invalidate", {"matching": [pattern]})

    async def invalidate_tag(self, tag: str) -> int:
        """Make entries misses by tag, in all regions."""
        return self._count("invalidated", "/v1/invalidate", {"tags": [tag]})

    async def clear(self) -> int:
        """Remove every entry of the region; without a name, of all regions."""
        return self._count("removed", "/v1/clear" if self._whole else f"{self._path}/clear", {})

    def _count(self, name: str, path: str, body: dict[str, Any]) -> int:
        count: int = self._server.ask("POST", path, None, body)[1][name]
        return count
