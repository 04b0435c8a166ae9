"""The list of checks: each is one sentence of the contract, and a coroutine that proves it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import msgspec

from .harness import Harness, Need

__all__ = ["CLAUSES", "Clause", "Proof", "clause"]

Proof: TypeAlias = Callable[[Harness], Awaitable[None]]


class Clause(msgspec.Struct, frozen=True):
    """One clause of the contract. ``check`` raises where the storage breaks it."""

    name: str
    rule: str
    check: Proof
    needs: frozenset[Need]


CLAUSES: list[Clause] = []
"""Every clause, in the order of definition."""


def clause(*needs: Need) -> Callable[[Proof], Proof]:
    """Make a clause of a coroutine function: its docstring is the rule."""

    def register(check: Proof) -> Proof:
        name = getattr(check, "__name__", "")
        rule = (check.__doc__ or "").strip()
        assert all(known.name != name for known in CLAUSES), f"two clauses are named {name}"
        CLAUSES.append(Clause(name, rule, check, frozenset(needs)))
        return check

    return register
