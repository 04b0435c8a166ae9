"""Durability ``memory``: an intent lasts as long as its process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ..intents import Intent, Mine, PutAside

__all__ = ["Volatile"]

_MOST_ASIDE: Final = 1_000


class Volatile:
    """Intents that nobody keeps."""

    def __init__(self) -> None:
        self._aside: list[PutAside] = []

    async def open(self, mine: Mine) -> list[Intent]:
        del mine
        return []

    async def adopt(self, mine: Mine) -> list[Intent]:
        del mine
        return []

    async def append(self, intents: Sequence[Intent]) -> list[Intent]:
        return list(intents)

    async def flushed(self, intents: Sequence[Intent]) -> None:
        """Nobody kept them."""

    async def put_aside(self, intent: Intent, refused: PutAside) -> None:
        del intent
        self._aside = [*self._aside[1 - _MOST_ASIDE :], refused]

    async def find(self, region: str, keys: Sequence[str]) -> list[Intent]:
        del region, keys
        return []

    async def aside(self) -> list[PutAside]:
        return list(self._aside)

    async def aclose(self) -> None:
        """Nothing to close."""

    def forked(self) -> None:
        """Nothing to let go of."""
