"""A model of one key that moves from server ``S`` to server ``N`` while it is used.

Each step of a process is what one server does at once, as its scripts do; between any two steps
every other process may do any of its own, and a process may stand still for ever. ``truth`` is what
the key holds by all that was carried out; whatever reads something else is a fault. A *mutant*
leaves out one guard.

One loss is not a fault: ``N`` evicts its copy, or loses its data, in the moment between the answer
that it has one and the mark at ``S``. It would have lost the key as well a moment later.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TypeAlias

__all__ = ["MUTANTS", "Fault", "World"]

MUTANTS = [
    "nobody ends old connections",
    "the old server lets keys be made",
    "what ended leaves its copy",
    "what was taken over is not placed first",
    "a key is marked without a look",
    "a copy comes late",
    "a mark comes late",
    "a server that came back empty is trusted",
    "a server that came back empty gets the token of the first",
    "a move that was not begun is put back",
    "a server that lost all is told as if nothing moved",
    "one who goes on forgets marks",
    "the mark goes before the copy is placed",
]

BEFORE, MOVE, AFTER = 1, 2, 3


class Fault(AssertionError):
    """Something was lost, or something old came back."""


@dataclass(frozen=True)
class Record:
    """The placement as a server keeps it."""

    epoch: int
    stage: str = "settled"
    token: int = 0
    change: int = 0

    @property
    def version(self) -> tuple[int, int]:
        """What clients go by."""
        return self.epoch, self.change


@dataclass
class Server:
    record: Record | None = field(default_factory=lambda: Record(BEFORE))
    key: int | None = None
    copy: int | None = None
    mark: bool = False


Steps: TypeAlias = Generator[None, None, None]


@dataclass(eq=False)
class Client:
    """A process. ``connected``: the servers it has a connection to, of the placement it knows;
    ``opening``: those to which it is making one.
    """

    version: tuple[int, int] = (BEFORE, 0)
    connected: set[str] = field(default_factory=lambda: {"S", "N"})
    opening: set[str] = field(default_factory=set)

    @property
    def epoch(self) -> int:
        return self.version[0]

    def take(self, version: tuple[int, int]) -> None:
        """Go by another placement, over new connections."""
        self.version = version
        self.connected.clear()
        self.opening.clear()

    def cut(self, name: str) -> None:
        """Its connections to a server end."""
        self.connected.discard(name)
        self.opening.discard(name)


class World:
    """Two servers, two clients, and those who move. ``mutant`` is the guard that is left out;
    ``begun``: keys are moving from the start.
    """

    def __init__(self, mutant: str = "", *, begun: bool = False) -> None:
        self.mutant = mutant
        record = Record(MOVE, "moving") if begun else Record(BEFORE)
        self.servers = {"S": Server(record, key=0), "N": Server(record)}
        self.truth: int | None = 0
        self.clients = [Client(record.version) for _ in range(2)]
        self.running: list[Steps] = []
        self._values = count(1)
        self._tokens = count(1)
        self.copy_lost = self.orphan = False

    # -- what happens

    def begin(self, number: int) -> None:
        """Somebody begins something."""
        kinds: list[Callable[[], Steps | None]] = [
            *[
                lambda client=client, kind=kind: self._call(client, kind)
                for client in self.clients
                for kind in ("read", "write", "delete")
            ],
            *[self._move] * 4,
            lambda: self._evict("S"),
            lambda: self._evict("N"),
            lambda: self._empty("S"),
            lambda: self._empty("N"),
            lambda: self._empty("S", flushed=True),
            lambda: self._empty("N", flushed=True),
        ]
        begun = kinds[number % len(kinds)]()
        if begun is not None:
            self.running.append(begun)

    def step(self, number: int) -> None:
        """One of those that run goes on."""
        if self.running:
            one = self.running[number % len(self.running)]
            if next(one, "end") == "end":
                self.running.remove(one)

    def kill(self, number: int) -> None:
        """One of those that run never goes on."""
        if self.running:
            self.running.pop(number % len(self.running))

    def finish(self) -> None:
        """All that runs goes on to its end, a move among it; then each client looks."""
        for _ in range(400):
            self.step(0)
        self.running = [self._move()]
        for _ in range(60):
            self.step(0)
        for client in self.clients:
            self.running = [self._call(client, "read")]
            for _ in range(60):
                self.step(0)
        if not self.mutant and self.running:
            raise Fault("it never ends")

    def _evict(self, name: str) -> None:
        """Also an expiry. A copy or a mark is a key like any other."""
        server = self.servers[name]
        if server.key is not None:
            server.key = self.truth = None
        elif name == "N" and server.copy is not None:
            if self._wanted():
                self.truth = None
            server.copy, self.copy_lost = None, True

    def _empty(self, name: str, *, flushed: bool = False) -> None:
        """A server comes back without data, and connections to it are lost, unless it was only
        flushed. That happens to one of them: else nobody would know of any placement.
        """
        server, other = self.servers[name], self.servers["N" if name == "S" else "S"]
        if other.record is None:
            return
        if server.key is not None or (name == "N" and server.copy is not None and self._wanted()):
            self.truth = None
        if name == "S" and server.mark and self.servers["N"].copy is not None:
            self.orphan = True  # it is kept, or lost, whoever comes first
        self.copy_lost |= name == "N" and server.copy is not None
        self.servers[name] = Server(record=None)
        for client in self.clients if not flushed else ():
            client.cut(name)

    def _wanted(self) -> bool:
        """Whether the copy at ``N`` is what the key holds."""
        return self.servers["S"].mark or self.orphan

    # -- clients

    def _call(self, client: Client, kind: str) -> Steps:
        value = next(self._values)
        while True:
            version, epoch = client.version, client.epoch
            name = "N" if epoch == AFTER else "S"
            if name not in client.connected and not (yield from self._connect(client, name)):
                continue
            yield
            if client.version != version or name not in client.connected:
                continue
            server = self.servers[name]
            if epoch != MOVE:
                self._carry_out(server, kind, value)
                return
            said = self._guard(server, version)
            if said == "here":
                self._carry_out(server, kind, value)
                return
            if said == "stale":
                yield from self._look_at_all(client)
                continue
            yield
            if "N" not in client.connected and not (yield from self._connect(client, "N")):
                continue
            new = self.servers["N"]
            if client.version != version or "N" not in client.connected:
                continue
            if said == "taken":
                if (
                    new.copy is not None
                    and self.mutant != "what was taken over is not placed first"
                ):
                    new.key, new.copy = new.copy, None
            elif self.mutant != "what ended leaves its copy":
                self._throw_away(new)
            self._carry_out(new, kind, value)
            return

    def _guard(self, server: Server, version: tuple[int, int]) -> str:
        record = server.record
        if record is None or record.version != version or record.stage == "held":
            return "stale"
        if record.stage == "announced" or server.key is not None:
            return "here"
        if self.mutant == "the old server lets keys be made" and not server.mark:
            return "here"
        return "taken" if server.mark else "ended"

    def _carry_out(self, server: Server, kind: str, value: int) -> None:
        if kind == "read":
            if server.key != self.truth:
                raise Fault(f"{server.key} was read, and it is {self.truth}")
        else:
            server.key = self.truth = value if kind == "write" else None

    def _connect(self, client: Client, name: str) -> Generator[None, None, bool]:
        """Whether there is a connection of the placement that is known."""
        version = client.version
        client.opening.add(name)
        yield
        found = self.servers[name].record
        self._look(client, self.servers[name])
        if found is None or found.epoch < client.epoch:
            other = self.servers["N" if name == "S" else "S"]
            if self.mutant != "a server that came back empty is trusted":
                yield
                self._look(client, other)
            if client.version != version:
                return False
            vouched = other.record
            yield
            self._put_back(self.servers[name], client, vouched)
        if client.version != version or name not in client.opening:
            return False
        client.connected.add(name)
        return True

    def _look(self, client: Client, server: Server) -> None:
        record = server.record
        if record is not None and record.epoch >= client.epoch and record.version != client.version:
            client.take(record.version)

    def _look_at_all(self, client: Client) -> Steps:
        """If nobody knows of the move that this client knows of, there is none any more."""
        version, found = client.version, dict[str, Record | None]()
        for name in ("S", "N"):
            yield
            self._look(client, self.servers[name])
            found[name] = self.servers[name].record
        if client.version != version:
            return
        latest = max([each.version for each in found.values() if each], default=(BEFORE, 0))
        if latest < version and client.epoch == MOVE:
            client.take(latest)
            return
        for name, other in (("S", "N"), ("N", "S")):
            yield
            if client.version == version:
                self._put_back(self.servers[name], client, found[other])

    def _put_back(self, server: Server, client: Client, vouched: Record | None) -> None:
        there = server.record.epoch if server.record is not None else 0
        if there >= client.epoch or vouched is None or vouched.version != client.version:
            return
        if client.epoch != MOVE:
            server.record = vouched
        elif (
            (vouched.stage == "moving" or self.mutant == "a move that was not begun is put back")
            and not there
            and (server.key, server.copy, server.mark) == (None, None, False)
        ):
            first = self.mutant == "a server that came back empty gets the token of the first"
            token = 1 if first else 0
            server.record = Record(MOVE, "moving", token, vouched.change)

    # -- who moves

    def _move(self) -> Steps:
        token = next(self._tokens)
        there = {}
        for name in ("S", "N"):
            there[name] = self.servers[name].record
            yield
        known = [each for each in there.values() if each is not None]
        latest = max(known, key=lambda each: each.version, default=Record(BEFORE))
        if latest.epoch == AFTER:
            yield from self._write(there, dict.fromkeys(there, latest))
            return
        if latest.epoch == BEFORE:
            if None in there.values():
                return  # processes give it back its record first
            mine = dict.fromkeys(there, Record(MOVE, "announced", token, token))
        else:
            lost = self.mutant == "a server that lost all is told as if nothing moved"
            mine = {
                name: replace(
                    latest,
                    token=token,
                    stage=each.stage
                    if each is not None and each.epoch == MOVE
                    else "announced"
                    if lost
                    else "held",
                )
                for name, each in there.items()
            }
        if not (yield from self._write(there, mine)):
            return
        if any(each.stage != "moving" for each in mine.values()):
            yield from self._end_connections(next(iter(mine.values())))
        final = replace(next(iter(mine.values())), stage="moving")
        if (yield from self._write(mine, dict.fromkeys(mine, final))):
            yield from self._take(final)

    def _write(
        self, there: Mapping[str, Record | None], wanted: Mapping[str, Record]
    ) -> Generator[None, None, bool]:
        for name, record in wanted.items():
            if self.servers[name].record != there[name]:
                return False
            self.servers[name].record = record
            yield
        return True

    def _end_connections(self, record: Record) -> Steps:
        for name in ("S", "N"):
            yield
            for client in self.clients:
                if (
                    client.version != record.version
                    and self.mutant != "nobody ends old connections"
                ):
                    client.cut(name)

    def _fenced(self, name: str, record: Record) -> Server | None:
        server = self.servers[name]
        return server if server.record == record else None

    def _take(self, record: Record) -> Steps:
        late = "a copy comes late"
        while True:
            yield
            if (old := self._fenced("S", record)) is None:
                return
            if old.mark and self.mutant != "one who goes on forgets marks":
                yield from self._finish(record)
                continue
            if old.key is None:
                break
            found = old.key
            yield
            new = self._fenced("N", record)
            if new is None and self.mutant == late:
                new = self.servers["N"]
            if new is None:
                return
            new.copy, self.copy_lost = found, False
            yield
            old = self._fenced("S", record)
            if old is None and self.mutant == "a mark comes late":
                old = self.servers["S"]
            if old is None:
                return
            if old.key == found or (
                old.key is not None and self.mutant == "a key is marked without a look"
            ):
                old.key, old.mark = None, True
                self.truth = None if self.copy_lost else self.truth
                yield from self._finish(record)
            else:
                yield
                if (new := self._fenced("N", record)) is None:
                    return
                self._throw_away(new)
        yield
        if (new := self._fenced("N", record)) is None:
            return
        self._throw_away(new)
        wanted = dict.fromkeys(("S", "N"), replace(record, epoch=AFTER, stage="settled", token=0))
        yield from self._write(dict.fromkeys(wanted, record), wanted)

    def _throw_away(self, server: Server) -> None:
        if server.copy is not None and self.orphan:
            self.truth = None
        server.copy, self.orphan = None, False

    def _finish(self, record: Record) -> Steps:
        early = self.mutant == "the mark goes before the copy is placed"
        for name in ("S", "N") if early else ("N", "S"):
            yield
            server = self._fenced(name, record)
            if server is None:
                return
            if name == "S":
                server.mark = False
            elif server.copy is not None:
                server.key, server.copy = server.copy, None
