"""``read``, ``scan`` and ``clear``."""

from __future__ import annotations

from .clauses import clause
from .harness import MAIN, OTHER, Harness

__all__: list[str] = []

_ODD_KEYS = (
    "é\u0301 \U0001f600",
    "user:{5}:*?[a]",
    "'; DROP TABLE cache_storage; --",
    'a"b\\c',
    "%s $1 :a ?",
    "\n\t",
    "k" * 2000,
)


@clause()
async def what_was_written_is_read(h: Harness) -> None:
    """A row comes back with its value, and without expiry and tags when it has none."""
    written = await h.one(h.put("k", 1))
    row = await h.found("k")
    assert written.applied
    assert (row.key, row.value, row.ttl, row.tags) == ("k", h.value(1), None, ())
    assert row.version == written.version


@clause()
async def reads_answer_in_order(h: Harness) -> None:
    """Each key has its answer at its place, ``None`` where there is no row."""
    await h.make(h.put("a", 1), h.put("b", 2))
    rows = await h.storage.read(MAIN, ["b", "none", "a", "b"])
    assert [row and row.value for row in rows] == [h.value(2), None, h.value(1), h.value(2)]
    assert await h.storage.read(MAIN, []) == []


@clause()
async def many_keys_are_read_at_once(h: Harness) -> None:
    """A read of a thousand keys finds the three that are there."""
    await h.make(h.put("k3", 3), h.put("k500", 500), h.put("k999", 999))
    rows = await h.storage.read(MAIN, [f"k{number}" for number in range(1000)])
    assert {row.key: row.value for row in rows if row is not None} == {
        f"k{number}": h.value(number) for number in (3, 500, 999)
    }


@clause("any_key", "scans")
async def any_key_is_a_key(h: Harness) -> None:
    """Quotes, wildcards, control characters and long keys are plain characters."""
    for number, key in enumerate(_ODD_KEYS):
        await h.one(h.put(key, number))
    rows = await h.storage.read(MAIN, _ODD_KEYS)
    assert [row and (row.key, row.value) for row in rows] == [
        (key, h.value(number)) for number, key in enumerate(_ODD_KEYS)
    ]
    assert sorted(await h.keys()) == sorted(_ODD_KEYS)


@clause("regions")
async def regions_are_disjoint(h: Harness) -> None:
    """A key is another one in another region."""
    await h.make(h.put("k", 1), h.put("k", 2, OTHER))
    assert (await h.found("k")).value == h.value(1)
    assert (await h.found("k", OTHER)).value == h.value(2)
    await h.one(h.gone("k"))
    assert await h.row("k") is None
    assert await h.keys(OTHER) == ["k"]


@clause("scans")
async def a_scan_gives_all_rows_by_key(h: Harness) -> None:
    """Every live row, in the order of keys, in batches; nothing that was deleted."""
    await h.make(*[h.put(f"k{number:02}", number) for number in range(25)])
    await h.make(h.gone("k03"), h.gone("k24"))
    wanted = [f"k{number:02}" for number in range(25) if number not in (3, 24)]
    assert await h.keys(batch_size=4) == wanted
    assert await h.keys(batch_size=100) == wanted


@clause("scans")
async def a_cleared_region_is_empty(h: Harness) -> None:
    """``clear`` says how many rows were live."""
    await h.make(*[h.put(f"k{number}", number) for number in range(5)])
    await h.one(h.gone("k0"))
    assert await h.storage.clear([MAIN]) == 4
    assert await h.keys() == []
    assert await h.storage.clear([MAIN]) == 0


@clause("scans", "regions")
async def a_clear_leaves_other_regions(h: Harness) -> None:
    """Only what was named goes."""
    await h.make(h.put("a", 1), h.put("b", 2, OTHER))
    assert await h.storage.clear([MAIN]) == 1
    assert (await h.keys(), await h.keys(OTHER)) == ([], ["b"])
    assert await h.storage.clear([MAIN, OTHER]) == 1


@clause("scans", "versions")
async def a_clear_keeps_versions(h: Harness) -> None:
    """A row that is made again after a clear goes on from its version."""
    before = (await h.one(h.put("a", 1))).version
    await h.storage.clear([MAIN])
    assert (await h.one(h.put("a", 2))).version > before + 1
