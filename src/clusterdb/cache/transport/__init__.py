"""RESP3 over asyncio: a Redis client that knows no cache.

``connection`` is one multiplexed connection and the heart of it; ``handshake`` makes one from an
``endpoint``; a ``node`` is a server with its connections, in ``lane`` by kind of work; a
``topology`` says which server has which key: ``standalone``, ``sentinel``, ``cluster``.

Deadlines are moments of the clock that the topology was given. Nothing here waits past them, but
by the few milliseconds in which a loop turns.
"""

from __future__ import annotations

from .connection import Command, Connection, Limits, Reply
from .endpoint import Endpoint
from .node import Node
from .shares import Place
from .slots import slot_of
from .tap import Tap
from .topology import Topology, topology_for

__all__ = [
    "Command",
    "Connection",
    "Endpoint",
    "Limits",
    "Node",
    "Place",
    "Reply",
    "Tap",
    "Topology",
    "slot_of",
    "topology_for",
]
