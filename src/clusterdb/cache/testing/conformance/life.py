"""Opening, closing and configuring."""

from __future__ import annotations

from typing import get_args

from ...protocols import Capability
from ...types import MISSING
from .clauses import clause
from .harness import OTHER, Harness, region_settings

__all__: list[str] = []


@clause()
async def it_says_what_it_is(h: Harness) -> None:
    """A backend has a name, and capabilities that are known."""
    assert isinstance(h.backend.kind, str)
    assert h.backend.kind
    assert h.backend.capabilities <= set(get_args(Capability))


@clause()
async def closing_is_idempotent(h: Harness) -> None:
    """``aclose`` may be called again."""
    await h.backend.aclose()
    await h.backend.aclose()


@clause()
async def it_opens_again(h: Harness) -> None:
    """Closed and opened again it works, and its contents stayed."""
    await h.put("k", "v")
    await h.backend.aclose()
    await h.backend.open()
    assert await h.value("k") == "v"
    await h.put("k", "w")
    assert await h.value("k") == "w"


@clause()
async def new_regions_can_be_declared(h: Harness) -> None:
    """``configure`` makes new regions, and drops none it does not name."""
    await h.put("k", "kept")
    h.backend.configure({"new": region_settings("new")})
    await h.put("k", "new", region="new")
    assert await h.value("k") == "kept"
    assert await h.value("k", "new") == "new"
    assert await h.value("k", OTHER) is MISSING


@clause()
async def configuring_keeps_contents(h: Harness) -> None:
    """``configure`` with other settings, or the same again, keeps contents and expiry."""
    await h.put("k", "v", ttl=20, tags=("t",))
    h.configure(ttl=5.0, ttl_jitter=0.5)
    h.configure()
    record = await h.found("k")
    assert (record.value, record.tags) == ("v", ("t",))
    assert h.left(record, 20)


@clause("near")
async def near_backends_have_tables(h: Harness) -> None:
    """A backend that says ``near`` has a table for each region."""
    assert all(h.backend.table(name) is not None for name in h.settings)
