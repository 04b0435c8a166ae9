"""Claims on keys, so that of all processes one loads: taken, renewed, filled and given back.

Source: the leases of "Scaling Memcache at Facebook" (NSDI 2013), with two differences: the token is
the holder's, and it is stored under the very key, so that whatever happens to the key (a write, a
removal, an eviction, FLUSHALL) takes the right to fill it with it, in one step.

A holder renews each third of the lease, so that a load may take longer than it; if the holder dies
the claim lapses and the next caller loads. One task renews all claims of the process and gives
back what is owed; it ends when there is nothing to do.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import Final

from ...claims import Claim
from ...codec import RegionCodec
from ...errors import CacheError, ServerError
from ...protocols import Put, Written
from ...settings import RegionSettings
from ...transport import Reply
from ...types import Record
from ...versions import Versions
from .held import Held, HeldClaims
from .link import BULK_BYTES, Link, explained, raised_if_away
from .names import Names
from .nonces import Nonces
from .scripts import CLAIM, FENCE, FILL, RELEASE, RENEW
from .stored import (
    ABSENT,
    TOKEN_BYTES,
    expiry_ms,
    milliseconds,
    packed,
    seal,
    sealed_record,
)

__all__ = ["Claiming"]

_SHORTEST_PAUSE: Final = 0.01
_TOGETHER: Final = 128
"""Keys of one script, which nothing else comes between: it takes a fraction of a millisecond."""


class Claiming:
    """The claims of one backend. ``settings`` are those of its regions, as they are now."""

    def __init__(
        self,
        link: Link,
        names: Names,
        nonces: Nonces,
        versions: Versions,
        settings: Mapping[str, RegionSettings],
    ) -> None:
        self.claims = HeldClaims()
        self._link = link
        self._names = names
        self._nonces = nonces
        self._versions = versions
        self._settings = settings
        self._renewing: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._wakes_at = 0.0

    async def claim(
        self, region: str, keys: Sequence[str], tags: tuple[str, ...], lease: float
    ) -> list[Record | Claim | None]:
        """See :meth:`Backend.claim`. Cost: one round trip a server; one more for tags, and one for
        each look at the tags of an entry that is there.
        """
        answers: list[Record | Claim | None] = [None] * len(keys)
        taken: dict[int, tuple[Claim, bytes]] = {}
        for at, key in enumerate(keys):
            took = self.claims.take(region, key, tags)
            if took is not None:
                taken[at] = took
        asked = _Asked(region, dict(zip(taken, _tokens(b"\0", len(taken)), strict=True)))
        try:
            asked.nonces = await self._nonces.snapshot(region, tags)
            await self._ask(asked, taken, lease, answers)
        except BaseException:
            for claim, _ in taken.values():
                self.claims.give(region, claim)
            if asked.sent:
                for at, token in asked.tokens.items():
                    self.claims.owed[token] = region, keys[at]
                self._renew_from(self._link.now())
            raise
        for at, (claim, _) in taken.items():
            if answers[at] is not claim:
                self.claims.give(region, claim)
        return answers

    async def _ask(
        self,
        asked: _Asked,
        taken: Mapping[int, tuple[Claim, bytes]],
        lease: float,
        answers: list[Record | Claim | None],
    ) -> None:
        """Ask for claims; judge the tags of entries that are there, ask again for the dead ones."""
        codec = _codec(self._settings, asked.region)
        places, dead = list(taken), dict.fromkeys(taken, ABSENT)
        while places:
            keys = [self._names.entry(asked.region, taken[at][0].key) for at in places]
            commands = [
                CLAIM.call(key, dead[at], asked.tokens[at], milliseconds(lease), taken[at][1])
                for at, key in zip(places, keys, strict=True)
            ]
            asked.sent = True
            sent_at = self._link.now()
            replies = await self._link.send(commands, keys, write=True)
            tagged: dict[int, tuple[tuple[str, int], ...]] = {}
            for at, reply in zip(places, replies, strict=True):
                claim = taken[at][0]
                if isinstance(reply, ServerError) and reply.code == "OOM":
                    answers[at] = claim  # no room for it: load, and store nothing
                elif isinstance(reply, CacheError):
                    raise explained(reply)
                elif reply == 1:
                    renew_at, since = sent_at + lease / 3, self._link.now()
                    token = asked.tokens[at]
                    held = Held(asked.region, token, asked.nonces, lease, since, renew_at)
                    self.claims.hold(claim, held)
                    answers[at] = claim
                elif reply != 0:
                    data, left = reply
                    expires = None if left < 0 else left
                    record, sealed = sealed_record(codec, claim.key, data, expires)
                    answers[at] = record
                    if sealed is not None and sealed.tags:
                        tagged[at], dead[at] = sealed.tags, packed(sealed.version)
            alive = await self._nonces.alive(asked.region, tagged.values())
            places = [at for at, lives in zip(tagged, alive, strict=True) if not lives]
            for at in places:  # another may have the claim by now: then this is no answer
                answers[at] = None
        self._renew_from(self._link.now() + lease / 3)

    async def fence(self, region: str, keys: Sequence[str], lease: float) -> list[Claim]:
        """See :meth:`Backend.fence`. Cost: one round trip a server."""
        fences = [self.claims.fence(region, key) for key in keys]
        tokens = _tokens(b"\xff", len(keys))
        names = [self._names.entry(region, key) for key in keys]
        px, parts = milliseconds(lease), self._parts(names)
        commands = [FENCE.call_many(names[part], [px, *tokens[part]]) for part in parts]
        firsts = [names[part.start] for part in parts]
        sent_at = self._link.now()
        try:
            _raise_refusal(await self._link.send(commands, firsts, write=True, written=names))
        except BaseException:
            for fence, token in zip(fences, tokens, strict=True):
                self.claims.give(region, fence)
                self.claims.owed[token] = region, fence.key
            self._renew_from(self._link.now())
            raise
        since, renew_at = self._link.now(), sent_at + lease / 3
        for fence, token in zip(fences, tokens, strict=True):
            self.claims.hold(fence, Held(region, token, {}, lease, since, renew_at))
        self._renew_from(self._link.now() + lease / 3)
        return fences

    async def compare_tags(self, region: str, keys: Sequence[str]) -> None:
        """End our claims on ``keys``, which were just found missing, whose tags another process has
        ended: who looks for them now must not have what was loaded before. Cost: nothing without
        tags, else one round trip a server.
        """
        tagged = {
            claim: held for claim, held in self.claims.on(region, keys).items() if held.nonces
        }
        if not tagged:
            return
        tags = [tag for held in tagged.values() for tag in held.nonces]
        current = await self._nonces.current(region, tags)
        for claim, held in tagged.items():
            if any(current[tag] != nonce for tag, nonce in held.nonces.items()):
                self.doubt(region, claim.key)

    async def extend(self, region: str, claims: Sequence[Claim], tags: tuple[str, ...]) -> None:
        """See :meth:`Backend.extend`."""
        held = [claim for claim in claims if self.claims.held(claim) is not None]
        if held and tags:
            nonces = await self._nonces.snapshot(region, tags)
            for claim in held:
                self.claims.extend(claim, nonces)

    async def fill(
        self, region: str, fills: Sequence[tuple[Claim, Put]]
    ) -> list[Written | CacheError]:
        """See :meth:`Backend.fill`. Cost: one round trip a server."""
        outcomes: list[Written | CacheError] = [Written(applied=False)] * len(fills)
        settings, codec = self._settings[region], _codec(self._settings, region)
        places: list[int] = []
        names: list[bytes] = []
        words: list[str | bytes | int] = []
        drawn: list[tuple[int, Held]] = []
        lost: list[tuple[str, Held]] = []
        bulk = False
        for at, (claim, put) in enumerate(fills):
            live = claim.live()
            held = self.claims.give(region, claim)
            if held is None:
                continue
            if not live:
                lost.append((claim.key, held))
                continue
            version = self._versions.draw()
            tags = tuple(held.nonces.items())
            data = seal(codec, claim.key, version, put.value, settings.grace, tags)
            bulk = bulk or len(data) >= BULK_BYTES
            words += (held.token, data, expiry_ms(put.ttl, settings.grace))
            names.append(self._names.entry(region, claim.key))
            places.append(at)
            drawn.append((version, held))
        try:
            stamps = [tuple(held.nonces.items()) for _, held in drawn]
            replies, alive = await self._fill(region, names, words, stamps, bulk)
        except BaseException:  # they may never have been sent, and nobody else gives them back
            lost += [(fills[at][0].key, held) for at, (_, held) in zip(places, drawn, strict=True)]
            raise
        finally:
            self._owe(lost)
        for at, (version, held), reply, lives in zip(places, drawn, replies, alive, strict=True):
            if isinstance(reply, CacheError):
                outcomes[at] = explained(reply)
                self._owe([(fills[at][0].key, held)])
            elif reply == 1 and lives:
                outcomes[at] = Written(applied=True, version=version)
        return raised_if_away(outcomes)

    async def _send_fills(
        self, names: Sequence[bytes], words: Sequence[str | bytes | int], *, bulk: bool
    ) -> list[Reply]:
        """A reply for each of ``names``; each has three ``words``."""
        parts = self._parts(names, 1 if bulk else _TOGETHER)
        commands = [
            FILL.call_many(list(names[part]), list(words[3 * part.start : 3 * part.stop]))
            for part in parts
        ]
        firsts = [names[part.start] for part in parts]
        replies = await self._link.send(commands, firsts, write=True, bulk=bulk, written=names)
        each: list[Reply] = []
        for part, reply in zip(parts, replies, strict=True):
            each += reply if isinstance(reply, list) else [reply] * (part.stop - part.start)
        return each

    def _parts(self, names: Sequence[bytes], most: int = _TOGETHER) -> list[slice]:
        """The names that one script can take, part by part: all of a server, else each alone. Those
        that move to another server of a ring go one by one, so that none waits for the others.
        """
        together = len(names) > 1 and self._link.together(names)
        size = most if together and not self._link.in_motion(names[0]) else 1
        return [slice(start, min(start + size, len(names))) for start in range(0, len(names), size)]

    async def _fill(
        self,
        region: str,
        names: Sequence[bytes],
        words: Sequence[str | bytes | int],
        stamps: Sequence[tuple[tuple[str, int], ...]],
        bulk: bool,
    ) -> tuple[list[Reply], list[bool]]:
        """The replies to fills, and whether the tags of each lived when it was stored."""
        filling = self._send_fills(names, words, bulk=bulk)
        if not any(stamps):
            replies = await filling
            return replies, [True] * len(replies)
        return await asyncio.gather(filling, self._nonces.alive(region, stamps))

    async def release(self, region: str, claims: Sequence[Claim]) -> None:
        """See :meth:`Backend.release`. Cost: one round trip a server."""
        held = [
            (claim.key, found) for claim in claims if (found := self.claims.give(region, claim))
        ]
        if held:
            keys = [self._names.entry(region, key) for key, _ in held]
            commands = [
                RELEASE.call(key, found.token) for key, (_, found) in zip(keys, held, strict=True)
            ]
            _raise_refusal(await self._link.send(commands, keys, write=True))

    def doubt(self, region: str, key: str, *, unless_fence: bool = False) -> None:
        """Something may have happened to a key: its claim can't be filled any more."""
        self.claims.doubt(region, key, unless_fence=unless_fence)
        if self.claims.owed:
            self._renew_from(self._link.now())

    def cleared(self, region: str, *, owed: bool) -> None:
        """A region was cleared; its claims are ``owed`` where that did not remove them."""
        self.claims.clear(region, owed=owed)
        if self.claims.owed:
            self._renew_from(self._link.now())

    # -- renewal

    def _owe(self, held: Sequence[tuple[str, Held]]) -> None:
        for key, found in held:
            self.claims.owed[found.token] = found.region, key
        if held:
            self._renew_from(self._link.now())

    def _renew_from(self, moment: float) -> None:
        """See to the claims, at the latest at ``moment``."""
        if not self.claims:
            return
        if self._renewing is None:
            self._wake = asyncio.Event()
            self._renewing = asyncio.create_task(self._renew(), name="clusterdb-cache: claims")
        elif moment < self._wakes_at:
            self._wake.set()

    async def _renew(self) -> None:
        """Give back what is owed, and renew what is held, as long as there is any."""
        try:
            while self.claims:
                self._wake.clear()
                await self._pay()
                await self._renew_due()
                wakes_at = self.claims.next_renewal()
                if wakes_at is None:
                    continue
                self._wakes_at = wakes_at
                try:
                    async with asyncio.timeout(max(_SHORTEST_PAUSE, wakes_at - self._link.now())):
                        await self._wake.wait()
                except TimeoutError:
                    continue
        finally:
            self._renewing = None

    async def _pay(self) -> None:
        owed, self.claims.owed = self.claims.owed, {}
        if owed:
            keys = [self._names.entry(region, key) for region, key in owed.values()]
            commands = [RELEASE.call(key, token) for key, token in zip(keys, owed, strict=True)]
            await self._link.send(commands, keys, write=True)

    async def _renew_due(self) -> None:
        due = self.claims.due(self._link.now())
        if not due:
            return
        sent_at = self._link.now()
        keys = [self._names.entry(held.region, claim.key) for claim, held in due]
        commands = [
            RENEW.call(key, held.token, milliseconds(held.lease))
            for key, (_, held) in zip(keys, due, strict=True)
        ]
        replies = await self._link.send(commands, keys, write=True)
        for (claim, held), reply in zip(due, replies, strict=True):
            held.renew_at = sent_at + held.lease / 3
            if reply == 0:
                self.claims.drop(held.region, claim.key)

    async def aclose(self) -> None:
        """End the renewal. Claims that are held lapse."""
        renewing, self._renewing = self._renewing, None
        self.claims.drop_all()
        if renewing is not None and not renewing.get_loop().is_closed():
            renewing.cancel()
            await asyncio.wait({renewing})

    def forked(self) -> None:
        """In the child of a fork: the claims are the parent's."""
        self._renewing = None
        self.claims.forget()


class _Asked:
    """What a call has asked for, should it end before the answer."""

    def __init__(self, region: str, tokens: dict[int, bytes]) -> None:
        self.region = region
        self.tokens = tokens
        self.nonces: dict[str, int] = {}
        self.sent = False


def _tokens(first: bytes, count: int) -> list[bytes]:
    """Random tokens, which begin with ``first``. The system is asked once."""
    size = TOKEN_BYTES - 1
    drawn = os.urandom(size * count)
    return [first + drawn[at : at + size] for at in range(0, size * count, size)]


def _raise_refusal(replies: Sequence[object]) -> None:
    """Raise the first error among ``replies``."""
    for reply in replies:
        if isinstance(reply, CacheError):
            raise explained(reply)


def _codec(settings: Mapping[str, RegionSettings], region: str) -> RegionCodec:
    codec = settings[region].codec
    assert codec is not None, "a region of an encoding backend has a codec"
    return codec
