"""Two backends on the same servers, as two processes have them: claims, faults, replication."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.builds import needs_pure
from tests.redis.backends import flush, opened
from tests.redis.servers import Deployment, Server, wait_until

from clusterdb.cache.claims import Claim
from clusterdb.cache.config import (
    CacheCoherence,
    Consistent,
    PartitioningConfig,
    ReplicationConfig,
)
from clusterdb.cache.errors import (
    BackendUnavailable,
    CrossSlotError,
    Degraded,
    NotSupportedOnRing,
)
from clusterdb.cache.protocols import Add, Backend, Drop, Put, Written
from clusterdb.cache.transport import Connection, slot_of
from clusterdb.cache.types import MISSING, Record


@pytest.fixture
async def pair(standalone):
    """Two backends that know nothing of each other but the server."""
    flush(standalone)
    async with opened(standalone) as one, opened(standalone) as other:
        yield one, other


async def value(backend: Backend, key: str, *, stale: bool = False) -> object:
    [record] = await backend.read("main", [key], stale=stale)
    return MISSING if record is None else record.value


async def ask(backend: Backend, key: str, *tags: str, lease: float = 30.0):
    [answer] = await backend.claim("main", [key], tags, lease)
    return answer


async def claim(backend: Backend, key: str, *tags: str, lease: float = 30.0) -> Claim:
    answer = await ask(backend, key, *tags, lease=lease)
    assert isinstance(answer, Claim), answer
    return answer


async def fill(backend: Backend, held: Claim, stored: object) -> bool:
    [outcome] = await backend.fill("main", [(held, Put(held.key, stored))])
    assert isinstance(outcome, Written), outcome
    return outcome.applied


async def claimed_by(backend: Backend, key: str, within: float, lease: float = 30.0) -> Claim:
    async with asyncio.timeout(within):
        while True:
            answer = await ask(backend, key, lease=lease)
            if isinstance(answer, Claim):
                return answer
            await asyncio.sleep(0.01)


class TestClaims:
    async def test_of_two_processes_one_loads(self, pair):
        one, other = pair
        askers = pair * 20
        answers = await asyncio.gather(*[ask(each, "k") for each in askers])
        given = [(o, a) for o, a in zip(askers, answers, strict=True) if isinstance(a, Claim)]
        [(owner, held)] = given
        assert await fill(owner, held, "v")
        assert await value(other, "k") == await value(one, "k") == "v"

    @pytest.mark.parametrize("change", ["put", "drop", "tag", "clear", "late tag"])
    async def test_what_another_process_does_ends_a_claim(self, pair, change):
        one, other = pair
        held = await claim(one, "k", "t")
        if change == "put":
            await other.write("main", [Put("k", "written")])
        elif change == "drop":
            await other.write("main", [Drop("k")])
        elif change == "tag":
            await other.invalidate_tags(["t"])
        elif change == "clear":
            await other.clear(["main"])
        else:
            await one.extend("main", [held], ("late",))
            await other.invalidate_tags(["late"])
        assert not await fill(one, held, "too late")
        assert await value(other, "k") == ("written" if change == "put" else MISSING)

    async def test_an_entry_whose_tag_has_ended_is_no_answer_while_another_loads(self, pair):
        one, other = pair
        assert await fill(one, await claim(one, "k", "t"), "old")
        await other.invalidate_tags(["t"])
        nonces = one._backend._nonces
        alive, rivals = nonces.alive, list[Claim]()

        async def judged(*args, **options):
            """The other one takes the claim while this one finds out that the entry is dead."""
            found = await alive(*args, **options)
            if not rivals:
                rivals.append(await claim(other, "k", "t"))
            return found

        nonces.alive = judged
        assert await ask(one, "k", "t") is None

    async def test_a_holder_that_lives_is_renewed(self, pair):
        one, other = pair
        held = await claim(one, "k", lease=0.3)
        for _ in range(10):
            await asyncio.sleep(0.1)
            assert await ask(other, "k") is None
        assert await fill(one, held, "v")

    async def test_renewals_keep_what_is_stale(self, standalone):
        flush(standalone)
        async with opened(standalone, grace=60) as one, opened(standalone, grace=60) as other:
            await one.write("main", [Put("k", "old", 0.02)])
            await asyncio.sleep(0.05)
            held = await claim(one, "k", lease=0.3)
            await asyncio.sleep(0.7)
            assert await value(other, "k", stale=True) == "old"
            assert await value(other, "k") is MISSING
            assert await ask(other, "k") is None
            assert await fill(one, held, "new")
            assert await value(other, "k") == "new"

    async def test_a_claim_over_a_stale_value_lapses_with_its_lease(self, standalone):
        """Not with the value, which stays for stale reads, for the next holder too."""
        flush(standalone)
        async with opened(standalone, grace=60) as one, opened(standalone, grace=60) as other:
            await one.write("main", [Put("k", "old", 0.02)])
            await asyncio.sleep(0.05)
            dead = await claim(one, "k", lease=0.3)
            await one.aclose()
            held = await claimed_by(other, "k", 2)
            assert await value(other, "k", stale=True) == "old"
            await one.open()
            assert not await fill(one, dead, "too late")
            assert await fill(other, held, "new")

    async def test_many_short_claims_leave_no_task_behind(self, pair):
        one, _ = pair
        for number in range(50):
            assert await fill(one, await claim(one, f"k{number}", lease=0.05), number)
        await asyncio.sleep(0.2)
        names = [task.get_name() for task in asyncio.all_tasks()]
        assert "clusterdb-cache: claims" not in names

    async def test_a_claim_cut_short_is_given_back(self, pair):
        one, other = pair
        for steps in range(8):
            task = asyncio.ensure_future(ask(one, "k", "t"))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled() and isinstance(task.result(), Claim):
                await one.release("main", [task.result()])
            held = await claimed_by(other, "k", 2)
            await other.release("main", [held])

    async def test_flushall_in_the_middle(self, pair, standalone):
        one, other = pair
        await one.write("main", [Put("tagged", 1, None, ("t",))])
        held, tagged = await claim(one, "k", lease=0.3), await claim(one, "l", "t")
        flush(standalone)
        await asyncio.sleep(0.2)  # a renewal finds out
        assert not await fill(one, held, "too late")
        assert not await fill(one, tagged, "too late")
        assert [await value(other, key) for key in ("k", "l", "tagged")] == [MISSING] * 3
        await one.write("main", [Put("tagged", 2, None, ("t",))])
        assert await value(other, "tagged") == 2


HOLDER = """
import asyncio, sys
from tests.redis.backends import opened
from tests.redis.servers import Deployment

