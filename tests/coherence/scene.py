"""What a run plays on: servers or a file, proxies before them, worker processes, and the windows of
its faults.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path
from time import monotonic_ns
from typing import Any

import msgspec
from tests.coherence.failpoints import DELAYS
from tests.coherence.history import Call, finished, read_file
from tests.coherence.judge import Window
from tests.coherence.orders import Orders, Rates
from tests.coherence.subjects import backend_settings
from tests.coherence.worker import Origin
from tests.redis.proxy import FaultProxy
from tests.redis.servers import Deployment, Server, start

__all__ = ["ROOT", "Process", "Scene"]

ROOT = Path(__file__).resolve().parents[2]
_ANSWERS_WITHIN = 40.0
_AROUND = 3_000_000_000  # nanoseconds: a promotion is soon told to everybody
_PROMOTED = re.compile(
    r"^\S+ (\d+ \w+ \d+ [\d:.]+) . (?:MASTER MODE enabled|Failover election won)", re.MULTILINE
)


class Process:
    """One worker."""

    def __init__(self, orders: Orders, child: asyncio.subprocess.Process) -> None:
        self.orders = orders
        self._child = child

    @classmethod
    async def start(cls, orders: Orders, place: Path) -> Process:
        path = place / f"orders-{orders.process}.json"
        orders.write(path)
        environment = dict(os.environ)
        if orders.mutant:  # they patch the sources: the compiled package is not before them
            environment.pop("PYTHONPATH", None)
        with (place / f"errors-{orders.process}").open("wb") as errors:
            child = await asyncio.create_subprocess_exec(
                *("setpriv", "--pdeathsig", "KILL"),
                *(sys.executable, "-m", "tests.coherence.worker", str(path)),
                cwd=ROOT,
                env=environment,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
            )
        return cls(orders, child)

    @property
    def alive(self) -> bool:
        return self._child.returncode is None

    def say(self, word: str) -> None:
        assert self._child.stdin is not None
        self._child.stdin.write(f"{word}\n".encode())

    async def hear(self, word: str) -> None:
        """Wait for its answer. Raises RuntimeError, with what it wrote, where it ends or hangs."""
        assert self._child.stdout is not None
        try:
            async with asyncio.timeout(_ANSWERS_WITHIN):
                heard = (await self._child.stdout.readline()).decode().strip()
        except TimeoutError:
            heard = "nothing"
        if heard != word:
            errors = Path(self.orders.history).parent / f"errors-{self.orders.process}"
            text = errors.read_text(errors="replace")[-3000:]
            number = self.orders.process
            raise RuntimeError(f"process {number} said {heard!r} and not {word!r}\n{text}")

    def freeze(self) -> None:
        os.kill(self._child.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self._child.pid, signal.SIGCONT)

    async def kill(self) -> None:
        if self.alive:
            self._child.kill()
        await self._child.wait()

    async def end(self) -> None:
        """Let it close its cache and end."""
        if self.alive and self._child.stdin is not None:
            self._child.stdin.close()
            try:
                await asyncio.wait_for(self._child.wait(), 15)
            except TimeoutError:
                await self.kill()


class Scene:
    """All of one run; `open` makes it. ``chance`` is seeded: the same seed, the same faults.

    ``apart``: the processes log in as `USER`, while servers and sentinels use the default user.
    """

    USER = "apart"

    def __init__(
        self,
        place: Path,
        topology: str,
        *,
        seed: int,
        bound: float = 1.0,
        processes: int = 3,
        subject: str = "ours",
        mutant: str = "",
        rates: dict[str, float] | None = None,
        layout: dict[str, int] | None = None,
        through_proxies: bool = False,
        apart: bool = False,
        settings: dict[str, Any] | None = None,
        pool: dict[str, Any] | None = None,
    ) -> None:
        self.place, self.topology, self.seed, self.bound = place, topology, seed, bound
        self.subject, self.mutant = subject, mutant
        self.rates = msgspec.convert(rates or {}, Rates)
        self.layout = layout or {}
        self.settings, self.pool = settings or {}, pool or {}
        self.through_proxies, self.apart = through_proxies, apart
        self.count = processes
        self.chance = random.Random(seed)
        self.windows: list[Window] = []
        self.processes: list[Process] = []
        self.started: list[Orders] = []
        self.proxies: dict[tuple[int, int], FaultProxy] = {}
        self.deployment: Deployment | None = None
        self._began = 0
        self._stack = AsyncExitStack()

    @classmethod
    @asynccontextmanager
    async def open(cls, place: Path, topology: str, **options: Any) -> AsyncIterator[Scene]:
        """Servers up and processes ready; all of it ends with the context."""
        place.mkdir(parents=True, exist_ok=True)
        scene = cls(place, topology, **options)
        async with scene._stack:
            await scene._start()
            yield scene

    @property
    def servers(self) -> list[Server]:
        return [] if self.deployment is None else self.deployment.servers

    async def _start(self) -> None:
        if self.topology != "disk":
            kind = "standalone" if self.topology == "replica" else self.topology
            self.deployment = await asyncio.to_thread(start, kind, self.place / "servers")
            self._stack.callback(self.deployment.stop)
        if self.topology == "replica":
            await self._add_replica()
        for server in self.servers if self.apart else ():
            user = ("ACL", "SETUSER", self.USER, "on", f">{self.USER}", "~*", "&*", "+@all")
            await asyncio.to_thread(server.cli, *user)
        Origin.make(self.place / "origin")
        for slot in range(self.count):
            await self.add_process(slot)
        for process in self.processes:
            await process.hear("ready")
        self._began = monotonic_ns()

    async def _add_replica(self) -> None:
        """A replica that follows through a proxy which holds its news back."""
        [primary] = self.servers
        proxy = await self._stack.enter_async_context(FaultProxy(primary.port))
        self.proxies[0, 0] = proxy
        replica = Server(self.place / "replica", ["--replicaof", "127.0.0.1", str(proxy.port)])
        await asyncio.to_thread(replica.start)
        self._stack.callback(replica.kill)

        async def follows() -> bool:
            return "up" in (await self.info(replica, "replication"))["master_link_status"]

        await self.until(follows)
        proxy.delay = 0.01
        self.settings = {"port": primary.port, "replica": replica.port}

    async def until(self, true: Callable[[], Awaitable[bool]], within: float = 20.0) -> None:
        """Wait until something is so."""
        async with asyncio.timeout(within):
            while True:
                if await true():
                    return
                await asyncio.sleep(0.05)

    async def info(self, server: Server, section: str) -> dict[str, str]:
        return await asyncio.to_thread(server.info, section)

    async def add_process(self, slot: int) -> Process:
        """Start a worker in a slot. It is not `ready` yet."""
        number = len(self.started)
        orders = Orders(
            subject=self.subject,
            settings=await self._settings_of(slot),
            slot=slot,
            process=number,
            processes=self.count,
            seed=self.seed,
            history=str(self.place / f"calls-{number}"),
            origin=str(self.place / "origin"),
            bound=self.bound,
            rates=self.rates,
            layout=self.layout,
            mutant=self.mutant,
            delays=DELAYS,
        )
        process = await Process.start(orders, self.place)
        self.started.append(orders)
        self.processes.append(process)
        self._stack.push_async_callback(process.kill)
        return process

    async def _settings_of(self, slot: int) -> dict[str, Any]:
        if self.subject != "ours":
            [server] = self.servers
            return {"port": server.port} | self.settings
        if self.deployment is None:
            return backend_settings("disk", [str(self.place / "cache.db")], self.bound)
        urls = self.deployment.urls
        if self.through_proxies:
            urls = [await self._proxied(slot, at) for at in range(len(self.servers))]
        settings = backend_settings(self.topology, urls, self.bound, **self.pool)
        if self.apart:
            settings["backend"] |= {"username": self.USER, "password": self.USER}
        return settings | self.settings

    async def _proxied(self, slot: int, server: int) -> str:
        if self.topology == "ring":  # addresses say where a key is: they are the same for all
            slot = 0
        if (slot, server) not in self.proxies:
            proxy = FaultProxy(self.servers[server].port)
            self.proxies[slot, server] = await self._stack.enter_async_context(proxy)
        return self.proxies[slot, server].url

    @asynccontextmanager
    async def window(self, fault: str, *, fails_over: bool = False) -> AsyncIterator[None]:
        """The time of a fault."""
        start = monotonic_ns()
        try:
            yield
        finally:
            self.windows.append(Window(fault, start, monotonic_ns(), fails_over))

    def find_failovers(self) -> None:
        """Note those that no fault made: on a machine that is busy a server seems to be away."""
        now, clock = datetime.now().astimezone(), monotonic_ns()
        for server in self.servers:
            text = (server.directory / "log").read_text(errors="replace")
            for found in _PROMOTED.finditer(text):
                then = datetime.strptime(found[1], "%d %b %Y %H:%M:%S.%f").astimezone()
                at = clock - round((now - then).total_seconds() * 1e9)
                if at > self._began and not any(
                    window.fails_over and window.start <= at <= window.end
                    for window in self.windows
                ):
                    start, end = at - _AROUND, at + _AROUND
                    self.windows.append(Window("unplanned-failover", start, end, True))

    def everybody(self, word: str) -> None:
        for process in self.processes:
            process.say(word)

    async def quiet(self) -> None:
        """Let all changes end, wait for the bound, and let all processes read once more."""
        self.everybody("quiet")
        for process in self.processes:
            await process.hear("quiet")
        await asyncio.sleep(self.bound + 0.3)
        self.everybody("final")
        for process in self.processes:
            await process.hear("done")
        for process in self.processes:
            await process.end()

    async def replace(self, process: Process) -> None:
        """Kill a worker and start another in its slot."""
        self.processes.remove(process)
        await process.kill()
        successor = await self.add_process(process.orders.slot)
        await successor.hear("ready")
        successor.say("go")

    def calls(self) -> list[Call]:
        """The whole history."""
        records = (read_file(Path(orders.history)) for orders in self.started)
        return finished(record for each in records for record in each)
