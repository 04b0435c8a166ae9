"""The coalescing queue of what is written behind, against a plain account of it."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.effort import times

from clusterdb.cache.codec import CodecId, Encoded
from clusterdb.cache.intents import Intent
from clusterdb.cache.types import MISSING
from clusterdb.cache.write_modes.pending import Pending

KEYS = st.sampled_from("abcd")


class PendingMachine(RuleBasedStateMachine):
    """What was accepted is written, in the order of versions, and the newest last."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = Pending()
        self.version = 0
        self.newest: dict[str, int] = {}
        self.stored: dict[str, int] = {}
        self.batches: list[list[Intent]] = []

    @rule(key=KEYS, size=st.integers(0, 5), late=st.booleans(), deleted=st.booleans())
    def add(self, key: str, size: int, late: bool, deleted: bool) -> None:
        self.version += 2
        version = self.version - 3 if late else self.version
        value = MISSING if deleted else Encoded(b"x" * size, CodecId.BYTES)
        self.queue.add(Intent("r", key, value, version))
        if self.queue.get(("r", key)) is not None:
            self.newest[key] = max(self.newest.get(key, -9), version)

    @rule(most=st.integers(1, 3))
    def take(self, most: int) -> None:
        batch = self.queue.take(most)
        flying = {intent.key for taken in self.batches for intent in taken}
        assert len(batch) <= most
        assert not flying & {intent.key for intent in batch}, "a key is in two batches"
        if batch:
            self.batches.append(batch)

    @rule(at=st.integers(0, 3))
    def settle(self, at: int) -> None:
        if self.batches:
            batch = self.batches.pop(at % len(self.batches))
            for intent in batch:
                self.stored[intent.key] = max(self.stored.get(intent.key, -9), intent.version)
            self.queue.settled(batch)

    @rule(at=st.integers(0, 3))
    def fail(self, at: int) -> None:
        if self.batches:
            self.queue.failed(self.batches.pop(at % len(self.batches)))

    @invariant()
    def nothing_is_lost(self) -> None:
        for key, version in self.newest.items():
            known = self.queue.get(("r", key))
            pending = -9 if known is None else known.version
            assert max(pending, self.stored.get(key, -9)) == version

    @invariant()
    def size_is_that_of_what_is_there(self) -> None:
        assert self.queue.size >= 0
        if not len(self.queue):
            assert self.queue.size == 0
        assert self.queue.waiting <= len(self.queue)

    @invariant()
    def it_says_what_is_behind(self) -> None:
        assert self.queue.behind(self.queue.versions()) == bool(len(self.queue))


PendingMachine.TestCase.settings = settings(max_examples=times(80), stateful_step_count=40)
TestPending = PendingMachine.TestCase