async def hold():
    async with opened(Deployment("standalone", [sys.argv[1]], [])) as backend:
        [answer] = await backend.claim("main", ["k"], (), float(sys.argv[2]))
        print(type(answer).__name__, flush=True)
        await asyncio.sleep(600)

asyncio.run(hold())
"""


async def test_a_holder_that_is_killed_makes_room_after_its_lease(pair, standalone):
    one, _ = pair
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", HOLDER, standalone.urls[0], "0.5"]
    with subprocess.Popen(  # noqa: ASYNC220 - it starts at once
        command, stdout=subprocess.PIPE, text=True, cwd=root
    ) as holder:
        assert holder.stdout is not None
        try:
            said = await asyncio.to_thread(holder.stdout.readline)
            assert said == "Claim\n"
            await asyncio.sleep(0.8)
            assert await ask(one, "k") is None, "it was not renewed"
        finally:
            holder.send_signal(signal.SIGKILL)
    held = await claimed_by(one, "k", 2)
    assert await fill(one, held, "v")


async def test_a_server_that_was_killed_and_comes_back_empty(server: Server):
    deployment = Deployment("standalone", [f"redis://127.0.0.1:{server.port}"], [server])
    async with opened(deployment, timeout=0.5) as backend:
        await backend.write("main", [Put("k", 1)])
        held = await claim(backend, "loading")
        server.kill()
        for call in (
            backend.read("main", ["k"]),
            backend.write("main", [Put("k", 2)]),
            backend.claim("main", ["other"], (), 30),
            backend.invalidate_tags(["t"]),
            backend.describe(),
        ):
            with pytest.raises(BackendUnavailable):
                await call
        server.start()
        async with asyncio.timeout(5):
            while True:
                try:
                    assert await value(backend, "k") is MISSING
                    break
                except BackendUnavailable:
                    await asyncio.sleep(0.02)
        assert not await fill(backend, held, "too late")
        assert await fill(backend, await claim(backend, "loading"), "v")


class TestCluster:
    @pytest.fixture
    async def backend(self, cluster):
        flush(cluster)
        async with opened(cluster) as backend:
            yield backend

    async def test_keys_of_several_slots_can_not_be_committed(self, backend):
        await backend.write("main", [Put("a", 1), Put("b", 1)])
        with pytest.raises(CrossSlotError, match="'a', 'b' are in different slots") as caught:
            await backend.commit("main", [("a", None)], [Put("b", 2)])
        assert caught.value.keys == ("a", "b")
        assert [await value(backend, key) for key in "ab"] == [1, 1]
        assert await backend.commit("main", [("{t}a", None)], [Put("{t}b", 2)])

    @needs_pure
    async def test_a_call_is_one_round_trip_a_server(self, backend, monkeypatch):
        keys = [f"k{n}" for n in range(300)]
        await backend.write("main", [Put(key, key) for key in keys])
        sent: list[Connection] = []
        calls = Connection.calls

        def counted(self: Connection, commands: Any, *arguments: Any, **options: Any) -> Any:
            if commands[0][0] == "GET":  # and no heartbeat of the near tier
                sent.append(self)
            return calls(self, commands, *arguments, **options)

        monkeypatch.setattr(Connection, "calls", counted)
        records = await backend.read("main", keys)
        assert [record.value for record in records] == keys
        assert len(sent) == len(set(sent)) == 3

    async def test_scripts_that_no_server_knows(self, backend, cluster):
        for server in cluster.servers:
            server.ask("SCRIPT", "FLUSH")
        keys = [f"k{n}" for n in range(100)]
        outcomes = await backend.write("main", [Add(key, 1, 0, None) for key in keys])
        assert [outcome.total for outcome in outcomes] == [1] * 100

    async def test_figures_of_every_primary(self, backend):
        info = await backend.describe()
        assert len(info.servers) == 3
        assert {server.role for server in info.servers} == {"master"}
        assert all(server.replicas == 1 and server.lag is not None for server in info.servers)

    async def test_a_slot_that_moves_under_load(self, backend, cluster):
        """Sums, claims and tags go on; nothing is lost, done twice or left claimed."""
        slot = slot_of(b"test:main:{moving}")
        sums: list[int] = []
        stored: dict[str, int] = {}
        stop = asyncio.Event()

        async def add() -> None:
            while not stop.is_set():
                [written] = await backend.write("main", [Add("{moving}n", 1, 0, None)])
                assert isinstance(written, Written), written
                sums.append(written.total)

        async def load(number: int) -> None:
            at = 0
            while not stop.is_set():
                key = f"{{moving}}{number}-{at}"
                held = await claim(backend, key, "t")
                await asyncio.sleep(0.002)
                assert await fill(backend, held, at)
                stored[key] = at
                at += 1

        tasks = [asyncio.create_task(add()) for _ in range(5)]
        tasks += [asyncio.create_task(load(number)) for number in range(5)]
        await asyncio.sleep(0.2)
        source, target = await asyncio.to_thread(move, cluster, slot)
        assert source.port != target.port
        await asyncio.sleep(0.2)
        stop.set()
        await asyncio.gather(*tasks)

        assert sorted(sums) == list(range(1, len(sums) + 1))
        assert len(stored) > 50
        records = await backend.read("main", list(stored))
        assert [record and record.value for record in records] == list(stored.values())
        found = [key async for batch in backend.scan("main", "*", 100) for key in batch]
        assert sorted(found) == sorted([*stored, "{moving}n"])
        assert await backend.clear(["main"]) == len(found)

    async def test_a_scan_while_a_slot_moves(self, backend, cluster):
        keys = [f"{{moving}}{n}" for n in range(400)] + [f"k{n}" for n in range(400)]
        await backend.write("main", [Put(key, 1) for key in keys])
        found: list[str] = []
        moving: asyncio.Task | None = None
        async for batch in backend.scan("main", "*", 10):
            found += batch
            if moving is None:
                slot = slot_of(b"test:main:{moving}")
                moving = asyncio.create_task(asyncio.to_thread(move, cluster, slot))
            await asyncio.sleep(0.005)
        assert moving is not None
        await moving
        assert sorted(found) == sorted(keys)


def move(cluster: Deployment, slot: int) -> tuple[Server, Server]:
    """Move a slot with its keys to another primary, as `redis-cli --cluster reshard` does it."""
    primaries = {
        each.cli("CLUSTER", "MYID"): each
        for each in cluster.servers
        if each.info("replication")["role"] == "master"
    }
    [source_id] = [
        identity
        for identity, each in primaries.items()
        if not each.cli("CLUSTER", "COUNTKEYSINSLOT", str(slot)).startswith("ERR")
        and owns(each, slot)
    ]
    source = primaries[source_id]
    target_id, target = next((i, each) for i, each in primaries.items() if i != source_id)
    target.cli("CLUSTER", "SETSLOT", str(slot), "IMPORTING", source_id)
    source.cli("CLUSTER", "SETSLOT", str(slot), "MIGRATING", target_id)
    while keys := source.cli("CLUSTER", "GETKEYSINSLOT", str(slot), "20").split("\n"):
        if keys == [""]:
            break
        source.cli(*("MIGRATE", "127.0.0.1", str(target.port), "", "0", "5000", "KEYS"), *keys)
    for each in (target, source, *primaries.values()):
        each.cli("CLUSTER", "SETSLOT", str(slot), "NODE", target_id)
    return source, target


def owns(server: Server, slot: int) -> bool:
    line = next(line for line in server.cli("CLUSTER", "NODES").splitlines() if "myself" in line)
    ranges = [part for part in line.split()[8:] if not part.startswith("[")]
    bounds = [(int(low), int(high or low)) for low, _, high in (r.partition("-") for r in ranges)]
    return any(low <= slot <= high for low, high in bounds)


class TestReplication:
    @pytest.fixture
    def replicated(self):
        replication = ReplicationConfig(mode="synchronous", factor=3, consistency="all")
        return {"coherence": CacheCoherence(replication=replication), "timeout": 1.0}

    @pytest.fixture
    def servers(self, tmp_path):
        """A primary with two replicas."""
        primary = Server(tmp_path / "primary").start()
        follow = ["--replicaof", "127.0.0.1", str(primary.port)]
        replicas = [Server(tmp_path / f"replica{n}", follow).start() for n in range(2)]
        wait_until(lambda: all(map(follows, replicas)), "replicas that follow", 20)
        wait_until(lambda: primary.replicates(2), "replicas that take writes", 20)
        url = f"redis://127.0.0.1:{primary.port}"
        deployment = Deployment("standalone", [url], [primary, *replicas])
        yield deployment
        deployment.stop()

    async def test_writes_wait_for_replicas(self, servers, replicated):
        replicas = [each for each in servers.servers if each.info("replication")["role"] == "slave"]
        async with opened(servers, **replicated) as backend:
            for number in range(20):
                [outcome] = await backend.write("main", [Put(f"k{number}", number, None, ("t",))])
                assert isinstance(outcome, Written)
                seen = [each.ask("EXISTS", f"test:main:k{number}") for each in replicas]
                assert seen == [":1\r\n"] * 2
            await backend.invalidate_tags(["t"])
            nonces = {each.ask("DUMP", "test:#tag:t") for each in servers.servers}
            assert len(nonces) == 1
            many = [backend.write("main", [Put(f"k{n}", n)]) for n in range(200)]
            for [outcome] in await asyncio.gather(*many):
                assert isinstance(outcome, Written)

    async def test_too_few_replicas_are_told(self, servers, replicated):
        replicas = [each for each in servers.servers if each.info("replication")["role"] == "slave"]
        async with opened(servers, **replicated) as backend:
            await backend.write("main", [Put("k", 1, None, ("t",))])
            replicas[0].freeze()
            for call in (
                backend.write("main", [Put("k", 2)]),
                backend.write("main", [Drop("k")]),
                backend.invalidate_tags(["t"]),
            ):
                with pytest.raises(Degraded) as caught:
                    await call
                assert (caught.value.acknowledged, caught.value.wanted) == (2, 3)
            assert await value(backend, "k") is MISSING, "it was done all the same"
            replicas[0].thaw()
            await heals(backend)

    async def test_a_quorum_does_with_less(self, servers):
        replication = ReplicationConfig(mode="synchronous", factor=3)
        coherence = CacheCoherence(replication=replication)
        replicas = [each for each in servers.servers if each.info("replication")["role"] == "slave"]
        async with opened(servers, coherence=coherence, timeout=1.0) as backend:
            replicas[0].freeze()
            [outcome] = await backend.write("main", [Put("k", 2)])
            assert isinstance(outcome, Written)


async def heals(backend: Backend) -> None:
    """Writes are replicated again, by themselves."""
    async with asyncio.timeout(10):
        while True:
            try:
                await backend.write("main", [Put("k", 3)])
                return
            except Degraded:
                await asyncio.sleep(0.1)


def follows(server: Server) -> bool:
    replication = server.info("replication")
    return replication["role"] == "master" or replication["master_link_status"] == "up"


async def test_a_cluster_replicates(cluster):
    flush(cluster)
    replication = ReplicationConfig(mode="synchronous", factor=2, consistency="all")
    async with opened(cluster, coherence=CacheCoherence(replication=replication)) as backend:
        outcomes = await backend.write("main", [Put(f"k{n}", n) for n in range(50)])
        assert all(isinstance(outcome, Written) for outcome in outcomes)


async def test_sentinel_serves_as_one_server(sentinel):
    flush(sentinel)
    async with AsyncExitStack() as stack:
        one, other = [await stack.enter_async_context(opened(sentinel)) for _ in range(2)]
        await one.write("main", [Put("k", "v", 60, ("t",))])
        assert isinstance((await other.read("main", ["k"]))[0], Record)
        await other.invalidate_tags(["t"])
        assert await value(one, "k") is MISSING


class TestRingWithCopies:
    """Two copies of each key on servers that know nothing of each other."""

    @pytest.fixture
    async def backend(self, ring):
        flush(ring)
        partitioning = PartitioningConfig(strategy=Consistent(replicas=2))
        async with opened(ring, partitioning=partitioning, timeout=1.0) as backend:
            yield backend

    async def test_each_entry_is_on_two_servers(self, backend, ring):
        await backend.write("main", [Put(f"k{n}", n, 60, ("t",)) for n in range(50)])
        counts = [int(server.cli("DBSIZE")) for server in ring.servers]
        assert sum(counts) == 2 * 51
        assert all(counts)
        assert [await value(backend, f"k{n}") for n in range(50)] == list(range(50))
        await backend.invalidate_tags(["t"])
        assert await value(backend, "k7") is MISSING

    async def test_what_needs_one_server_that_decides_is_refused(self, backend):
        changes = [Put("a", 1), Put("b", 1, when="absent"), Add("c", 1, 0, None), Drop("a")]
        outcomes = await backend.write("main", changes)
        kinds = [type(outcome) for outcome in outcomes]
        assert kinds == [Written, NotSupportedOnRing, NotSupportedOnRing, Written]
        with pytest.raises(NotSupportedOnRing):
            await backend.commit("main", [], [Put("a", 1)])
        with pytest.raises(NotSupportedOnRing):
            await backend.read("main", ["a"], consistent=True)
        assert "atomic" not in backend.capabilities

    async def test_loads_go_on_whichever_scripts_are_known(self, backend, ring):
        for number in range(20):
            for server in ring.servers[:2]:
                server.ask("SCRIPT", "FLUSH")
            assert await fill(backend, await claim(backend, f"k{number}"), number)
        assert [await value(backend, f"k{n}") for n in range(20)] == list(range(20))
        outcomes = await backend.write("main", [Drop(f"k{n}") for n in range(20)])
        assert all(outcome.applied for outcome in outcomes)


FORKING = """
import asyncio, os, sys
from clusterdb.cache import Cache, CacheConfig
from clusterdb.cache.config import Redis

