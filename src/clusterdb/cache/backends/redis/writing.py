"""Writes and commits: conditions judged by the server, and by the client where tags decide.

Changes of one call travel together, but two of one key: the second waits for the first, so that
their order holds even where one of them has to be asked again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from zlib import crc32

from ...codec import CodecId, Encoded, RegionCodec, Sealed, addend, bounded, fits, out_of_bounds
from ...errors import (
    BackendUnavailable,
    CacheError,
    CrossSlotError,
    ServerError,
    Undecodable,
)
from ...protocols import Add, Change, Check, Committed, Drop, Put, Touch, Written
from ...settings import RegionSettings
from ...transport import Command, Reply
from ...types import RemovalCause
from ...versions import Versions
from .link import BULK_BYTES, Link, explained, raised_if_away
from .names import Names
from .nonces import REGION_TAG, Nonces
from .scripts import ADD, COMMIT, DROP, PUT, TOUCH
from .stored import (
    ABSENT,
    HEAD_BYTES,
    codec_of,
    expiry_ms,
    head_tags,
    milliseconds,
    packed,
    seal,
    version_of,
)

__all__ = ["Writing"]

_UNJUDGED: Final = (b"", b"")
_VERSIONS: Final = 2**64


class _Step:
    """A change on its way: what its command says of an entry that only we can judge."""

    __slots__ = ("at", "change", "given", "known", "name", "version")

    def __init__(self, at: int, change: Change, name: bytes) -> None:
        self.at = at
        self.change = change
        self.name = name
        self.version = 0
        self.known: tuple[bytes, bytes] = _UNJUDGED
        self.given: tuple[tuple[str, int], ...] = ()
        """The tag that the region gives to a sum that begins, with its nonce."""


class Writing:
    """The writes of one backend. ``settings`` are those of its regions, as they are now."""

    def __init__(
        self,
        link: Link,
        names: Names,
        nonces: Nonces,
        versions: Versions,
        settings: Mapping[str, RegionSettings],
    ) -> None:
        self._link = link
        self._names = names
        self._nonces = nonces
        self._versions = versions
        self._settings = settings

    # -- single changes

    async def write(self, region: str, changes: Sequence[Change]) -> list[Written | CacheError]:
        """See :meth:`Backend.write`. Cost: one round trip a server; one more for tags that are
        written, and two for entries whose tags decide on a condition.
        """
        deadline = self._link.deadline()
        plain = _plain_put(changes)
        if plain is not None:
            return [await self._store(region, plain, deadline)]
        outcomes: list[Written | CacheError] = [Written(applied=False)] * len(changes)
        tags = [tag for change in changes if isinstance(change, Put) for tag in change.tags]
        own = self._own_tag(region, changes)
        tags += own
        stamps = await self._nonces.snapshot(region, tags, deadline) if tags else {}
        for wave in _waves(changes):
            steps = [
                _Step(at, changes[at], self._names.entry(region, changes[at].key)) for at in wave
            ]
            for step in steps:
                step.given = tuple([(tag, stamps[tag]) for tag in own])
            await self._carry_out(region, steps, stamps, outcomes, deadline)
        return raised_if_away(outcomes)

    def _own_tag(self, region: str, changes: Sequence[Change]) -> list[str]:
        """The tag of a region with ``instant_clear``, if a sum may need it."""
        instant = self._settings[region].instant_clear
        if instant and any(isinstance(change, Add) for change in changes):
            return [REGION_TAG]
        return []

    async def _store(self, region: str, put: Put, deadline: float) -> Written | CacheError:
        """A write that asks nothing. Cost: one round trip."""
        settings = self._settings[region]
        version = self._versions.draw()
        data = seal(codec_of(settings), put.key, version, put.value, settings.grace)
        name = self._names.entry(region, put.key)
        command: Command = ("SET", name, data)
        if put.ttl is not None:
            command += ("PX", expiry_ms(put.ttl, settings.grace))
        try:
            await self._link.store(command, name, deadline, len(data) >= BULK_BYTES)
        except ServerError as error:
            return error
        return Written(applied=True, version=version)

    async def _carry_out(
        self,
        region: str,
        steps: list[_Step],
        stamps: Mapping[str, int],
        outcomes: list[Written | CacheError],
        deadline: float,
    ) -> None:
        """Changes of different keys, asked again as long as there is something to judge."""
        settings = self._settings[region]
        while steps:
            commands, bulk = [], False
            for step in steps:
                command, size = self._command(settings, step, stamps)
                commands.append(command)
                bulk = bulk or size >= BULK_BYTES
            keys = [step.name for step in steps]
            replies = await self._link.send(
                commands, keys, write=True, bulk=bulk, deadline=deadline
            )
            again: list[_Step] = []
            heads: list[bytes] = []
            for step, reply in zip(steps, replies, strict=True):
                try:
                    outcome = await self._outcome(settings, step, reply, deadline)
                except CacheError as error:
                    outcome = error
                if isinstance(outcome, bytes):
                    again.append(step)
                    heads.append(outcome)
                else:
                    outcomes[step.at] = outcome
            if again:
                verdicts = await self._verdicts(region, heads, deadline)
                again = self._judged(again, heads, verdicts, outcomes)
            if again and self._link.now() >= deadline:
                for step in again:
                    outcomes[step.at] = _contended(step.change.key)
                return
            steps = again

    def _judged(
        self,
        steps: Sequence[_Step],
        heads: Sequence[bytes],
        verdicts: Sequence[bool],
        outcomes: list[Written | CacheError],
    ) -> list[_Step]:
        """Take note of the verdicts; which steps are to be asked again."""
        again: list[_Step] = []
        for step, head, lives in zip(steps, heads, verdicts, strict=True):
            if isinstance(step.change, Drop):  # it is gone; this was only to say what it was
                outcomes[step.at] = Written(applied=lives)
            else:
                step.known = packed(version_of(head)), b"1" if lives else b"0"
                again.append(step)
        return again

    async def _verdicts(self, region: str, heads: Sequence[bytes], deadline: float) -> list[bool]:
        """Whether the tags in each header live; malformed ones don't."""
        found = [head_tags(head) for head in heads]
        alive = await self._nonces.alive(region, [tags or () for tags in found], deadline)
        return [lives and tags is not None for lives, tags in zip(alive, found, strict=True)]

    def _command(
        self, settings: RegionSettings, step: _Step, stamps: Mapping[str, int]
    ) -> tuple[Command, int]:
        """The command of a change, and the size of its value."""
        change = step.change
        if isinstance(change, Put):
            data = self._sealed(settings, step, change, stamps)
            px = expiry_ms(change.ttl, settings.grace)
            if change.when == "always" and not change.keep_ttl:
                plain: Command = ("SET", step.name, data)
                return (plain if px == "" else (*plain, "PX", px)), len(data)
            grace = int(settings.grace * 1000 + 0.5)
            keep = 1 if change.keep_ttl else 0
            return PUT.call(step.name, *step.known, data, px, change.when, keep, grace), len(data)
        if isinstance(change, Drop):
            spares = 1 if change.cause is RemovalCause.INVALIDATED else 0
            return DROP.call(step.name, spares), 0
        if isinstance(change, Touch):
            ttl = "" if change.ttl is None else milliseconds(change.ttl)
            return TOUCH.call(step.name, *step.known, ttl), 0
        return self._add_command(settings, step, change), 0

    def _sealed(
        self, settings: RegionSettings, step: _Step, put: Put, stamps: Mapping[str, int]
    ) -> bytes:
        step.version = self._versions.draw()
        tags = tuple([(tag, stamps[tag]) for tag in put.tags]) if put.tags else ()
        return seal(codec_of(settings), put.key, step.version, put.value, settings.grace, tags)

    async def _outcome(
        self, settings: RegionSettings, step: _Step, reply: Reply, deadline: float
    ) -> Written | bytes | CacheError:
        """What a reply means; a header that has to be judged."""
        if isinstance(reply, CacheError):
            return explained(reply)
        change = step.change
        if isinstance(change, Add):
            return await self._added(settings, step, change, reply, deadline)
        if isinstance(reply, bytes) and len(reply) >= HEAD_BYTES:
            return reply
        if isinstance(change, Put):
            applied = reply in (b"OK", 1)
            return Written(applied, step.version if applied else 0)
        if isinstance(change, Touch) and reply != 0:
            return Written(applied=True, version=int.from_bytes(reply, "big"))
        return Written(applied=reply == 1)

    # -- sums

    def _add_command(self, settings: RegionSettings, step: _Step, add: Add) -> Command:
        codec = codec_of(settings)
        step.version = self._versions.draw()
        total, first = add.initial + add.delta, b""
        if fits(total):
            first = _sealed_integer(codec, settings, add.key, step.version, total, step.given)
        pattern = _sealed_integer(codec, settings, add.key, step.version, 0)[:HEAD_BYTES]
        if codec.signs or not fits(add.delta):
            pattern = b"-"  # equal to no header: the sum is ours to make
        px = expiry_ms(add.ttl, settings.grace)
        return ADD.call(step.name, first, px, pattern, crc32(pattern), add.delta)

    async def _added(
        self, settings: RegionSettings, step: _Step, add: Add, reply: Reply, deadline: float
    ) -> Written:
        kind, *rest = reply
        if kind == 0:
            raise out_of_bounds(add.key, add.initial + add.delta)
        if kind == 1:
            total = int(rest[0]) if rest else add.initial + add.delta
            return Written(applied=True, version=step.version, total=total)
        return await self._add_by_swap(settings, step, add, rest[0], rest[1], deadline)

    async def _add_by_swap(
        self,
        settings: RegionSettings,
        step: _Step,
        add: Add,
        data: bytes,
        left: int,
        deadline: float,
    ) -> Written:
        """Add where the server can't: read, judge, and store if nobody was faster."""
        codec = codec_of(settings)
        while True:
            sealed, lives = await self._opened(settings, add.key, data, deadline)
            total, px = add.initial, expiry_ms(add.ttl, settings.grace)
            tags = step.given
            if sealed is not None and lives:
                total, tags = addend(add.key, sealed.encoded), sealed.tags
                px = "" if left < 0 else left + int(settings.grace * 1000 + 0.5)
            total = bounded(add.key, total + add.delta)
            version = self._versions.draw()
            value = _sealed_integer(codec, settings, add.key, version, total, tags)
            known = packed(version_of(data))
            alive = lives or sealed is None  # what can't be read is there, for the comparison
            check = (1, known if alive else ABSENT, known, b"1" if alive else b"0")
            command = COMMIT.call_many([step.name], [1, *check, 1, value, px])
            [reply] = await self._link.send([command], [step.name], write=True, deadline=deadline)
            if isinstance(reply, CacheError):
                raise explained(reply)
            if isinstance(reply, list) and reply[0] == b"ok":
                return Written(applied=True, version=version, total=total)
            if self._link.now() >= deadline:
                raise _contended(add.key)
            command = self._add_command(settings, step, add)
            [reply] = await self._link.send([command], [step.name], write=True, deadline=deadline)
            if isinstance(reply, CacheError):
                raise explained(reply)
            if reply[0] != 2:
                return await self._added(settings, step, add, reply, deadline)
            data, left = reply[1], reply[2]

    async def _opened(
        self, settings: RegionSettings, key: str, data: bytes, deadline: float
    ) -> tuple[Sealed | None, bool]:
        """What an envelope holds, ``None`` where it can't be read, and whether its tags live."""
        try:
            sealed = codec_of(settings).unseal(key, data)
        except Undecodable:
            return None, False
        [lives] = await self._nonces.alive(settings.name, [sealed.tags], deadline)
        return sealed, lives

    # -- several at once

    async def commit(
        self, region: str, checks: Sequence[Check], changes: Sequence[Put | Drop]
    ) -> Committed | None:
        """See :meth:`Backend.commit`. Raises `CrossSlotError` where the keys don't live together.
        Cost: one round trip; one more for tags that are written, and two for each look at the tags
        of what is checked.
        """
        if not checks and not changes:
            return Committed(())
        if any(version is not None and not 0 <= version < _VERSIONS for _, version in checks):
            return None
        settings, deadline = self._settings[region], self._link.deadline()
        keys = list(dict.fromkeys([key for key, _ in checks] + [each.key for each in changes]))
        names = [self._names.entry(region, key) for key in keys]
        if not self._link.together(names):
            raise CrossSlotError(keys)
        tags = [tag for change in changes if isinstance(change, Put) for tag in change.tags]
        stamps = await self._nonces.snapshot(region, tags, deadline) if tags else {}
        place = {key: number for number, key in enumerate(keys, 1)}
        written: list[str | bytes | int] = []
        size = 0
        steps = [_Step(at, each, b"") for at, each in enumerate(changes)]
        for step in steps:
            data, px = b"", expiry_ms(None, 0)
            if isinstance(step.change, Put):
                data = self._sealed(settings, step, step.change, stamps)
                px = expiry_ms(step.change.ttl, settings.grace)
                size = max(size, len(data))
            written += [place[step.change.key], data, px]
        known = dict.fromkeys(place.values(), _UNJUDGED)
        while True:
            asked: list[str | bytes | int] = [len(checks)]
            for key, version in checks:
                expected = ABSENT if version is None else packed(version)
                asked += [place[key], expected, *known[place[key]]]
            command = COMMIT.call_many(names, asked + written)
            [reply] = await self._link.send(
                [command],
                names[:1],
                write=True,
                bulk=size >= BULK_BYTES,
                deadline=deadline,
                written=names,
            )
            if isinstance(reply, CacheError):
                raise explained(reply)
            if reply == 0:
                return None
            if reply[0] == b"ok":
                return await self._committed(region, steps, reply[1:], deadline)
            if self._link.now() >= deadline:
                raise _contended(keys[0])
            heads = reply[2::2]
            for at, head, lives in zip(
                reply[1::2], heads, await self._verdicts(region, heads, deadline), strict=True
            ):
                known[int(at)] = packed(version_of(head)), b"1" if lives else b"0"

    async def _committed(
        self, region: str, steps: Sequence[_Step], replies: Sequence[Reply], deadline: float
    ) -> Committed:
        heads = [reply for reply in replies if isinstance(reply, bytes)]
        verdicts = iter(await self._verdicts(region, heads, deadline) if heads else [])
        return Committed(
            tuple(
                [
                    Written(
                        next(verdicts) if isinstance(reply, bytes) else reply == 1, step.version
                    )
                    for step, reply in zip(steps, replies, strict=True)
                ]
            )
        )


def _plain_put(changes: Sequence[Change]) -> Put | None:
    """What most writes are: one value, without conditions and tags."""
    if len(changes) == 1:
        put = changes[0]
        if isinstance(put, Put) and put.when == "always" and not put.tags and not put.keep_ttl:
            return put
    return None


def _waves(changes: Sequence[Change]) -> list[list[int]]:
    """The places of changes, in lists that hold each key once."""
    if len(changes) == 1:
        return [[0]]
    waves: list[list[int]] = []
    turns: dict[str, int] = {}
    for at, change in enumerate(changes):
        turn = turns.get(change.key, 0)
        turns[change.key] = turn + 1
        if turn == len(waves):
            waves.append([])
        waves[turn].append(at)
    return waves


def _sealed_integer(
    codec: RegionCodec,
    settings: RegionSettings,
    key: str,
    version: int,
    number: int,
    tags: tuple[tuple[str, int], ...] = (),
) -> bytes:
    encoded = Encoded(b"%d" % number, int(CodecId.INTEGER))
    return seal(codec, key, version, encoded, settings.grace, tags)


def _contended(key: str) -> BackendUnavailable:
    return BackendUnavailable(f"others changed {key!r} all the time that this call had")
