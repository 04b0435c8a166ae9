"""One multiplexed connection: many callers, one socket, replies matched to calls by their order.

A Redis server answers the commands of a connection in the order it received them, so a queue of
the calls that were written is all it takes to find the owner of a reply. What this module adds:

* **Written together.** All commands of one turn of the event loop leave in one write; a call costs
  one future and one tuple, no task and no timer. Where the last write was one call's, and nothing
  is under way, the next call is written at once: who asks alone need not wait for the turn's end.
* **A call keeps its place.** A caller that is cancelled, or whose deadline passes, leaves its slot
  in the queue, and the slot swallows the reply when it comes. Nothing ever shifts. An answer that
  nobody asked for ends the connection.
* **Pushes in stream order.** A server push is handed to ``on_push`` before any reply behind it is
  given to its caller: an invalidation can't be overtaken by the value it invalidates.
* **Back-pressure.** At most ``Limits.commands`` commands and ``Limits.unsent`` bytes are under way;
  later calls wait in order, unwritten, and their deadlines go on.
* **Every call ends.** By a reply, at its deadline, or with the connection. `BackendUnavailable`
  means that it changed nothing (a read, or a command that was never written), `OutcomeUnknown`
  that a write was written and nobody can know whether it was carried out.

Deadlines share one timer, which is armed for the earliest of them and looks at all calls when it
goes off: with equal timeouts that is one look a timeout, and at most one each ``_TICK`` seconds.

A server that is silent for ``silence`` seconds while a call ran past its deadline is taken for
lost, as no error tells of a machine without power or a cut cable: the connection is closed.

Rejected: asyncio's streams (a task and a buffer too many), ``asyncio.wait_for`` (a timer a call),
a connection a call (a cancelled caller has to throw it away, or return it with a reply inside).

`SUBSCRIBE` and its kin have no reply of their own and go by `subscribe`; `MONITOR` and `CLIENT
REPLY` have none either and must not be called here.
"""

from __future__ import annotations

import asyncio
import os
from asyncio import Future
from collections import deque
from collections.abc import Callable, Sequence
from math import inf
from typing import Any, Final, NamedTuple, TypeAlias, cast

from hiredis import ProtocolError, PushNotification, Reader

from ..errors import BackendUnavailable, OutcomeUnknown, ServerError
from .packing import Command, pack

__all__ = ["Command", "Connection", "Limits", "Reply"]

Reply: TypeAlias = Any
"""What hiredis makes of a RESP3 reply: bytes, int, float, bool, None, list, dict; errors inside of
lists are `ServerError`."""

_MORE: Final = Ellipsis  # what the reader gives when it needs more bytes; no reply is equal to it
_TICK: Final = 0.005


class Limits(NamedTuple):
    """How much may be under way on one connection: commands without a reply, and bytes that the
    socket has not taken yet.
    """

    commands: int = 16_384
    unsent: int = 1 << 20


# A place in the queue: future, deadline, whether it writes, the replies so far of a list of
# commands (None for a single one), number of commands. A plain tuple, as one is made for each call.
_Call: TypeAlias = tuple[Future[Any], float, bool, list[Reply] | None, int]