cache = Cache(CacheConfig(backend=Redis(urls=[sys.argv[1]])))

async def use(value):
    await cache.set(value, value)
    return await cache.get(value), await cache.get("parent")

async def parent():
    found = await use("parent")
    child = os.fork()
    if not child:
        return None
    status = await asyncio.to_thread(os.waitpid, child, 0)
    print("parent", found, await use("parent again"), status[1])
    await cache.aclose()

async def in_child():
    print("child", await use("child"), flush=True)
    await cache.aclose()

loop = asyncio.new_event_loop()
task = loop.create_task(parent())
pid = os.getpid()
task.add_done_callback(lambda _: loop.stop())
loop.run_forever()
if os.getpid() != pid:
    asyncio.events._set_running_loop(None)
    asyncio.run(in_child())
    os._exit(0)
loop.close()
"""


def test_a_forked_child_has_connections_of_its_own(standalone):
    flush(standalone)
    command = [sys.executable, "-W", "ignore::ResourceWarning", "-c", FORKING, standalone.urls[0]]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.stdout.splitlines() == [
        "child ('child', 'parent')",
        "parent ('parent', 'parent') ('parent again', 'parent') 0",
    ], done.stderr


async def test_a_user_without_dangerous_commands_over_tls_can_do_it_all(tls):
    async with opened(tls) as backend:
        await backend.write("main", [Put("k", 1, 60, ("t",)), Add("n", 1, 0, None)])
        assert await fill(backend, await claim(backend, "l", "t"), "v")
        assert await backend.commit("main", [("none", None)], [Put("c", 1)])
        found = [key async for batch in backend.scan("main", "*", 10) for key in batch]
        assert sorted(found) == ["c", "k", "l", "n"]
        await backend.invalidate_tags(["t"])
        assert await value(backend, "l") is MISSING
        assert await backend.clear(["main"]) == 4
        assert (await backend.describe()).problems == ()
