"""The contract of :class:`clusterdb.cache.protocols.Backend` as checks that any backend can run.

Each clause is one sentence of the contract with a coroutine that proves it on a fresh backend.
With pytest::

    @pytest.mark.parametrize("clause", CLAUSES, ids=lambda clause: clause.name)
    async def test_backend(clause):
        clock = ManualClock()
        harness = Harness(MyBackend(clock), clock)
        if not harness.offers(clause.needs):
            pytest.skip("not offered")
        await run(clause, harness)

A backend whose time is its server's overrides ``Harness.advance`` and sets ``unit`` and ``slack``;
one that leaves things to its server has fewer ``traits``. The checks are ``assert`` statements:
don't run them under ``python -O``.
"""

from __future__ import annotations

from . import claims, commits, counts, life, limits, moves, reading, scans, tags, writing
from .clauses import CLAUSES, Clause
from .harness import MAIN, OTHER, TRAITS, Harness, Need, Trait, region_settings

__all__ = [
    "CLAUSES",
    "MAIN",
    "OTHER",
    "TRAITS",
    "Clause",
    "Harness",
    "Need",
    "Trait",
    "claims",
    "commits",
    "counts",
    "life",
    "limits",
    "moves",
    "reading",
    "region_settings",
    "run",
    "scans",
    "tags",
    "writing",
]


async def run(clause: Clause, harness: Harness) -> None:
    """Prove one clause on a fresh backend. Raises AssertionError where it is broken."""
    await harness.start()
    try:
        await clause.check(harness)
    finally:
        await harness.stop()
