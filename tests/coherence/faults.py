"""What goes wrong in a run: one function a fault, entered in `FAULTS` with where it makes sense.

A fault marks its own windows, and leaves servers and processes able to go on.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from tests.coherence.scene import Scene
from tests.redis.servers import MASTER, Server

__all__ = ["FAULTS", "TOPOLOGIES", "Fault", "faults_of"]

TOPOLOGIES = ("standalone", "ring", "sentinel", "cluster", "disk")
_ALONE = frozenset({"standalone", "ring"})
_REDIS = frozenset({"standalone", "ring", "sentinel", "cluster"})
_ALL = frozenset(TOPOLOGIES)
_REPLICATED = frozenset({"sentinel", "cluster"})

Play = Callable[[Scene, float], Awaitable[None]]


@dataclass(frozen=True)
class Fault:
    """``play`` makes it happen for about so many seconds. ``lossy``: entries may get lost;
    ``proxies``: it is made by proxies before the servers; ``fails_over``: another server takes
    charge; ``apart``: the processes log in as a user of their own. ``pool`` is laid over the
    settings of their connections.
    """

    name: str
    play: Play
    topologies: frozenset[str]
    lossy: bool = False
    proxies: bool = False
    fails_over: bool = False
    apart: bool = False
    pool: dict[str, Any] = field(default_factory=dict)


async def none(_: Scene, seconds: float) -> None:
    await asyncio.sleep(seconds)


# -- clients


async def client_stop(scene: Scene, seconds: float) -> None:
    """A process stands still for longer than the bound, and goes on with a read."""
    process = scene.chance.choice(scene.processes)
    async with scene.window("client-stop"):
        process.freeze()
        await asyncio.sleep(max(seconds * 0.6, 1.3 * scene.bound))
        process.thaw()
        await asyncio.sleep(seconds * 0.4)


async def client_flicker(scene: Scene, seconds: float) -> None:
    """Processes stand still for moments, at any point of their work."""
    async with scene.window("client-flicker"):
        end = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < end:
            process = scene.chance.choice(scene.processes)
            process.freeze()
            await asyncio.sleep(scene.chance.uniform(0.005, 0.15))
            process.thaw()
            await asyncio.sleep(scene.chance.uniform(0.01, 0.1))


async def client_busy(scene: Scene, seconds: float) -> None:
    """A process reads for longer than the bound without a turn of its event loop."""
    async with scene.window("client-busy"):
        process = scene.chance.choice(scene.processes)
        process.say(f"hog {max(seconds * 0.7, 1.5 * scene.bound):.2f}")
        await asyncio.sleep(max(seconds, 1.6 * scene.bound))


async def client_kill(scene: Scene, seconds: float) -> None:
    """A process is killed and another takes its place."""
    async with scene.window("client-kill"):
        await scene.replace(scene.chance.choice(scene.processes))
        await asyncio.sleep(seconds)


# -- servers


async def _primary(scene: Scene) -> Server:
    """A server that takes writes."""
    return scene.chance.choice(await _with_role(scene, "master"))


async def _each(scene: Scene, *words: str) -> None:
    """Send a command to all servers."""
    for server in scene.servers:
        with suppress(OSError):
            await asyncio.to_thread(server.ask, *words)


async def server_stop(scene: Scene, seconds: float) -> None:
    async with scene.window("server-stop"):
        server = await _primary(scene)
        server.freeze()
        await asyncio.sleep(seconds)
        server.thaw()
        await asyncio.sleep(0.5)


async def server_sleep(scene: Scene, seconds: float) -> None:
    """It answers nobody, and then everybody at once."""
    async with scene.window("server-sleep"):
        server = await _primary(scene)
        with suppress(TimeoutError):
            await asyncio.to_thread(server.ask, "DEBUG", "SLEEP", f"{seconds:.2f}", timeout=0.5)
        await asyncio.sleep(seconds)


async def server_restart(scene: Scene, seconds: float) -> None:
    """Killed, and back without its data."""
    async with scene.window("server-restart"):
        server = await _primary(scene)
        server.kill()
        await asyncio.sleep(seconds * 0.5)
        await asyncio.to_thread(server.start)
        await asyncio.sleep(seconds * 0.5)


async def connections_kill(scene: Scene, seconds: float) -> None:
    async with scene.window("connections-kill"):
        for _ in range(round(seconds / 0.2)):
            await _each(scene, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await asyncio.sleep(scene.chance.uniform(0.1, 0.3))


async def client_pause(scene: Scene, seconds: float) -> None:
    async with scene.window("client-pause"):
        await _each(scene, "CLIENT", "PAUSE", str(round(seconds * 500)), "ALL")
        await asyncio.sleep(seconds)


async def flush(scene: Scene, seconds: float) -> None:
    async with scene.window("flushall"):
        for _ in range(round(seconds / 0.1)):
            await _each(scene, "FLUSHALL")
            await asyncio.sleep(scene.chance.uniform(0.02, 0.18))


async def eviction(scene: Scene, seconds: float) -> None:
    """Servers that are full, and throw out something for each thing that comes in."""
    async with scene.window("eviction"):
        for server in scene.servers:
            used = int((await scene.info(server, "memory"))["used_memory"])
            await asyncio.to_thread(server.cli, "CONFIG", "SET", "maxmemory", str(used + 20_000))
            await asyncio.to_thread(
                server.cli, "CONFIG", "SET", "maxmemory-policy", "allkeys-random"
            )
        junk, end = 0, asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < end:
            junk += 1
            await _each(scene, "SET", f"junk:{junk % 40}", "x" * scene.chance.randint(1, 2000))
            await asyncio.sleep(0.01)
        for server in scene.servers:
            await asyncio.to_thread(server.cli, "CONFIG", "SET", "maxmemory", "0")


# -- networks


async def slow_links(scene: Scene, seconds: float) -> None:
    async with scene.window("slow-links"):
        for proxy in scene.proxies.values():
            proxy.delay = 0.03
        await asyncio.sleep(seconds)
        for proxy in scene.proxies.values():
            proxy.delay = 0.0
        await asyncio.sleep(0.3)


async def resets(scene: Scene, seconds: float) -> None:
    async with scene.window("resets"):
        for _ in range(round(seconds / 0.2)):
            scene.chance.choice(list(scene.proxies.values())).reset()
            await asyncio.sleep(scene.chance.uniform(0.1, 0.3))


def _silent(name: str, *, deaf: bool, mute: bool) -> Play:
    """The link of one process swallows what goes up, comes down, or both; nothing is closed. In a
    ring it is the link of all processes to one server.
    """

    async def play(scene: Scene, seconds: float) -> None:
        links = [scene.chance.choice(list(scene.proxies.values()))]
        async with scene.window(name):
            for proxy in links:
                proxy.deaf, proxy.mute = deaf, mute
            await asyncio.sleep(seconds)
            for proxy in links:
                proxy.reset()  # what was swallowed never comes
                proxy.deaf = proxy.mute = False
            await asyncio.sleep(0.5)

    return play


async def held_back(scene: Scene, seconds: float) -> None:
    """What was sent over the connections of a process is under way for longer than it waits for
    answers, and comes after what it sends over new ones.
    """
    proxy = scene.chance.choice(list(scene.proxies.values()))
    async with scene.window("held-back"):
        proxy.hold_open()
        await asyncio.sleep(seconds * 0.6)
        proxy.release()
        await asyncio.sleep(seconds * 0.4)


async def lag_then_mute(scene: Scene, seconds: float) -> None:
    """Answers come late, and then none come any more."""
    proxy = scene.chance.choice(list(scene.proxies.values()))
    async with scene.window("lag-then-mute"):
        proxy.lag = 0.45 * scene.bound  # a heartbeat is answered within a bound, but late
        await asyncio.sleep(2 * scene.bound)
        proxy.mute, proxy.lag = True, 0.0
        await asyncio.sleep(seconds)
        proxy.reset()
        proxy.mute = False
        await asyncio.sleep(0.5)


# -- failovers


async def _until_replaced(scene: Scene, old: Server) -> None:
    """Wait until there are as many primaries without ``old`` as there were with it."""
    wanted = 3 if scene.topology == "cluster" else 1

    async def replaced() -> bool:
        primaries = 0
        for server in scene.servers:
            if server is not old:
                with suppress(subprocess.SubprocessError):
                    primaries += await _is(scene, server, "master")
        return primaries >= wanted

    await scene.until(replaced)


async def _until(scene: Scene, server: Server, role: str) -> None:
    async def so() -> bool:
        return await _is(scene, server, role)

    await scene.until(so)


async def _is(scene: Scene, server: Server, role: str) -> bool:
    return (await scene.info(server, "replication"))["role"] == role


async def primary_kill(scene: Scene, seconds: float) -> None:
    async with scene.window("primary-kill", fails_over=True):
        old = await _primary(scene)
        old.kill()
        await _until_replaced(scene, old)
        await asyncio.sleep(0.5)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(old.start)


async def primary_stop(scene: Scene, seconds: float) -> None:
    """Frozen until another was promoted; then it wakes and believes that it is the primary."""
    async with scene.window("primary-stop", fails_over=True):
        old = await _primary(scene)
        old.freeze()
        try:
            await _until_replaced(scene, old)
        finally:
            old.thaw()
        await _until(scene, old, "slave")
    await asyncio.sleep(seconds)


async def host_stop(scene: Scene, seconds: float) -> None:
    """A primary and a process stand still together, as on one machine, until another was promoted;
    both wake at once.
    """
    process = scene.chance.choice(scene.processes)
    async with scene.window("host-stop", fails_over=True):
        old = await _primary(scene)
        process.freeze()
        old.freeze()
        try:
            await _until_replaced(scene, old)
            await asyncio.sleep(1.5 * scene.bound)  # there are new values to miss
        finally:
            old.thaw()
            process.thaw()
        await _until(scene, old, "slave")
    await asyncio.sleep(seconds)


async def primary_cut(scene: Scene, seconds: float) -> None:
    """The primary is cut off from its replicas and from the sentinels, but not from the clients,
    who are on the losing side: what they write there will be lost.

    Only the processes under test log in as a user of their own, so it is enough to turn the default
    user off for a while; no network has to be changed for it.
    """
    old = await _primary(scene)

    async def apart(*words: str) -> str:
        user = ("--user", scene.USER, "--pass", scene.USER, "--no-auth-warning")
        return await asyncio.to_thread(old.cli, *user, *words)

    async with scene.window("primary-cut", fails_over=True):
        await apart("ACL", "SETUSER", "default", "off")
        await apart("CLIENT", "KILL", "USER", "default")
        try:
            await _until_replaced(scene, old)
            await asyncio.sleep(seconds)
        finally:
            await apart("ACL", "SETUSER", "default", "on")
        await _until(scene, old, "slave")
    await asyncio.sleep(1.0)


async def failover(scene: Scene, seconds: float) -> None:
    """A planned one."""
    assert scene.deployment is not None
    async with scene.window("failover", fails_over=True):
        if scene.topology == "sentinel":
            old = await _primary(scene)
            command = ("SENTINEL", "FAILOVER", MASTER)
            await asyncio.to_thread(scene.deployment.sentinels[0].cli, *command)
            await _until_replaced(scene, old)
            await _until(scene, old, "slave")
        else:
            replica = scene.chance.choice(await _with_role(scene, "slave"))
            await asyncio.to_thread(replica.cli, "CLUSTER", "FAILOVER")
            await _until(scene, replica, "master")
            await asyncio.sleep(0.5)
    await asyncio.sleep(seconds)


async def slots_move(scene: Scene, seconds: float) -> None:
    """Slots go from one primary to another, with what is in them."""
    async with scene.window("slots-move"):
        source, target = await _two_primaries(scene)
        # all slots that hold something, a few at a time, as long as there is time
        end = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < end:
            words = ("--cluster-from", source[1], "--cluster-to", target[1])
            command = ["redis-cli", "--cluster", "reshard", f"127.0.0.1:{source[0].port}", *words]
            done = await asyncio.create_subprocess_exec(
                *command,
                *("--cluster-slots", "400", "--cluster-yes"),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
            await done.wait()
            source, target = target, source
            await asyncio.sleep(0.2)


async def slots_forced(scene: Scene, seconds: float) -> None:
    """A slot is taken by another primary, without what is in it; who had it pushes nothing."""
    async with scene.window("slots-forced"):
        end = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < end:
            (source, old), (target, new) = await _two_primaries(scene)
            key = await asyncio.to_thread(source.cli, "RANDOMKEY")
            slot = await asyncio.to_thread(source.cli, "CLUSTER", "KEYSLOT", key)
            for words in (("IMPORTING", old), ("NODE", new)):  # the second tells everybody
                await asyncio.to_thread(target.cli, "CLUSTER", "SETSLOT", slot, *words)
            await asyncio.sleep(scene.chance.uniform(0.1, 0.4))


async def _two_primaries(scene: Scene) -> tuple[tuple[Server, str], tuple[Server, str]]:
    one, two = scene.chance.sample(await _with_role(scene, "master"), 2)
    names = [await asyncio.to_thread(each.cli, "CLUSTER", "MYID") for each in (one, two)]
    return (one, names[0]), (two, names[1])


async def _with_role(scene: Scene, role: str) -> list[Server]:
    return [server for server in scene.servers if await _is(scene, server, role)]


FAULTS: dict[str, Fault] = {
    fault.name: fault
    for fault in (
        Fault("none", none, _ALL),
        Fault("client-stop", client_stop, _ALL),
        Fault("client-flicker", client_flicker, _ALL),
        Fault("client-busy", client_busy, _ALL),
        Fault("client-kill", client_kill, _ALL),
        Fault("server-stop", server_stop, _ALONE),
        Fault("server-sleep", server_sleep, _ALONE),
        Fault("server-restart", server_restart, _ALONE, lossy=True),
        Fault("connections-kill", connections_kill, _REDIS),
        Fault("client-pause", client_pause, _REDIS),
        Fault("flushall", flush, _REDIS, lossy=True),
        Fault("eviction", eviction, _REDIS, lossy=True),
        Fault("slow-links", slow_links, _ALONE, proxies=True),
        Fault("resets", resets, _ALONE, proxies=True),
        Fault("deaf", _silent("deaf", deaf=True, mute=False), _ALONE, proxies=True),
        Fault("mute", _silent("mute", deaf=False, mute=True), _ALONE, proxies=True),
        Fault("held-back", held_back, _ALONE, proxies=True),
        Fault("lag-then-mute", lag_then_mute, _ALONE, proxies=True, pool={"timeout": 2.0}),
        Fault("black-hole", _silent("black-hole", deaf=True, mute=True), _ALONE, proxies=True),
        Fault("primary-kill", primary_kill, _REPLICATED, fails_over=True),
        Fault("primary-stop", primary_stop, _REPLICATED, fails_over=True),
        Fault("host-stop", host_stop, _REPLICATED, fails_over=True),
        Fault("primary-cut", primary_cut, frozenset({"sentinel"}), fails_over=True, apart=True),
        Fault("failover", failover, _REPLICATED, fails_over=True),
        Fault("slots-move", slots_move, frozenset({"cluster"})),
        Fault("slots-forced", slots_forced, frozenset({"cluster"}), lossy=True),
    )
}


def faults_of(topology: str) -> list[Fault]:
    """The faults that make sense there."""
    return [fault for fault in FAULTS.values() if topology in fault.topologies]
