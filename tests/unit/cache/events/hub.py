"""A channel in memory that does what a test says: loses, repeats, fails, and is away."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from clusterdb.cache.errors import BackendUnavailable, ServerError
from clusterdb.cache.protocols import ChannelReceiver

__all__ = ["Hub", "HubChannel"]


class Hub:
    """Passes messages to all who listen. ``lose`` so many of the next ones; ``away``: it can't be
    reached; ``refuses``: it takes nothing.
    """

    def __init__(self) -> None:
        self.receivers: list[ChannelReceiver] = []
        self.lose = 0
        self.away = False
        self.refuses = False
        self.messages: list[bytes] = []
        self.attempts = 0

    def send(self, messages: Sequence[bytes]) -> None:
        self.attempts += 1
        if self.away:
            raise BackendUnavailable("the hub is away")
        if self.refuses:
            raise ServerError("NOPERM no")
        for message in messages:
            self.messages.append(message)
            if self.lose:
                self.lose -= 1
                continue
            for receiver in list(self.receivers):
                receiver.received([message])

    def channel(self) -> HubChannel:
        return HubChannel(self)


class HubChannel:
    """One process's end of a hub. ``cut`` ends the connection of who listens."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.cut = asyncio.Event()
        self.listening = 0

    async def send(self, messages: Sequence[bytes]) -> None:
        await asyncio.sleep(0)
        self.hub.send(messages)

    async def listen(self, receiver: ChannelReceiver) -> None:
        missed = False
        self.listening += 1
        try:
            while True:
                await asyncio.sleep(0)
                if self.hub.away:
                    receiver.disconnected("the hub is away")
                    missed = True
                    await asyncio.sleep(0.001)
                    continue
                self.hub.receivers.append(receiver)
                receiver.connected(missed=missed)
                try:
                    await self.cut.wait()
                finally:
                    self.hub.receivers.remove(receiver)
                self.cut.clear()
                receiver.disconnected("cut")
                missed = True
        finally:
            self.listening -= 1

    async def aclose(self) -> None:
        """Nothing is kept open."""

    def forked(self) -> None:
        """Nothing is kept open."""
