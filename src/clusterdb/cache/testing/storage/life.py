"""Opening, closing, describing."""

from __future__ import annotations

from typing import get_args

from ...rows import StorageCapability
from .clauses import clause
from .harness import Harness

__all__: list[str] = []


@clause()
async def it_says_what_it_is(h: Harness) -> None:
    """A storage has a name, capabilities that are known, and a deadline."""
    assert isinstance(h.storage.kind, str)
    assert h.storage.kind
    assert h.storage.capabilities <= set(get_args(StorageCapability))
    assert 0 < h.storage.deadline < 3600


@clause()
async def closing_is_idempotent(h: Harness) -> None:
    """``aclose`` may be called again."""
    await h.storage.aclose()
    await h.storage.aclose()


@clause()
async def it_opens_again(h: Harness) -> None:
    """Closed and opened again it works, and its rows stayed."""
    await h.one(h.put("k", 1))
    await h.storage.aclose()
    await h.storage.open()
    assert (await h.found("k")).value == h.value(1)
    await h.one(h.put("k", 2))
    assert (await h.found("k")).value == h.value(2)


@clause("figures", "versions", "tombstones")
async def it_counts_rows(h: Harness) -> None:
    """``describe`` counts live rows, deleted ones and the outbox."""
    await h.make(h.put("a", 1), h.put("b", 1), h.put("c", 1))
    await h.one(h.gone("c"))
    info = await h.storage.describe()
    assert info.kind == h.storage.kind
    assert info.name
    assert (info.rows, info.deleted) == (2, 1)
    assert info.outbox == (4 if h.has("changes") else None)
