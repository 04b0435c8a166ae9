"""Scans and clears: every primary's keys, by ``SCAN``.

``SCAN`` gives what is there from its start to its end at least once, on one server. Keys that move
to a server that was scanned before would be missed, so where the topology has changed meanwhile
everything is scanned again, and what was given before is left out. In a move of slots that is under
way all the time, a key that moves between the two looks may be missed; on a ring whose keys move,
everything is scanned twice, and none is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Final

from ...errors import BackendUnavailable, CacheError, ServerError
from ...keys import matcher
from ...settings import RegionSettings
from ...transport import Command, Node
from ...transport.placed import is_moving
from .link import Link, explained
from .names import Names
from .nonces import REGION_TAG, Nonces
from .scripts import DROP
from .stored import LONG_HEAD, is_live, region_nonce

__all__ = ["Scanning"]

_LEAST: Final = 10
_MOST: Final = 10_000
_CLEARED_AT_ONCE: Final = 1000
_PASSES: Final = 8


class Scanning:
    """The scans of one backend."""

    def __init__(
        self, link: Link, names: Names, nonces: Nonces, settings: Mapping[str, RegionSettings]
    ) -> None:
        self._link = link
        self._names = names
        self._nonces = nonces
        self._settings = settings

    async def scan(
        self, region: str, glob: str, batch_size: int, *, dead: bool = False
    ) -> AsyncGenerator[list[str], None]:
        """See :meth:`Backend.scan`. Cost: two round trips a batch, one where ``dead`` keys are
        given too; memory for the keys given, as each is given once.
        """
        matches, pattern = matcher(glob), self._names.pattern(region, glob)
        size = min(max(batch_size, _LEAST), _MOST)
        seen: set[str] = set()
        looks = 0
        for _ in range(_PASSES):
            version = self._link.topology.version
            try:
                for node in self._link.topology.nodes():
                    async for names in self._names_of(node, pattern, size):
                        wanted = self._wanted(region, names, matches, seen)
                        keys = list(wanted) if dead else await self._alive(region, wanted)
                        if keys:
                            seen.update(keys)
                            yield keys
            except BackendUnavailable:
                if self._link.topology.version == version:
                    raise
            looks = 0 if await self._moved_since(version) else looks + 1
            if looks >= self._looks_needed():
                return

    def _looks_needed(self) -> int:
        """How often all servers are looked at: what moves meanwhile is met the second time."""
        return 2 if is_moving(self._link.topology) else 1

    async def clear(self, region: str) -> int:
        """Remove what a region has, on all servers at once; how many entries that was, those of
        ended tags among them.
        """
        pattern = self._names.pattern(region)
        cleared = looks = 0
        for _ in range(_PASSES):
            version = self._link.topology.version
            nodes = self._link.topology.nodes()
            counts = await asyncio.gather(
                *[self._clear_node(node, pattern) for node in nodes], return_exceptions=True
            )
            changed = await self._moved_since(version)
            for count in counts:
                if isinstance(count, int):
                    cleared += count
                elif not (changed and isinstance(count, BackendUnavailable)):
                    raise count
            looks = 0 if changed else looks + 1
            if looks >= self._looks_needed():
                break
        return cleared

    async def _moved_since(self, version: int) -> bool:
        topology = self._link.topology
        await topology.refresh(self._link.deadline())
        return topology.version != version

    async def _names_of(
        self, node: Node, pattern: str, size: int
    ) -> AsyncGenerator[list[bytes], None]:
        """The names on one server that match, in batches, some maybe twice."""
        cursor: bytes = b"0"
        while True:
            command = ("SCAN", cursor, "MATCH", pattern, "COUNT", size)
            try:
                cursor, names = await node.call(command, self._link.deadline())
            except ServerError as error:
                raise explained(error) from None
            if names:
                yield names
            if cursor == b"0":
                return

    def _wanted(
        self, region: str, names: list[bytes], matches: Callable[[str], bool], seen: set[str]
    ) -> dict[str, bytes]:
        """The keys among ``names`` that are new and match, with their names."""
        wanted: dict[str, bytes] = {}
        for name in names:
            key = self._names.key(region, name)
            if key is not None and key not in seen and matches(key):
                wanted[key] = name
        return wanted

    async def _alive(self, region: str, wanted: Mapping[str, bytes]) -> list[str]:
        """The keys that live."""
        if not wanted:
            return []
        commands: list[Command] = []
        for name in wanted.values():
            commands += [("GETRANGE", name, 0, LONG_HEAD - 1), ("PTTL", name)]
        keys = [name for name in wanted.values() for _ in range(2)]
        replies = await self._link.send(commands, keys)
        instant = self._settings[region].instant_clear
        nonces = await self._nonces.current(region, [REGION_TAG] if instant else [])
        nonce = nonces.get(REGION_TAG)
        found: list[str] = []
        for key, head, left in zip(wanted, replies[::2], replies[1::2], strict=True):
            for reply in (head, left):
                if isinstance(reply, CacheError) and not _of_another_type(reply):
                    raise explained(reply)
            if not isinstance(head, bytes) or not is_live(head, left):
                continue
            if not instant or (nonce is not None and region_nonce(head) == nonce):
                found.append(key)
        return found

    async def _clear_node(self, node: Node, pattern: str) -> int:
        cleared = 0
        async for names in self._names_of(node, pattern, _CLEARED_AT_ONCE):
            commands = [DROP.call(name) for name in names]
            for reply in await self._link.send(commands, names, write=True):
                if isinstance(reply, CacheError):
                    raise explained(reply)
                cleared += reply != 0
        return cleared


def _of_another_type(reply: CacheError) -> bool:
    return isinstance(reply, ServerError) and reply.code == "WRONGTYPE"
