"""Clean-up of servers: a slow walk by ``SCAN`` that removes what nobody uses, and what is dead.

**Unused** is what the server says (``OBJECT IDLETIME``), which it knows unless it evicts by LFU. A
hit of a near tier is no use there: an entry that is only ever read near is loaded anew once in
``older_than``. Whether it is unused is asked again in the step that removes it.

**Dead** is an entry whose tags' nonces are not the current ones. To see it, its header has to be
read, and reading is use, unless the connection says ``CLIENT NO-TOUCH`` (Redis 7.2, Valkey). Where
it can't, headers are left alone: a dead entry is one that nobody reads, so it goes as unused.

Each server is asked about what it holds, also about entries that belong to another server by now,
as after the weights of a ring were changed: nobody reads those, so that they are unused some day.

Placeholders, fences and whatever has expired are not touched: each has the server's own expiry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from ...errors import BackendUnavailable, CacheError, ServerError
from ...settings import RegionSettings
from ...transport import Command, Node, Reply
from ...upkeep import Cleaned
from .link import Link, explained
from .names import Names
from .nonces import Nonces
from .scripts import REMOVE, REMOVE_UNUSED, resent
from .stored import head_tags, is_envelope, packed, version_of

__all__ = ["RedisCleaning"]

_HEAD: Final = 1024
_LFU: Final = (
    "{server} evicts by LFU and does not know when an entry was last used: unused entries stay, "
    "dead ones go"
)
_TOUCHING: Final = (
    "{server} is older than Redis 7.2, where a look at an entry is a use of it: entries of ended "
    "tags and cleared regions go as unused"
)


class _Place(msgspec.Struct):
    """Where the walk is: the servers it has seen, the one it is at, and that one's cursor."""

    done: list[str] = []
    node: str = ""
    at: str = "0"


