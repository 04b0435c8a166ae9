"""The scenarios of the load races: who meets whom, and with what kind of load.

Each is played with many seeds. Callers arrive while flights are under way, some of them are
cancelled, and at the end one more call has to see what was written last.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Literal

from clusterdb.cache import CacheClosed, LoadConfig, ReentrantLoad

from .history import Value
from .world import KEYS, Load, Scenario, World

__all__ = ["SCENARIOS", "WRITERS"]

Writer = Callable[[World, str], Awaitable[None]]


# -- the writers


async def invalidate(world: World, key: str) -> None:
    await world.write("invalidate", [key], lambda _: world.cache.invalidate(key))


async def delete(world: World, key: str) -> None:
    await world.write("delete", [key], lambda _: world.cache.delete(key))


async def store(world: World, key: str) -> None:
    await world.write("set", [key], lambda v: world.cache.set(key, Value(key, v), tags=("t",)))


async def invalidate_tag(world: World, _: str) -> None:
    await world.write("tag", KEYS, lambda _: world.cache.invalidate_tag("t"))


async def clear_region(world: World, _: str) -> None:
    region = world.cache.region("default")
    await world.write("clear", KEYS, lambda _: region.clear())


async def clear_cache(world: World, _: str) -> None:
    await world.write("clear", KEYS, lambda _: world.cache.clear())


async def touch(world: World, key: str) -> None:
    await world.touch(key)


async def increment(world: World, key: str) -> None:
    await world.write(
        "increment", [key], lambda v: world.cache.increment(key, 1, initial=v - 1, ttl=None)
    )


def _other(key: str) -> str:
    return "c" if key == "b" else "b"


async def commit(world: World, key: str) -> None:
    def call(version: int) -> Awaitable[bool]:
        change = world.cache.atomic().set(key, Value(key, version), tags=("t",))
        return change.delete(_other(key)).execute()

    await world.write("commit", [key, _other(key)], call)


async def batch(world: World, key: str) -> None:
    def call(version: int) -> Awaitable[list[bool]]:
        change = world.cache.batch().set(key, Value(key, version), tags=("t",))
        return change.delete(_other(key)).execute()

    await world.write("batch", [key, _other(key)], call)


async def delete_many(world: World, key: str) -> None:
    await world.write(
        "delete_many", [key, _other(key)], lambda _: world.cache.delete_many([key, _other(key)])
    )


async def any_writer(world: World, key: str) -> None:
    await world.random.choice((invalidate, delete, store, invalidate_tag, clear_region, batch))(
        world, key
    )


WRITERS: dict[str, Writer] = {
    "invalidate": invalidate,
    "delete": delete,
    "set": store,
    "tag": invalidate_tag,
    "clear_region": clear_region,
    "clear_cache": clear_cache,
    "touch": touch,
    "commit": commit,
    "batch": batch,
    "delete_many": delete_many,
}


# -- who meets whom


async def race(world: World, writer: Writer, load: Load, keys: str = "a", writes: int = 2) -> None:
    """Callers of a key, writers of it, and some who lose patience."""

    async def calls(key: str) -> None:
        for _ in range(2):
            await world.load(key, load)
            await world.pause()

    async def writing() -> None:
        for _ in range(writes):
            await world.pause()
            await writer(world, "a")
            await world.get("a")

    actors = [world.soon(calls(key)) for key in keys * 2]
    actors.append(world.soon(world.cancelled(world.load("a", load))))
    actors.append(world.soon(writing()))
    await asyncio.gather(*actors)
    await world.load("a", load)
    await world.get("a")


async def overlapping(world: World, load: Load) -> None:
    """Calls of one key and of several, in parts the same."""
    actors = [
        world.soon(world.load_many(["a", "b"], load)),
        world.soon(world.load_many(["b", "a", "c"], load)),
        world.soon(world.load("b", load)),
        world.soon(world.cancelled(world.load_many(["a", "c"], load))),
        world.soon(any_writer(world, "b")),
        world.soon(any_writer(world, "a")),
        world.soon(world.load("a", load)),
    ]
    await asyncio.gather(*actors)
    await world.load_many(["a", "b", "c"], load)


async def found_meanwhile(world: World) -> None:
    """A load of two keys finds one of them stored, and goes on; then that one is invalidated."""
    slow = Load(takes=1.0)
    both = asyncio.create_task(world.load_many(["a", "b"], slow))
    await asyncio.sleep(0)
    await store(world, "a")
    await asyncio.sleep(0.1)
    await world.random.choice((invalidate, delete, clear_region))(world, "a")
    await asyncio.gather(both, world.load("a"))


async def moving(world: World) -> None:
    """The tag that a load learns depends on what it finds, and a change ends only the old one."""
    load = Load(learns_parity=True)

    async def end_tag(tag: str) -> None:
        await world.write("tag", ["a"], lambda _: world.cache.invalidate_tag(tag))

    async def move() -> None:
        for _ in range(3):
            await world.pause()
            tag = f"p{world.origin.read('a').version % 2}"
            await end_tag(tag)

    async def calls() -> None:
        for _ in range(3):
            await world.load("a", load)
            await world.pause()

    await asyncio.gather(*[world.soon(actor) for actor in (calls(), calls(), move())])
    await world.get("a")
    await world.load("a", load)


async def all_cancelled(world: World) -> None:
    """Nobody is left: the loader is cancelled, nothing is stored, the next caller loads."""
    load = Load(takes=30.0)
    waiting = [world.soon(world.load("a", load)) for _ in range(3)]
    await asyncio.sleep(0.1)
    for waiter in waiting:
        await world.pause()
        waiter.cancel()
    await asyncio.wait(waiting)
    await asyncio.sleep(1.0)
    running = [call for call in world.history.of("call") if call.outcome != "cancelled"]
    world.found += [f"not cancelled: {call}" for call in running]
    await asyncio.sleep(20.0)
    await asyncio.sleep(20.0)
    if await world.cache.exists("a"):
        world.found.append("a load that nobody waited for was stored")
    await world.load("a")


async def impatient(world: World) -> None:
    """Callers come and leave; whoever stays gets a value, also from a key just given up."""
    load = Load(tags=("t",), takes=0.05)

    async def stay() -> None:
        for _ in range(world.random.randrange(3)):
            await world.pause()
        await world.load("a", load)

    leaving = [world.soon(world.cancelled(world.load("a", load))) for _ in range(2)]
    staying = [world.soon(stay()) for _ in range(3)]
    await asyncio.gather(*leaving, *staying, world.soon(any_writer(world, "a")))
    await world.load("a", load)


async def first_cancelled(world: World) -> None:
    """One caller leaves, the others get the value of the one call."""
    load = Load(takes=1.0)
    first = world.soon(world.load("a", load))
    await asyncio.sleep(0.1)
    others = [world.soon(world.load("a", load)) for _ in range(3)]
    await asyncio.sleep(0.5)
    first.cancel()
    await asyncio.gather(*others)
    calls = world.history.of("call")
    if len(calls) != 1 or calls[0].outcome != "ok":
        world.found.append(f"one caller left, and the loader ran so: {calls}")


async def hanging(world: World) -> None:
    """The loader never ends by itself: the hard deadline frees everybody."""
    load = Load(takes=1e6, stubborn=world.random.random() < 0.5, tags=("t",))

    async def call() -> None:
        try:
            await world.load("a", load)
        except TimeoutError:
            return
        world.found.append("a loader that hangs gave a value")

    await asyncio.gather(*[world.soon(call()) for _ in range(3)])
    await world.load("a", Load(tags=("t",)))
    await any_writer(world, "a")
    await world.load("a", Load(tags=("t",)))


async def soft(world: World) -> None:
    """Past the soft deadline callers get the expired value, if nobody has invalidated it, and the
    flight goes on and stores.
    """
    await world.load("a", Load(ttl=0.5, tags=("t",)))
    await asyncio.sleep(1.0)
    world.origin.bump("a")
    slow = Load(takes=3.0, tags=("t",))
    before = world.loop.time()
    await asyncio.gather(*[world.soon(world.load("a", slow)) for _ in range(2)])
    if world.loop.time() - before > 2.0:
        world.found.append("the soft deadline did not answer")
    if world.random.random() < 0.5:
        await any_writer(world, "a")
    await asyncio.gather(world.soon(world.load("a", slow)), world.soon(world.get("a")))
    await asyncio.sleep(5.0)
    if not await world.cache.exists("a"):
        world.found.append("the load that a soft deadline left alone stored nothing")


async def soft_race(world: World) -> None:
    """As a race, with expired entries about."""
    await world.load("a", Load(ttl=0.01, tags=("t",)))
    await race(world, any_writer, Load(ttl=0.01, tags=("t",), takes=0.02))


async def revalidating(world: World) -> None:
    """Expired values are given at once while one load renews them, unless they were removed."""
    await world.load("a", Load(ttl=0.5, tags=("t",)))
    await asyncio.sleep(0.6)
    world.origin.bump("a")
    slow = Load(takes=3.0, tags=("t",))
    before = world.loop.time()
    await asyncio.gather(*[world.soon(world.load("a", slow)) for _ in range(3)])
    if world.loop.time() - before > 1.0:
        world.found.append("an expired value was not given at once")
    if world.random.random() < 0.5:
        await any_writer(world, "a")
    await asyncio.gather(world.soon(world.load("a", slow)), world.soon(world.get("a")))
    await asyncio.sleep(5.0)
    if not await world.cache.exists("a"):
        world.found.append("what was loaded behind its callers was not stored")


async def joined_renewal(world: World) -> None:
    """Whoever comes past the window waits for the renewal, and may leave without ending it."""
    await world.load("a", Load(ttl=0.5, tags=("t",)))
    await asyncio.sleep(0.6)
    slow = Load(takes=3.0, tags=("t",))
    await world.load("a", slow)
    await asyncio.sleep(1.0)
    late = world.soon(world.load("a", slow))
    await asyncio.sleep(0.1)
    late.cancel()
    await asyncio.sleep(5.0)
    if not await world.cache.exists("a"):
        world.found.append("what was loaded behind its callers was not stored")


async def past_window(world: World) -> None:
    """A value that is kept for longer than it may be given is not given."""
    for what in (Load(), Load(fails=1.0)):
        await world.load("a", Load(ttl=0.5))
        await asyncio.sleep(2.0)
        version = world.origin.bump("a")
        await world.load("a", what)
        if world.history.of("read")[-1].version != version:
            world.found.append("a value was given past its window")
        await world.cache.delete("a")


async def expired_race(world: World, load: Load) -> None:
    """As a race, with expired entries about, and writers of these."""
    for _ in range(3):
        await world.load("a", Load(ttl=0.01, tags=("t",)))
        await asyncio.sleep(0.02)
        await race(world, any_writer, load, writes=1)
        await world.cache.delete("a")


async def renewed_inside(world: World) -> None:
    """A load is given an expired value, whose renewal needs what is being loaded: nobody waits in
    a ring.
    """
    await world.load("b", Load(ttl=0.01))
    await asyncio.sleep(0.02)
    version = world.origin.bump("b")

    async def outer() -> str:
        await world.cache.get_or_load("b", renewal)
        await world.pause()
        return "outer"

    async def renewal() -> Value:
        await world.cache.get_or_load("a", outer)
        return world.origin.read("b")

    await world.cache.get_or_load("a", outer)
    await asyncio.sleep(1.0)
    found = await world.cache.get("b")
    if found is None or found.version != version:
        world.found.append(f"the renewal was refused: {found} is there")


async def race_ahead(world: World, load: Load) -> None:
    """As a race, with live entries that each hit loads again."""
    for _ in range(3):
        await world.load("a", Load(ttl=30.0, tags=load.tags, takes=0.1))
        await race(world, any_writer, load, writes=1)
        await asyncio.sleep(0.05)


async def learnt_ahead(world: World) -> None:
    """What is loaded ahead needs a tag that the entry does not have, and that is invalidated."""
    await world.load("a", Load(ttl=30.0, takes=0.1))
    learns = Load(learns=("t",), takes=0.02, ttl=30.0)

    async def calls() -> None:
        for _ in range(3):
            await world.load("a", learns)
            await world.pause()

    async def end_tag() -> None:
        await asyncio.sleep(0.02)
        world.origin.bump("a")
        await world.pause()
        await world.cache.invalidate_tag("t")

    await asyncio.gather(world.soon(calls()), world.soon(end_tag()))
    await asyncio.sleep(0.1)
    found = await world.cache.lookup("a")
    if found and found.tags and found.value.version < world.origin.read("a").version:
        world.found.append(f"stored over the end of its tag: {found}")


async def nested(world: World) -> None:
    """Loaders that call for each other in a ring: some are refused, none hangs."""

    def loader(key: str, inner: str) -> Callable[[], Awaitable[int]]:
        async def load() -> int:
            await world.pause()
            try:
                await world.cache.get_or_load(inner, loader(inner, key))
            except ReentrantLoad:
                return 0
            return 1

        return load

    pairs = [("a", "b"), ("b", "a"), ("a", "b")]
    await asyncio.gather(*[world.soon(world.cache.get_or_load(k, loader(k, i))) for k, i in pairs])


async def closing(world: World, *, after: Literal["load", "start", "nothing"]) -> None:
    """The cache is closed while loads are under way and others arrive."""
    if after == "load":
        await world.load("c")
    elif after == "start":
        await world.cache.start()
    load = Load(takes=world.random.choice((0.0, 0.005, 5.0)), stubborn=world.random.random() < 0.3)
    actors = [world.soon(world.load(key, load)) for key in "aab"]
    actors.append(world.soon(world.load_many(["a", "b"], load)))
    await world.pause()
    await world.pause()
    before = world.loop.time()
    await world.cache.aclose()
    calls = len(world.history.of("call"))
    await asyncio.gather(*actors)
    if world.loop.time() - before > 2.0:
        world.found.append("loads went on after the close")
    try:
        await world.cache.get("a")
        world.found.append("a closed cache answered")
    except CacheClosed:
        pass
    if len(world.history.of("call")) > calls:
        world.found.append("a loader was called after the close")


async def failing_then_written(world: World) -> None:
    """A failure is remembered until a write ends it."""
    await world.load("a", Load(fails=1.0))
    await world.load("a", Load())
    failed = world.history.of("read")[-1]
    if failed.outcome != "failed":
        world.found.append("the negative window did not answer")
    await any_writer(world, "a")
    await world.load("a", Load())
    if world.history.of("read")[-1].outcome != "ok":
        world.found.append("the negative window outlived a write")


_SHORT = LoadConfig(hard_deadline="2s")
_SOFT = LoadConfig(soft_deadline="100ms", hard_deadline=None)
_REVALIDATE = LoadConfig(hard_deadline=None, stale_while_revalidate="1s")
_ON_ERROR = LoadConfig(hard_deadline=None, stale_if_error="1s")
_AHEAD = LoadConfig(hard_deadline=None, refresh_ahead=1000)
_NEGATIVE = LoadConfig(hard_deadline=None, negative_ttl="10s")


def _races() -> list[Scenario]:
    tagged = Load(tags=("t",))
    return [
        Scenario(name=f"race_{name}", play=partial(race, writer=writer, load=tagged))
        for name, writer in WRITERS.items()
    ]


SCENARIOS = {
    scenario.name: scenario
    for scenario in [
        *_races(),
        Scenario(
            name="race_increment",
            play=partial(race, writer=increment, load=Load(number=True)),
        ),
        Scenario(
            name="race_learnt_tag",
            play=partial(race, writer=invalidate_tag, load=Load(learns=("t",))),
            calls_a_load=2,
        ),
        Scenario(name="impatient", play=impatient),
        Scenario(name="moving", play=moving, counts_calls=False),
        Scenario(
            name="race_any",
            play=partial(race, writer=any_writer, load=Load(tags=("t",), skips=0.2), keys="ab"),
        ),
        Scenario(
            name="race_failing",
            play=partial(race, writer=any_writer, load=Load(tags=("t",), fails=0.5)),
        ),
        Scenario(
            name="race_stubborn",
            play=partial(race, writer=any_writer, load=Load(tags=("t",), stubborn=True)),
        ),
        Scenario(name="overlapping", play=partial(overlapping, load=Load(tags=("t",)))),
        Scenario(
            name="race_negative",
            play=partial(race, writer=any_writer, load=Load(tags=("t",), fails=0.4)),
            loads=_NEGATIVE,
        ),
        Scenario(name="failing_then_written", play=failing_then_written, loads=_NEGATIVE),
        Scenario(name="all_cancelled", play=all_cancelled),
        Scenario(name="first_cancelled", play=first_cancelled),
        Scenario(name="hanging", play=hanging, loads=_SHORT),
        Scenario(name="soft", play=soft, loads=_SOFT, grace=60.0, counts_calls=False),
        Scenario(
            name="soft_race",
            play=soft_race,
            loads=LoadConfig(soft_deadline="5ms", hard_deadline=None),
            grace=60.0,
            counts_calls=False,
        ),
        Scenario(
            name="revalidating",
            play=revalidating,
            loads=LoadConfig(hard_deadline=None, stale_while_revalidate="10s"),
        ),
        Scenario(name="joined_renewal", play=joined_renewal, loads=_REVALIDATE),
        Scenario(
            name="past_window",
            play=past_window,
            loads=LoadConfig(stale_while_revalidate="1s", stale_if_error="1s"),
            grace=60.0,
            counts_calls=False,
        ),
        Scenario(
            name="race_revalidating",
            play=partial(expired_race, load=Load(ttl=0.01, tags=("t",), takes=0.02)),
            loads=_REVALIDATE,
            counts_calls=False,
        ),
        Scenario(
            name="race_failing_expired",
            play=partial(expired_race, load=Load(ttl=0.01, tags=("t",), fails=0.5)),
            loads=_ON_ERROR,
            counts_calls=False,
        ),
        Scenario(name="renewed_inside", play=renewed_inside, loads=_REVALIDATE),
        Scenario(
            name="race_ahead",
            play=partial(race_ahead, load=Load(ttl=30.0, tags=("t",))),
            loads=_AHEAD,
            counts_calls=False,
        ),
        Scenario(name="learnt_ahead", play=learnt_ahead, loads=_AHEAD, counts_calls=False),
        Scenario(name="nested", play=nested),
        *[
            Scenario(
                name=f"closing_after_{after}",
                play=partial(closing, after=after),
                counts_calls=False,
            )
            for after in ("load", "start", "nothing")
        ],
        Scenario(name="found_meanwhile", play=found_meanwhile),
    ]
}
