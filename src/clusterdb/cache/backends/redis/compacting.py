"""Memory that a server's allocator holds and that holds nothing.

The server gives what is free in whole pages back when told (``MEMORY PURGE``). What lies between
entries in half-full pages only its active defragmentation can gather, which is a setting of the
server: whoever runs it turns it on, we only say so. Source: Redis, "Memory optimization", and the
fields ``allocator_*`` of ``INFO memory``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ...errors import ServerError
from ...transport import Node
from ...upkeep import Space
from .health import info_fields
from .link import Link, explained

__all__ = ["RedisCompacting"]

_LEAST: Final = 32 * 1024 * 1024
"""Bytes of memory below which a server's overhead says nothing."""


class RedisCompacting:
    """The memory of the servers of ``link``."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def space(self) -> list[Space]:
        found: list[Space] = []
        for node in self._link.topology.nodes():
            resident, dead = _memory(await self._info(node))
            if resident >= _LEAST:
                found.append(Space(name=node.name, size=resident, dead=dead))
        return found

    async def compact(self, name: str, limit: int) -> tuple[int, str]:
        del limit  # a server gives back all it can at once
        node = next((each for each in self._link.topology.nodes() if each.name == name), None)
        if node is None:
            return 0, "it left the topology"
        before, _ = _memory(await self._info(node))
        try:
            await node.call(("MEMORY", "PURGE"), self._link.deadline())
        except ServerError as error:
            return 0, f"MEMORY PURGE was refused ({explained(error)})"
        after, dead = _memory(await self._info(node))
        if before > after:
            return before - after, ""
        return 0, await self._why_not(node, dead)

    async def _why_not(self, node: Node, dead: int) -> str:
        """What could gather the rest; empty where nothing is left, or it does so by itself."""
        try:
            reply = await node.call(("CONFIG", "GET", "activedefrag"), self._link.deadline())
        except ServerError:
            return "whether it defragments by itself may not be asked (CONFIG GET)"
        enabled = b"yes" in (reply.values() if isinstance(reply, Mapping) else reply)
        if enabled or not dead:
            return ""
        return (
            f"{dead:,} bytes lie between entries, and activedefrag is off: "
            f"'CONFIG SET activedefrag yes' lets the server gather them"
        )

    async def _info(self, node: Node) -> dict[str, str]:
        try:
            return info_fields(await node.call(("INFO", "memory"), self._link.deadline()))
        except ServerError as error:
            raise explained(error) from None


def _memory(fields: Mapping[str, str]) -> tuple[int, int]:
    """Bytes that the allocator holds, and those of them that hold nothing."""
    resident = int(fields.get("allocator_resident", "0"))
    used = int(fields.get("allocator_allocated", "0"))
    return resident, max(0, resident - used)