class RedisCleaning:
    """The clean-up of one backend. ``settings`` are the regions whose entries it looks at."""

    def __init__(
        self, link: Link, names: Names, nonces: Nonces, settings: Mapping[str, RegionSettings]
    ) -> None:
        self._link = link
        self._names = names
        self._nonces = nonces
        self._settings = settings
        self._touching: dict[str, bool] = {}

    async def counts(self) -> dict[str, int]:
        """How many keys each server has."""
        nodes = self._link.topology.nodes()
        return {node.name: int(await self._call(node, ("DBSIZE",))) for node in nodes}

    async def clean(self, cursor: str, older_than: float, limit: int) -> Cleaned:
        place = msgspec.json.decode(cursor, type=_Place) if cursor else _Place()
        node = self._next_node(place)
        if node is None:
            return Cleaned(cursor="")
        pattern = self._names.everything
        command = ("SCAN", place.at, "MATCH", pattern, "COUNT", limit)
        at, found = await self._call(node, command)
        names = [name for name in found if self._is_entry(name)]
        unused, notes = await self._unused(node, names, int(older_than))
        sizes = await self._remove_unused(node, unused, int(older_than))
        dead = 0
        if await self._is_touching(node):
            notes.append(_TOUCHING.format(server=node.name))
        else:
            dead = await self._remove_dead(node, [name for name in names if name not in sizes])
        place.at = at.decode()
        if place.at == "0":
            place.done.append(node.name)
            place.node = ""
        return Cleaned(
            cursor=msgspec.json.encode(place).decode() if self._next_node(place) else "",
            looked=len(found),
            removed=len(sizes) + dead,
            freed=sum(sizes.values()),
            notes=tuple(notes),
        )

    def _next_node(self, place: _Place) -> Node | None:
        """The server to go on with; one that is gone from the topology is left out."""
        left = {
            node.name: node for node in self._link.topology.nodes() if node.name not in place.done
        }
        if not left:
            return None
        if place.node not in left:
            place.node, place.at = min(left), "0"
        return left[place.node]

    def _is_entry(self, name: bytes) -> bool:
        parts = self._names.parts(name)
        return parts is not None and parts[0] in self._settings

    async def _call(self, node: Node, command: Command) -> Any:
        try:
            return await node.call(command, self._link.deadline())
        except ServerError as error:
            raise explained(error) from None

    # -- unused

    async def _unused(
        self, node: Node, names: Sequence[bytes], older_than: int
    ) -> tuple[list[bytes], list[str]]:
        """Those that were not used for so long, and why that can't be known, if so."""
        commands: list[Command] = [("OBJECT", "IDLETIME", name) for name in names]
        replies = await self._on(node, commands)
        unused: list[bytes] = []
        for name, reply in zip(names, replies, strict=True):
            if isinstance(reply, ServerError) and "LFU" in str(reply):
                return [], [_LFU.format(server=node.name)]
            if isinstance(reply, int) and reply >= older_than:
                unused.append(name)
        return unused, []

    async def _remove_unused(
        self, node: Node, names: Sequence[bytes], older_than: int
    ) -> dict[bytes, int]:
        """Remove those that still are unused; the bytes of each that went."""
        commands = [resent(REMOVE_UNUSED.call(name, older_than)) for name in names]
        replies = await self._on(node, commands, write=True)
        found = zip(names, replies, strict=True)
        return {name: reply - 1 for name, reply in found if isinstance(reply, int) and reply > 0}

    async def _on(
        self, node: Node, commands: Sequence[Command], *, write: bool = False
    ) -> list[Reply]:
        """The replies of the server that was looked at, and not of the one that a key belongs to:
        on a ring whose weights were changed it may be another. A slot that moves meanwhile, and
        with it its keys, is left for the next clean-up. Raises what any other command met.
        """
        if not commands:
            return []
        replies = await node.calls(commands, self._link.deadline(), write=write)
        for reply in replies:
            moved = isinstance(reply, ServerError) and reply.code in ("MOVED", "ASK", "TRYAGAIN")
            if isinstance(reply, CacheError) and not moved and "LFU" not in str(reply):
                raise explained(reply)
        return replies

    # -- dead

    async def _is_touching(self, node: Node) -> bool:
        """Whether every look at an entry of this server counts as a use."""
        if node.name not in self._touching:
            async with node.exclusive(self._link.deadline()) as connection:
                [reply] = await connection.calls(
                    [("CLIENT", "NO-TOUCH", "OFF")], self._link.deadline()
                )
            self._touching[node.name] = isinstance(reply, ServerError)
        return self._touching[node.name]

    async def _remove_dead(self, node: Node, names: Sequence[bytes]) -> int:
        """Remove entries that lost a tag or their region's generation; how many."""
        heads = await self._heads(node, names)
        stamped = {
            name: (head, tags)
            for name, head in heads.items()
            if is_envelope(head) and (tags := head_tags(head))
        }
        regions: dict[str, list[bytes]] = {}
        for name in stamped:
            parts = self._names.parts(name)
            if parts is not None:
                regions.setdefault(parts[0], []).append(name)
        dead: list[bytes] = []
        for region, mine in regions.items():
            alive = await self._nonces.alive(region, [stamped[name][1] for name in mine])
            dead += [name for name, lives in zip(mine, alive, strict=True) if not lives]
        if not dead:
            return 0
        commands = [REMOVE.call(name, packed(version_of(stamped[name][0]))) for name in dead]
        replies = await self._link.send(commands, dead, write=True, replicated=False)
        return sum([reply == 1 for reply in replies])

    async def _heads(self, node: Node, names: Sequence[bytes]) -> dict[bytes, bytes]:
        """The first bytes of entries, read without a trace."""
        if not names:
            return {}
        reads: list[Command] = [("GETRANGE", name, 0, _HEAD - 1) for name in names]
        deadline = self._link.deadline()
        async with node.exclusive(deadline) as connection:
            replies = await connection.calls(
                [("CLIENT", "NO-TOUCH", "ON"), *reads, ("CLIENT", "NO-TOUCH", "OFF")], deadline
            )
        if isinstance(replies[0], ServerError):
            raise BackendUnavailable(f"{node.name} was replaced by an older server meanwhile")
        heads = zip(names, replies[1:-1], strict=True)
        return {name: head for name, head in heads if isinstance(head, bytes)}