class Connection:
    """A connection of one event loop, open until `lost` says why not. An ``asyncio.Protocol`` by
    its methods; not a subclass, as a compiled class has no base that is not.

    ``name`` is the server in messages, ``generation`` tells connections to a server apart,
    ``client_id`` is the server's number for this one and ``run_id`` names the server's process.
    ``doubtful``: a write that was sent has no answer, and may still be on its way. ``now`` is the
    clock of all deadlines. ``on_push`` gets pushes, ``on_lost`` is called once, before the calls
    under way end.
    """

    def __init__(
        self,
        name: str,
        now: Callable[[], float],
        *,
        generation: int = 0,
        silence: float = inf,
        limits: Limits = Limits(),  # noqa: B008 - it is a constant
        on_push: Callable[[Connection, list[Any]], None] | None = None,
        on_lost: Callable[[Connection], None] | None = None,
    ) -> None:
        self.name = name
        self.generation = generation
        self.client_id = 0
        self.run_id = ""
        self.doubtful = False
        self.heard_at = now()
        self.on_push = on_push
        self.on_lost = on_lost
        self.lost: str | None = None
        self.trouble: BaseException | None = None
        self._now = now
        self._silence = silence
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._create_future = self._loop.create_future
        self._call_soon = self._loop.call_soon
        self._transport: asyncio.Transport | None = None
        self._closed = self._create_future()
        self._reader = Reader(ProtocolError, ServerError, notEnoughData=_MORE)
        self._unwritten: deque[_Call] = deque()
        self._payloads: deque[bytes] = deque()
        self._unwritten_bytes = 0
        self._unwritten_commands = 0
        self._sent: deque[_Call] = deque()
        self._sent_commands = 0
        self._flushing = False
        self._alone = False
        self._paused = False
        self._overdue = False
        self._retired = False
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = inf

    def __repr__(self) -> str:
        return f"<Connection {self.generation} to {self.name}: {self.lost or 'open'}>"

    # -- calls

    @property
    def load(self) -> int:
        """How many commands are under way, written or not."""
        return self._sent_commands + self._unwritten_commands

    def call(self, command: Command, deadline: float, write: bool = False) -> Future[Reply]:
        """Send one command, at this turn's end; the future gets its reply.

        ``deadline`` is a moment of the connection's clock. The future raises `ServerError` for an
        error reply, `BackendUnavailable` and `OutcomeUnknown` as the module says. Cancelling it
        takes nothing back that was written. Cost: one round trip, shared by all who call now.
        """
        return self._enqueue(pack(command), deadline, write, None, 1)

    def calls(
        self, commands: Sequence[Command], deadline: float, write: bool = False
    ) -> Future[list[Reply]]:
        """Send commands back to back; the future gets their replies in order.

        Error replies stand in the list as `ServerError`, they are not raised. Cost: one round trip
        and one future, whatever the number of commands.
        """
        if not commands:
            future: Future[list[Reply]] = self._create_future()
            future.set_result([])
            return future
        payload = b"".join([pack(each) for each in commands])
        return self._enqueue(payload, deadline, write, [], len(commands))

    def subscribe(self, command: Command, deadline: float) -> Future[Reply]:
        """Send a command that is confirmed by a push, with a `PING` behind it; the future gets the
        reply to that, once the push has come. Raises `ServerError` where it is refused; then the
        reply to the `PING` is one too many, and the connection ends. Cost: one round trip.
        """
        return self._enqueue(pack(command) + pack(("PING",)), deadline, False, None, 1)

    def _enqueue(
        self,
        payload: bytes,
        deadline: float,
        write: bool,
        replies: list[Reply] | None,
        count: int,
    ) -> Future[Any]:
        if self.lost is not None or self._retired:
            reason = self.lost or "retired"
            raise BackendUnavailable(f"the connection to {self.name} is closed: {reason}")
        future = self._create_future()
        self._unwritten.append((future, deadline, write, replies, count))
        self._payloads.append(payload)
        self._unwritten_bytes += len(payload)
        self._unwritten_commands += count
        if deadline < self._alarm_at:
            self._arm(deadline)
        if self._alone and not self._sent and not self._flushing:
            self._flush()
        elif not self._flushing:
            self._flushing = True
            self._call_soon(self._flush)
        return future

    # -- writing

    def _flush(self) -> None:
        """Write what waits, as far as the limits allow."""
        self._flushing = False
        transport = self._transport
        if transport is None or self._paused or not self._unwritten:
            return
        if not self._sent:
            self.heard_at = self._now()  # silence counts from here
        fits = (
            self._unwritten_bytes <= self._limits.unsent
            and self._sent_commands + self._unwritten_commands <= self._limits.commands
        )
        if not fits:
            self._flush_some(transport)
            return
        self._alone = len(self._unwritten) == 1
        data = b"".join(self._payloads)
        self._sent.extend(self._unwritten)
        self._sent_commands += self._unwritten_commands
        self._payloads.clear()
        self._unwritten.clear()
        self._unwritten_bytes = self._unwritten_commands = 0
        transport.write(data)

    def _flush_some(self, transport: asyncio.Transport) -> None:
        """Write call by call until a limit is met, without those whose callers have gone."""
        limits, waiting = self._limits, self._unwritten
        while waiting and not self._paused and self._sent_commands < limits.commands:
            chunk: list[bytes] = []
            size = 0
            while waiting and size < limits.unsent and self._sent_commands < limits.commands:
                call, payload = waiting.popleft(), self._payloads.popleft()
                future, _, _, _, count = call
                self._unwritten_bytes -= len(payload)
                self._unwritten_commands -= count
                if not future.done():
                    chunk.append(payload)
                    size += len(payload)
                    self._sent.append(call)
                    self._sent_commands += count
            transport.write(b"".join(chunk))  # may pause

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._flush()

    # -- reading

    def data_received(self, data: bytes) -> None:
        self.heard_at = self._now()
        self._overdue = False
        try:
            self._reader.feed(data)
            answered = self._deliver()
        except (ProtocolError, MemoryError) as error:
            self.abort(f"{self.name} sent bytes that are not RESP3", error)
            return
        if self.lost is not None:
            return
        self._sent_commands -= answered
        if self._unwritten and not self._flushing:
            self._flush()
        elif self._retired and not self._sent:
            self.abort("retired")

    def _deliver(self) -> int:
        """Give replies to the calls in front of the queue; return how many there were."""
        sent, gets = self._sent, self._reader.gets
        answered = 0
        while (reply := gets()) is not _MORE:
            if type(reply) is PushNotification:
                if self.on_push is not None and self.lost is None:
                    self.on_push(self, reply)
                continue
            if not sent:
                if self.lost is None:  # else a push's handler closed the connection
                    self._unasked(reply)
                break
            future, _, _, replies, count = sent[0]
            answered += 1
            if replies is not None:
                replies.append(reply)
                if len(replies) == count:
                    sent.popleft()
                    if not future.done():
                        future.set_result(replies)
                continue
            sent.popleft()
            if not future.done():
                if type(reply) is ServerError:
                    future.set_exception(reply)
                else:
                    future.set_result(reply)
        return answered

    def _unasked(self, reply: Reply) -> None:
        """End the connection for a reply to nothing: a refusal, or a server out of step."""
        if type(reply) is ServerError:
            self.abort(f"{self.name} refused the connection ({reply.code})", reply)
        else:
            raise ProtocolError("a reply to nothing that was asked")

    # -- deadlines

    def _arm(self, moment: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm, self._alarm_at = None, moment
        if moment < inf:
            delay = max(moment - self._now(), _TICK)
            self._alarm = self._loop.call_later(delay, self._ring)

    def _ring(self) -> None:
        """End the calls whose deadline has passed; arm the timer for the next one."""
        self._alarm, self._alarm_at = None, inf
        now = self._now()
        self._drop_late(now)
        soonest = min([call[1] for call in self._unwritten], default=inf)
        for future, deadline, write, _, _ in self._sent:
            if deadline > now:
                soonest = min(soonest, deadline)
                continue
            self._overdue = True
            self.doubtful |= write
            if not future.done():
                future.set_exception(_unanswered(self.name, write))
            elif write:  # its caller gave up, so nobody else ends the connection
                self.abort("a write got no answer in time")
                return
        if self._overdue and self._sent:
            lapse = self.heard_at + self._silence
            if now >= lapse:
                self.abort(f"{self.name} was silent for {now - self.heard_at:.1f} s")
                return
            soonest = min(soonest, lapse)
        self._arm(soonest)

    def _drop_late(self, now: float) -> None:
        """Take out the calls that were not written in time."""
        if not any(call[1] <= now for call in self._unwritten):
            return
        kept, payloads = deque[_Call](), deque[bytes]()
        for call, payload in zip(self._unwritten, self._payloads, strict=True):
            future, deadline, _, _, count = call
            if deadline > now:
                kept.append(call)
                payloads.append(payload)
                continue
            self._unwritten_bytes -= len(payload)
            self._unwritten_commands -= count
            if not future.done():
                what = f"the connection to {self.name} was too busy: a call was not sent in time"
                future.set_exception(BackendUnavailable(what))
        self._unwritten, self._payloads = kept, payloads

    # -- life

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=self._limits.unsent)
        if self._unwritten:
            self._flush()

    def eof_received(self) -> None:
        """The server says no more: the transport closes."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(f"{self.name} closed the connection", exc)
        if not self._closed.done():
            self._closed.set_result(None)

    def abort(self, reason: str, cause: BaseException | None = None) -> None:
        """Close at once; the calls under way end as the module says. Idempotent."""
        if self._transport is not None:
            self._transport.abort()
        self._end(reason, cause)

    def retire(self) -> None:
        """Take no more calls, and close when those under way have ended."""
        self._retired = True
        if not self.load:
            self.abort("retired")

    async def aclose(self) -> None:
        """Close at once and wait until the socket is closed."""
        self.abort("closed by this process")
        if self._transport is not None:
            await asyncio.shield(self._closed)

    def forked(self) -> None:
        """In the child of a fork: give up the parent's socket without a word to the server.

        The event loop's selector is shared with the parent, so nothing may be unregistered; the
        descriptor is made to mean the null device.
        """
        if self._transport is None or self.lost is not None:
            return
        descriptor = self._transport.get_extra_info("socket").fileno()
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, descriptor)
        os.close(null)
        self.lost = "it belongs to the parent process"
        self._transport = None

    def _end(self, reason: str, cause: BaseException | None) -> None:
        if self.lost is not None:
            return
        self.lost, self.trouble = reason, cause
        if self._alarm is not None:
            self._alarm.cancel()
        sent, unwritten = list(self._sent), list(self._unwritten)
        self.doubtful |= any(write for _, _, write, _, _ in sent)
        if self.on_lost is not None:
            self.on_lost(self)
        for queue in (self._sent, self._unwritten, self._payloads):
            queue.clear()
        self._sent_commands = self._unwritten_commands = self._unwritten_bytes = 0
        for future, _, write, _, _ in sent:
            if not future.done():
                future.set_exception(_ended(reason, write, cause))
        for future, _, _, _, _ in unwritten:
            if not future.done():
                future.set_exception(BackendUnavailable(f"{reason}; the call was never sent"))


def _unanswered(name: str, write: bool) -> BackendUnavailable:
    """The error of a call whose deadline has passed."""
    what = f"{name} did not answer in time"
    if write:
        return OutcomeUnknown(f"{what}: the write may or may not have been carried out")
    return BackendUnavailable(what)


def _ended(reason: str, write: bool, cause: BaseException | None) -> BackendUnavailable:
    """The error of a call that was written when its connection ended."""
    error = (
        OutcomeUnknown(f"{reason} before it answered: the write may or may not have been done")
        if write
        else BackendUnavailable(f"{reason} before it answered")
    )
    error.__cause__ = cause
    return error
