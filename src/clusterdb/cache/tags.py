"""Tags in O(1): the states that entries share.

An entry holds the ``TagState`` objects of its tags. Invalidating a tag ends its state and forgets
it: every entry that points to it is dead at once, whatever their number, and the next write of the
tag gets a new state. A state is kept only while an entry or a claim points to it, so the registry
is as large as the tags in use. ``dead`` counts what still points to ended states: the tables look
for it while they need room. The caller holds the tables' guard.
"""

from __future__ import annotations

from collections.abc import Iterable

from .types import TagState

__all__ = ["TagStates"]


class TagStates:
    """Every live tag state of one cache."""

    def __init__(self) -> None:
        self._states: dict[str, TagState] = {}
        self.dead = 0

    def __len__(self) -> int:
        return len(self._states)

    def acquire(self, names: Iterable[str]) -> tuple[TagState, ...]:
        """The current states of ``names``, each counted as used once more."""
        return tuple([self._acquire(name) for name in names])

    def _acquire(self, name: str) -> TagState:
        state = self._states.get(name)
        if state is None:
            state = self._states[name] = TagState(name)
        state.uses += 1
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

    def invalidate(self, name: str) -> int:
        """End the state of ``name``; how many entries and claims pointed to it."""
        state = self._states.pop(name, None)
        if state is None:
            return 0
        state.live = False
        self.dead += state.uses
        return state.uses

    def uses(self) -> dict[str, int]:
        """How many entries and claims point to each live tag."""
        return {name: state.uses for name, state in self._states.items()}
