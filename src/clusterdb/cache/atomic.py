"""Atomic changes: several keys of a region, all or nothing, if every check holds.

A check by version or absence is made by the backend in the moment of the commit. A check by value
reads first, compares in Python by type and ``==``, and commits by the version it saw: if the entry
changes in between, the commit fails as if the check had.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

from msgspec import UNSET, UnsetType

from .access import Access
from .batch import BatchSet
from .errors import InvalidArgument
from .keys import check_key, shown
from .options import TTL, resolve_set
from .types import Version

__all__ = ["Atomic", "AtomicChanges"]


class AtomicChanges:
    """Checks and changes being collected, each call returning the same object."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self._values: dict[str, object] = {}
        self._versions: dict[str, Version | None] = {}
        self._changes: dict[str, BatchSet] = {}

    def check(self, key: str, value: object) -> Self:
        """Require that ``key`` holds a value of the same type that is ``==`` to ``value``."""
        self._values[self._checked(key)] = value
        return self

    def check_version(self, key: str, version: Version) -> Self:
        """Require that ``key`` is at ``version``, as :meth:`Region.lookup` gave it."""
        if isinstance(version, bool) or not isinstance(version, int) or version < 1:
            raise InvalidArgument(f"a version is an int above 0, not {shown(version)}")
        self._versions[self._checked(key)] = version
        return self

    def check_absent(self, key: str) -> Self:
        """Require that nothing is under ``key``."""
        self._versions[self._checked(key)] = None
        return self

    def set(
        self,
        key: str,
        value: object,
        *,
        ttl: TTL | UnsetType = UNSET,
        tags: Iterable[str] | None = None,
    ) -> Self:
        """Store ``value`` if all checks hold; ``ttl`` and ``tags`` as in :meth:`Region.set`."""
        options = resolve_set(None, ttl, None, None, None, tags)
        key = self._unchanged(key)
        self._changes[key] = BatchSet(key, value, options)
        return self

    def delete(self, key: str) -> Self:
        """Delete ``key`` if all checks hold."""
        key = self._unchanged(key)
        self._changes[key] = BatchSet(key)
        return self

    def _checked(self, key: str) -> str:
        key = check_key(key)
        if key in self._values or key in self._versions:
            raise InvalidArgument(f"{key!r} has a check already: one a key")
        return key

    def _unchanged(self, key: str) -> str:
        key = check_key(key)
        if key in self._changes:
            raise InvalidArgument(f"{key!r} has a change already: one a key")
        return key

    async def commit(self) -> bool:
        """Whether all checks held and all changes were made; if not, none was."""
        checks = dict(self._versions)
        if self._values:
            versions = await self.access.matching(self._values)
            if versions is None:
                return False
            checks |= versions
        changes = [self.access.change(change) for change in self._changes.values()]
        return await self.access.commit(list(checks.items()), changes)


class Atomic(AtomicChanges):
    """``await region.atomic().check("counter", 10).set("counter", 11).execute()``."""

    async def execute(self) -> bool:
        """Whether all checks held and all changes were made; if not, none was.

        One round trip, two with checks by value.
        """
        return await self.commit()
