"""Tags in O(1): the states that entries share.

An entry holds the ``TagState`` objects of its tags. Invalidating a tag ends its state and forgets
it: every entry that points to it is dead at once, whatever their number, and the next write of the
tag gets a new state. A state is kept only while an entry or a claim points to it, so the registry
is as large as the tags in use. ``dead`` counts what still points to ended states: the tables look
for it while they need room. The caller holds the tables' guard.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from .entries import TagState

__all__ = ["TagStates"]

_MAX_SETS: Final = 4096


class TagStates:
    """Every live tag state of one cache."""

    def __init__(self) -> None:
        self._states: dict[str, TagState] = {}
        self.dead = 0
        self._sets: dict[tuple[str, ...], tuple[TagState, ...]] = {}

    def __len__(self) -> int:
        return len(self._states)

    def acquire(self, names: tuple[str, ...]) -> tuple[TagState, ...]:
        """The current states of ``names``, each counted as used once more.

        Entries with the same tags share one tuple.
        """
        if not names:
            return ()
        states = self._sets.get(names)
        if states is None:
            states = tuple([self._state(name) for name in names])
            if len(self._sets) >= _MAX_SETS:
                self._sets.clear()
            self._sets[names] = states
        self.retain(states)
        return states

    def _state(self, name: str) -> TagState:
        state = self._states.get(name)
        if state is None:
            state = self._states[name] = TagState(name)
        return state

    def retain(self, states: Iterable[TagState]) -> None:
        """Count ``states`` as used once more each."""
        for state in states:
            state.uses += 1
            if not state.live:
                self.dead += 1

    def release(self, states: Iterable[TagState]) -> None:
        """Give back what :meth:`acquire` or :meth:`retain` counted."""
        for state in states:
            state.uses -= 1
            if not state.live:
                self.dead -= 1
            elif not state.uses:
                del self._states[state.name]
                self._sets.clear()

    def invalidate(self, name: str) -> int:
        """End the state of ``name``; how many entries and claims pointed to it."""
        state = self._states.pop(name, None)
        if state is None:
            return 0
        state.live = False
        self.dead += state.uses
        self._sets.clear()
        return state.uses

    def uses(self) -> dict[str, int]:
        """How many entries and claims point to each live tag."""
        return {name: state.uses for name, state in self._states.items()}
