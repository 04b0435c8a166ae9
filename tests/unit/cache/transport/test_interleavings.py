"""No reply ever reaches another call: seeded schedules of everything that can happen at once.

Each schedule mixes calls and batches, readers and writers, cancellations, deadlines, a socket that
stops taking bytes, replies cut anywhere, pushes between them, and sometimes the end of the
connection. A reply carries the token of its command, a push the number of replies before it.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from math import inf
from typing import Any

import pytest
from tests.unit.cache.transport.wire import SMALL, Wire, bulk, push

from clusterdb.cache.errors import BackendUnavailable, OutcomeUnknown, ServerError
from clusterdb.cache.transport.connection import Limits

STEPS = 30


@dataclass
class Asked:
    future: asyncio.Future[Any]
    tokens: list[bytes]
    single: bool
    write: bool
    deadline: float
    cancelled: bool = False
    written: bool = False


class Schedule:
    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        limits = self.dice.choice([SMALL, Limits(), Limits(commands=1, unsent=1)])
        self.wire = Wire(limits, on_push=self.pushed, silence=self.dice.choice([1.0, inf]))
        self.asked: list[Asked] = []
        self.by_token: dict[bytes, Asked] = {}
        self.stream = bytearray()
        self.answered: list[bytes] = []
        self.pushed_at: list[int] = []
        self.pushes = 0
        self.paused = False

    # -- what may happen

    def ask(self) -> None:
        single = self.dice.random() < 0.7
        write = self.dice.random() < 0.4
        tokens = [b"%d" % self.dice.getrandbits(60) for _ in range(1 if single else 3)]
        deadline = self.wire.time + self.dice.choice([0.05, 0.3, 2.0, inf])
        commands = [(b"SET" if write else b"GET", token) for token in tokens]
        connection = self.wire.connection
        if connection.lost is not None:
            with pytest.raises(BackendUnavailable):
                connection.call(commands[0], deadline, write)
            return
        future: asyncio.Future[Any] = (
            connection.call(commands[0], deadline, write)
            if single
            else connection.calls(commands, deadline, write)
        )
        asked = Asked(future, tokens, single, write, deadline)
        self.asked.append(asked)
        self.by_token |= dict.fromkeys(tokens, asked)

    def cancel(self) -> None:
        if self.asked:
            asked = self.dice.choice(self.asked)
            asked.cancelled |= asked.future.cancel()

    def serve(self) -> None:
        """The server answers what was written, with pushes in between."""
        for _, token in self.wire.commands():
            self.by_token[token].written = True
            if self.dice.random() < 0.3:
                self.stream += push(b"%d" % len(self.answered))
                self.pushed_at.append(len(self.answered))
            self.answered.append(token)
            error = self.dice.random() < 0.1
            self.stream += b"-OOM %b\r\n" % token if error else bulk(token)

    def deliver(self) -> None:
        if self.wire.connection.lost is None and self.stream:
            size = self.dice.choice([1, 3, 20, len(self.stream)])
            self.wire.answer(bytes(self.stream[:size]))
            del self.stream[:size]

    def wait(self) -> None:
        self.wire.later(self.dice.choice([0.01, 0.1, 0.5]))

    def jam(self) -> None:
        self.paused = not self.paused
        connection = self.wire.connection
        connection.pause_writing() if self.paused else connection.resume_writing()

    def lose(self) -> None:
        if self.dice.random() < 0.02:
            self.serve()  # what was written may have reached the server
            self.wire.connection.connection_lost(None)

    # -- what must be so

    def pushed(self, _: Any, message: list[Any]) -> None:
        """All replies before a push were given out, none behind it."""
        before = int(message[1][0])
        assert before == self.pushed_at[self.pushes]
        self.pushes += 1
        for token in self.answered[before:]:
            asked = self.by_token[token]
            whole = asked.tokens[-1] == token
            if whole and asked.future.done() and not asked.cancelled:
                assert isinstance(asked.future.exception(), BackendUnavailable)

    def check(self, asked: Asked) -> None:
        future = asked.future
        assert future.done()
        if asked.cancelled:
            assert future.cancelled()
            return
        error = future.exception()
        if error is None:
            replies = [future.result()] if asked.single else future.result()
            for token, reply in zip(asked.tokens, replies, strict=True):
                assert str(reply) == f"OOM {token.decode()}" or reply == token
        elif isinstance(error, ServerError):
            assert str(error) == f"OOM {asked.tokens[0].decode()}"
        else:
            assert self.wire.connection.lost or asked.deadline <= self.wire.time
            assert type(error) is (
                OutcomeUnknown if asked.write and asked.written else BackendUnavailable
            )

    async def run(self) -> int:
        steps = [self.ask, self.ask, self.ask, self.serve, self.deliver, self.deliver]
        steps += [self.cancel, self.wait, self.jam, self.lose]
        for _ in range(STEPS):
            self.dice.choice(steps)()
            if self.dice.random() < 0.5:
                await self.wire.turn()
        await self.finish()
        for asked in self.asked:
            self.check(asked)
        return len(self.asked)

    async def finish(self) -> None:
        """Answer all that is under way."""
        connection = self.wire.connection
        if self.paused:
            self.jam()
        while connection.load and connection.lost is None:
            await self.wire.turn()
            self.serve()
            self.deliver()
        self.serve()
        connection.abort("the end")


async def run(seeds: range) -> int:
    calls = 0
    for seed in seeds:
        try:
            calls += await Schedule(seed).run()
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
    return calls


async def test_every_reply_finds_its_call():
    assert await run(range(3_000)) > 20_000


@pytest.mark.server  # it needs none, but a quick run has no minute for it
@pytest.mark.timeout(300)
async def test_every_reply_finds_its_call_in_a_hundred_thousand_schedules():
    assert await run(range(3_000, 100_000)) > 700_000
