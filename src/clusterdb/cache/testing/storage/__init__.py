"""The contract of :class:`clusterdb.cache.rows.Storage` as checks that any storage can run.

Each clause is one sentence of the contract with a coroutine that proves it on a fresh storage::

    @pytest.mark.parametrize("clause", CLAUSES, ids=lambda clause: clause.name)
    async def test_storage(clause, tmp_path):
        harness = Harness(lambda origin: MyStorage(tmp_path / "a.db", origin), ManualClock())
        if not harness.offers(clause.needs):
            pytest.skip("not offered")
        await run(clause, harness)

A storage whose time is its server's overrides ``Harness.advance``. The checks are ``assert``
statements: don't run them under ``python -O``.
"""

from __future__ import annotations

from . import changes, conditions, life, reading, transactions, writing
from .clauses import CLAUSES, Clause
from .harness import MAIN, OTHER, TRAITS, Harness, Need, Trait

__all__ = [
    "CLAUSES",
    "MAIN",
    "OTHER",
    "TRAITS",
    "Clause",
    "Harness",
    "Need",
    "Trait",
    "changes",
    "conditions",
    "life",
    "reading",
    "run",
    "transactions",
    "writing",
]


async def run(clause: Clause, harness: Harness) -> None:
    """Prove one clause on a fresh storage. Raises AssertionError where it is broken."""
    await harness.start()
    try:
        await clause.check(harness)
    finally:
        await harness.stop()
