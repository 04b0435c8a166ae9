"""The keys of a run: what is done with each, and by whom."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

__all__ = ["Key", "Role", "layout"]

Role: TypeAlias = Literal["register", "strong", "loaded", "tagged"]


class Key(NamedTuple):
    """One key.

    ``register``: written and removed by its ``owner``, or by anybody (-1); read near.
    ``strong``: by anybody, compare-and-set as well; read with ``consistent=True``.
    ``loaded``: loaded from the origin, which its owner changes, and then invalidates the key.
    ``tagged``: loaded under a ``tag``, which the tag's owner invalidates after changing the origin.
    ``reader``: the only process that reads it, or -1: nobody else's load then tells of a change.
    """

    number: int
    role: Role
    owner: int = -1
    tag: int = -1
    reader: int = -1

    @property
    def name(self) -> str:
        return f"{self.role}:{self.number}"


def layout(processes: int, *, registers: int = 12, strong: int = 4, loaded: int = 8, tags: int = 3,
           tagged: int = 3) -> list[Key]:  # fmt: skip
    """Keys for so many processes; each tag has ``tagged`` keys for all and one for each process."""
    keys: list[Key] = []
    for number in range(registers):
        keys.append(Key(len(keys), "register", number % processes if number % 3 else -1))
    for _ in range(strong):
        keys.append(Key(len(keys), "strong"))
    for number in range(loaded):
        keys.append(Key(len(keys), "loaded", number % processes))
    for tag in range(tags):
        for _ in range(tagged):
            keys.append(Key(len(keys), "tagged", tag % processes, tag))
        for process in range(processes):
            if process != tag % processes:
                keys.append(Key(len(keys), "tagged", tag % processes, tag, process))
    return keys
