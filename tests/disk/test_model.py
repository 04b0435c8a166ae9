"""The disk backend does what the memory backend does, for any sequence of calls."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
from hypothesis import given, settings
from tests.disk.processes import check_file
from tests.effort import times

from clusterdb.cache import Disk
from clusterdb.cache.backends.disk import DiskBackend
from clusterdb.cache.backends.memory import MemoryBackend
from clusterdb.cache.claims import Claim
from clusterdb.cache.protocols import Add, Drop, Put, Touch
from clusterdb.cache.testing import EncodingBackend, ManualClock
from clusterdb.cache.testing.conformance import region_settings
from clusterdb.cache.types import Record, RemovalCause

KEYS = st.sampled_from(["a", "b", "c", "\0%"])
REGIONS = st.sampled_from(["one", "two"])
TAGS = st.lists(st.sampled_from(["t", "%00", "\0"]), unique=True, max_size=2).map(tuple)
TTL = st.sampled_from([None, 1.0, 2.5])
VALUES = st.one_of(st.integers(-5, 5), st.text(max_size=3), st.none())

PUT = st.builds(
    Put, KEYS, VALUES, TTL, TAGS, st.sampled_from(["always", "absent", "present"]), st.booleans()
)
CHANGE = st.one_of(
    PUT,
    st.builds(Touch, KEYS, TTL),
    st.builds(Add, KEYS, st.integers(-2, 2), st.integers(0, 3), TTL),
    st.builds(Drop, KEYS, st.sampled_from([RemovalCause.DELETED, RemovalCause.INVALIDATED])),
)
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), REGIONS, st.lists(CHANGE, min_size=1, max_size=3)),
        st.tuples(st.just("read"), REGIONS, st.lists(KEYS, min_size=1, max_size=3), st.booleans()),
        st.tuples(st.just("peek"), REGIONS, st.lists(KEYS, min_size=1, max_size=3)),
        st.tuples(st.just("end"), TAGS),
        st.tuples(st.just("clear"), REGIONS),
        st.tuples(st.just("scan"), REGIONS),
        st.tuples(st.just("claim"), REGIONS, KEYS, TAGS),
        st.tuples(st.just("fill"), st.integers(0, 5), VALUES, TTL),
        st.tuples(st.just("release"), st.integers(0, 5)),
        st.tuples(st.just("commit"), REGIONS, KEYS, st.booleans(), PUT),
        st.tuples(st.just("advance"), st.sampled_from([0.4, 1.0, 1.5])),
        st.tuples(st.just("tidy")),
    ),
    max_size=25,
)


class Player:
    """Plays operations on one backend; versions become ranks, as their numbers may differ."""

    def __init__(self, backend: Any, tidy: Callable[[], Any] | None) -> None:
        self.backend = backend
        self.tidy = tidy
        self.claims: list[tuple[str, Claim]] = []
        self.versions: dict[int, int] = {0: 0}

    def told(self, answer: Any) -> Any:
        if isinstance(answer, Record):
            left = None if answer.expires_in is None else round(answer.expires_in, 6)
            return (answer.key, answer.value, self.rank(answer.version), left, answer.tags)
        if isinstance(answer, Claim):
            return "claim"
        if isinstance(answer, list):
            return [self.told(each) for each in answer]
        if isinstance(answer, Exception):
            return type(answer).__name__
        if hasattr(answer, "applied"):
            return (answer.applied, self.rank(answer.version), answer.total)
        if hasattr(answer, "outcomes"):
            return self.told(list(answer.outcomes))
        return answer

    def rank(self, version: int) -> int:
        return self.versions.setdefault(version, len(self.versions))

    async def play(self, name: str, *given: Any) -> Any:
        backend = self.backend
        if name == "write":
            return self.told(await backend.write(*given))
        if name == "read":
            return self.told(await backend.read(given[0], given[1], consistent=given[2]))
        if name == "peek":
            return self.told(await backend.peek(*given))
        if name == "end":
            await backend.invalidate_tags(given[0])
        elif name == "clear":
            await backend.clear([given[0]])
        elif name == "scan":
            return sorted([k async for keys in backend.scan(given[0], "*", 2) for k in keys])
        elif name == "claim":
            region, key, tags = given
            [answer] = await backend.claim(region, [key], tags, 1e6)
            if isinstance(answer, Claim):
                self.claims.append((region, answer))
            return self.told(answer)
        elif name in ("fill", "release") and given[0] < len(self.claims):
            region, claim = self.claims.pop(given[0])
            live = claim.live()
            if name == "release":
                await backend.release(region, [claim])
                return live
            put = Put(claim.key, given[1], given[2], tuple([tag.name for tag in claim.tags]))
            return live, self.told(await backend.fill(region, [(claim, put)]))
        elif name == "commit":
            region, key, matches, put = given
            [record] = await backend.read(region, [key], consistent=True)
            version = None if record is None else record.version
            checked = version if matches else 10**9
            plain = Put(put.key, put.value, put.ttl, put.tags)
            return self.told(await backend.commit(region, [(key, checked)], [plain]))
        elif name == "tidy" and self.tidy is not None:
            await self.tidy()
        return None


@settings(max_examples=times(60))
@given(OPERATIONS)
def test_disk_and_memory_agree(operations: list[tuple[Any, ...]]):
    asyncio.run(compare(operations))


async def compare(operations: list[tuple[Any, ...]]) -> None:
    clock = ManualClock()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cache.db"
        disk = DiskBackend(Disk(path=path), clock)
        encoding, memory = EncodingBackend(disk), MemoryBackend(clock)
        regions = {name: region_settings(name) for name in ("one", "two")}
        players = [Player(encoding, disk.tidy), Player(memory, None)]
        for player in players:
            player.backend.configure(regions)
            await player.backend.open()
        for operation in operations:
            if operation[0] == "advance":
                clock.advance(operation[1])
                continue
            answers = [await player.play(*operation) for player in players]
            assert answers[0] == answers[1], operation
        for player in players:
            await player.backend.aclose()
        check_file(path)
