"""Entries of servers on their way out: each share scanned, its entries read in pipelined batches.

**Cost.** Two round trips a batch and server, one more where entries have tags: a ``SCAN``, and one
pipeline that reads what it named, or several where values are large. **Whole.** Value and version
are one string, and so of one moment; the time it has left is a reply of its own. So the version is
read once more behind it: an entry that was written in between is read again by a script, in one
step, and so is one that is large (one at a time, on the connection for large values), or that
another server has by now.
**No trace.** No near tier and no index of a region hears of it. The servers' own order of eviction
(``maxmemory``) is spared by ``CLIENT NO-TOUCH``, which Redis has since 7.2; an older one takes an
export for a use of each key. **Moves.** See :mod:`clusterdb.cache.transport.shares`.

Rejected: ``DUMP``, whose payload only a Redis of the same kind can read, and which would carry the
nonces of tags; one script for a whole batch, which a Cluster refuses for keys of several slots.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from itertools import islice
from typing import Final, NamedTuple

from ...codec import RegionCodec
from ...errors import BackendUnavailable, CacheError, ServerError, Undecodable
from ...keys import matcher
from ...protocols import Exported, NotExported
from ...settings import RegionSettings
from ...transport import Command, Node, Place, Reply
from ...transport.refusals import as_unavailable
from ...types import Record
from ..restoring import exported
from .link import BULK_BYTES, Link, explained
from .names import Names
from .nonces import Nonces, Stamps
from .reading import Reading
from .scripts import READ
from .stored import codec_of, grace_ms, head_tags, is_claim, is_envelope, shown_tags, version_of

__all__ = ["Exporting"]

_LEAST: Final = 10
_MOST: Final = 10_000
_MOVES: Final = 16
_FIRST_LOOK: Final = 100
_BYTES: Final = 4 << 20
"""About so many bytes of values travel together: as many keys as come to that by the last look."""

_HEAD: Final = 512
_FIRST, _LAST = 7, 14
"""Where the version is in an envelope."""

_ELSEWHERE: Final = frozenset({"MOVED", "ASK", "TRYAGAIN", "WRONGTYPE"})


class _Found(NamedTuple):
    """What is under a key, with the nonces of its tags; ``value`` is what leaves, ``None`` where
    it is still to be sealed without tags and grace.
    """

    record: Record
    tags: Stamps
    value: bytes | None


class Exporting:
    """The exports of one backend."""

    def __init__(
        self,
        link: Link,
        names: Names,
        nonces: Nonces,
        reading: Reading,
        settings: Mapping[str, RegionSettings],
    ) -> None:
        self._link = link
        self._names = names
        self._nonces = nonces
        self._reading = reading
        self._settings = settings

    async def export(
        self, region: str, part: str | None, glob: str, batch_size: int, values: bool
    ) -> AsyncGenerator[list[Exported | NotExported], None]:
        """See :meth:`Backend.export`."""
        topology = self._link.topology
        for share in topology.shares() if part is None else [part]:
            todo = topology.places(share)
            most = len(todo) + _MOVES
            while todo:
                if not most:
                    raise _restless(share)
                most -= 1
                place = todo.pop()
                lost: BackendUnavailable | None = None
                try:
                    async for batch in self._export(region, place, glob, batch_size, values):
                        yield batch
                    todo += await topology.followed(place, self._link.deadline())
                except BackendUnavailable as error:
                    lost = error
                if lost is not None:
                    found = await self._instead_of(place, lost)
                    nodes = topology.nodes()
                    todo = [each for each in todo if each.node in nodes] + found

    async def _instead_of(self, place: Place, lost: BackendUnavailable) -> list[Place]:
        """Where the keys are of a server that was lost on the way. Raises ``lost`` where nobody
        else has them by now.
        """
        topology = self._link.topology
        await topology.refresh(self._link.deadline())
        found = topology.places(place.share)
        if any(each.node is place.node for each in found):
            raise lost
        return found

    async def _export(
        self, region: str, place: Place, glob: str, batch_size: int, values: bool
    ) -> AsyncGenerator[list[Exported | NotExported], None]:
        """What one server has of a share, whether all of it has stayed there or not."""
        matches, pattern = matcher(glob), self._names.pattern(region, glob)
        named, cursor = min(max(batch_size, _LEAST), _MOST), b""
        together, wanted = min(batch_size, _FIRST_LOOK), dict[str, bytes]()
        while cursor != b"0":
            command = ("SCAN", cursor or b"0", "MATCH", pattern, "COUNT", named)
            try:
                cursor, names = await place.node.call(command, self._link.deadline())
            except ServerError as error:
                raise _refused(place.node, error) from None
            wanted |= self._wanted(region, place, names, matches)
            while len(wanted) >= together or (wanted and cursor == b"0"):
                some = dict(islice(wanted.items(), together))
                for key in some:
                    del wanted[key]
                batch = await self._entries(region, place.node, some, values)
                size = sum([len(each.value) for each in batch if isinstance(each, Exported)])
                together = min(batch_size, max(_LEAST, _BYTES * len(some) // max(1, size)))
                if batch:
                    yield batch

    def _wanted(
        self, region: str, place: Place, names: Sequence[bytes], matches: Callable[[str], bool]
    ) -> dict[str, bytes]:
        """The keys among ``names`` that are to be exported, with their names."""
        wanted: dict[str, bytes] = {}
        for name in names:
            key = self._names.key(region, name)
            if key is not None and matches(key) and place.has(name):
                wanted[key] = name
        return wanted

    # -- reading

    async def _entries(
        self, region: str, node: Node, wanted: Mapping[str, bytes], values: bool
    ) -> list[Exported | NotExported]:
        found, again = await self._look(region, node, wanted, values)
        for key in again:
            found += await self._look_again(region, key, wanted[key], values)
        tagged = [each.tags for each in found if each.tags]
        alive = iter(await self._nonces.alive(region, tagged) if tagged else ())
        codec = codec_of(self._settings[region])
        return [_moved(codec, each) for each in found if not each.tags or next(alive)]

    async def _look(
        self, region: str, node: Node, wanted: Mapping[str, bytes], values: bool
    ) -> tuple[list[_Found], list[str]]:
        """What a server has under keys, and the keys that are to be looked at in one step."""
        most = BULK_BYTES if values else _HEAD
        commands: list[Command] = [("CLIENT", "NO-TOUCH", "ON")]
        for name in wanted.values():
            commands += [
                ("GETRANGE", name, 0, most - 1),
                ("PTTL", name),
                ("GETRANGE", name, _FIRST, _LAST),
            ]
        commands.append(("CLIENT", "NO-TOUCH", "OFF"))
        deadline = self._link.deadline()
        async with node.exclusive(deadline) as connection:
            _, *replies, _ = await connection.calls(commands, deadline)
        found: list[_Found] = []
        again: list[str] = []
        for at, key in enumerate(wanted):
            data, left, version = replies[3 * at : 3 * at + 3]
            if not _of_one_write(node, data, left, version):
                again.append(key)
            elif left == -2 or is_claim(data):
                continue
            elif values and len(data) < most:
                found += self._opened(region, key, [data, left])
            elif not values and (head := _headed(key, data, left)) is not None:
                found += head
            else:
                again.append(key)
        return found, again

    async def _look_again(self, region: str, key: str, name: bytes, values: bool) -> list[_Found]:
        """What is under one key at one moment, wherever it is by now."""
        [reply] = await self._link.send([READ.call(name, "0")], [name], bulk=True)
        if isinstance(reply, CacheError):
            raise explained(reply)
        found = [] if reply is None else self._opened(region, key, reply, exactly=True)
        return found if values else [each._replace(value=b"") for each in found]

    def _opened(
        self, region: str, key: str, reply: list[Reply], *, exactly: bool = False
    ) -> list[_Found]:
        """What an envelope holds, if it lives as far as time says."""
        record, sealed = self._reading.opened(
            region, key, reply, exactly=exactly, stale=True, sent_at=0.0
        )
        if record is None:
            return []
        if sealed is None:
            return [_Found(record, (), None)]
        bare = not sealed.tags and sealed.expires_at is None
        return [_Found(record, sealed.tags, reply[0] if bare else None)]


def _of_one_write(node: Node, data: Reply, left: Reply, version: Reply) -> bool:
    """Whether what was read is here, and the time that is left is that of the value."""
    for reply in (data, left, version):
        if isinstance(reply, ServerError) and reply.code not in _ELSEWHERE:
            raise _refused(node, reply)
    whole = type(data) is bytes and type(left) is int
    return whole and bool(data[_FIRST : _LAST + 1] == version)


def _refused(node: Node, error: ServerError) -> Exception:
    """What a server's error means, with its remedy."""
    away = as_unavailable(error, node.name)
    return away if isinstance(away, BackendUnavailable) else explained(error)


def _headed(key: str, data: bytes, left: int) -> list[_Found] | None:
    """What an envelope's beginning says, if it lives as far as time says; ``None`` where it says
    not enough.
    """
    tags = head_tags(data) if is_envelope(data) else None
    if tags is None:
        return None
    expires_in: float | None = None
    if left >= 0:
        left -= grace_ms(data)
        if left <= 0:
            return []
        expires_in = left / 1000
    record = Record(key, None, version_of(data), expires_in, shown_tags(tags), "redis")
    return [_Found(record, tags, b"")]


def _moved(codec: RegionCodec, found: _Found) -> Exported | NotExported:
    """An entry as it leaves."""
    record, _, value = found
    if isinstance(record.value, Undecodable):
        return NotExported(record.key, record.value)
    if value is None:
        return exported(codec, record, record.value)
    return Exported(record.key, value, record.version, record.expires_in, record.tags)


def _restless(share: str) -> BackendUnavailable:
    return BackendUnavailable(
        f"part {share!r} was not exported to its end: its keys moved {_MOVES} times meanwhile; "
        f"export it again when the servers are at rest"
    )
