"""``export`` and ``restore``: what leaves a backend as bytes, and comes back as it was."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Any

from msgspec.structs import replace

from ...codec import RegionCodec, region_codec
from ...config import SerializationConfig
from ...errors import CacheError, Undecodable
from ...protocols import Exported, Overwrite, Written
from ...types import MISSING, Version
from .clauses import clause
from .harness import MAIN, OTHER, Harness

__all__: list[str] = []

_MODES: tuple[Overwrite, ...] = ("older", "always", "never")


async def _all(h: Harness, region: str = MAIN, **options: Any) -> dict[str, Exported]:
    """All that an export gives, by key; each must come once, and be one that can be given."""
    found: dict[str, Exported] = {}
    async for batch in h.backend.export(region, **options):
        assert isinstance(batch, list)
        for each in batch:
            assert isinstance(each, Exported), f"an export gave {each!r}"
            assert each.key not in found, f"{each.key!r} came twice while nothing moved"
            found[each.key] = each
    return found


async def _one(h: Harness, key: str) -> Exported:
    return (await _all(h))[key]


async def _restored(h: Harness, entry: Exported, overwrite: Overwrite = "older") -> bool:
    """Whether an entry that must not fail was restored."""
    [outcome] = await h.backend.restore(MAIN, [entry], overwrite=overwrite)
    assert isinstance(outcome, Written), f"the restore of {entry.key!r} gave {outcome!r}"
    assert outcome.version == (entry.version if outcome.applied else 0)
    return outcome.applied


def _codec(h: Harness, region: str = MAIN) -> RegionCodec:
    return h.settings[region].codec or region_codec(region, SerializationConfig(), None)


def _made(h: Harness, key: str, value: object, version: Version, **fields: Any) -> Exported:
    """An entry that another backend could have exported."""
    codec = _codec(h)
    sealed = codec.seal(key, version, codec.encode(value), expires_at=None, tags=())
    return Exported(key, sealed, version, **fields)


@clause()
async def an_export_gives_what_lives(h: Harness) -> None:
    """Every live entry is given with its version, expiry and tags, and nothing else is."""
    h.configure(grace=50)
    written = await h.put("plain", [1, "x"])
    await h.put("tagged", {"a": 1}, tags=("t", "u"), ttl=40)
    await h.add("sum", 5, initial=1)
    await h.put("none", None)
    await h.put("expired", 1, ttl=2)
    await h.put("removed", 1)
    await h.put("ended", 1, tags=("dead",))
    await h.put("elsewhere", 1, region=OTHER)
    await h.claim("claimed")
    await h.fence("fenced")
    await h.drop("removed")
    await h.backend.invalidate_tags(["dead"])
    await h.advance(3)
    found = await _all(h)
    assert sorted(found) == ["none", "plain", "sum", "tagged"]
    assert found["plain"].version == written.version
    assert found["plain"].expires_in is None
    assert found["tagged"].tags == ("t", "u")
    record = await h.found("tagged")
    assert record.version == found["tagged"].version
    left = found["tagged"].expires_in
    assert left is not None
    assert -1e-9 <= 37 - left / h.unit <= h.slack + 1e-9
    for key, value in (("plain", [1, "x"]), ("tagged", {"a": 1}), ("sum", 6), ("none", None)):
        sealed = _codec(h).unseal(key, found[key].value)
        assert _codec(h).decode(sealed.encoded) == value
        assert (sealed.version, sealed.tags) == (found[key].version, ())
    assert list(await _all(h, OTHER)) == ["elsewhere"]


@clause()
async def the_parts_of_an_export_are_the_whole(h: Harness) -> None:
    """Each entry is in one part, whatever the size of a batch; without a part all are given."""
    keys = [f"k{number}" for number in range(257)]
    await h.put_all(keys)
    for batch_size in (1, 100, 10_000):
        async for batch in h.backend.export(MAIN, batch_size=batch_size):
            assert 1 <= len(batch) <= batch_size
        assert sorted(await _all(h, batch_size=batch_size)) == sorted(keys)
    seen: list[str] = []
    for part in h.backend.parts(MAIN):
        seen += await _all(h, part=part)
    assert sorted(seen) == sorted(keys)


@clause()
async def an_export_refuses_a_part_that_is_none(h: Harness) -> None:
    """A part that ``parts`` did not name is an error, not an empty export."""
    await h.put("k", 1)
    try:
        await _all(h, part="no such part")
    except CacheError:
        return
    raise AssertionError("it exported a part that there is not")


@clause()
async def an_export_matches_globs(h: Harness) -> None:
    """A glob chooses the keys as that of a scan does."""
    await h.put_all(["user:1", "user:2", "user:10", "x*y", "\n"])
    for glob in ("*", "user:*", "user:?", "*1*", "x\\*y", "absent"):
        assert sorted(await _all(h, glob=glob)) == await h.scan(glob)


@clause()
async def an_export_without_values_says_the_rest(h: Harness) -> None:
    """Version, expiry and tags are the same, and the value is empty."""
    await h.put("plain", "x" * 1000)
    await h.put("tagged", 1, tags=("t", "long" * 100))
    await h.put("ended", 1, tags=("dead",))
    await h.backend.invalidate_tags(["dead"])
    whole, heads = await _all(h), await _all(h, values=False)
    assert sorted(heads) == ["plain", "tagged"]
    for key, head in heads.items():
        assert head == replace(whole[key], value=b"", expires_in=head.expires_in)


@clause("counters")
async def an_export_leaves_no_trace(h: Harness) -> None:
    """An export is no read."""
    await h.put_all(["a", "b"])
    before = (await h.backend.describe()).regions[MAIN]
    await _all(h)
    assert (await h.backend.describe()).regions[MAIN] == before


@clause("limits")
async def an_export_is_no_use(h: Harness) -> None:
    """What is evicted next is the same after an export."""
    h.configure(max_items=3)
    await h.put_all(["a", "b", "c"])
    await h.value("a")
    await _all(h)
    await h.put("d", 1)
    assert await h.scan() == ["a", "c", "d"]


@clause()
async def what_is_restored_is_as_it_was(h: Harness) -> None:
    """Value, version, expiry and tags come back, after a clear as into an empty backend."""
    await h.put("plain", [1, "x"])
    await h.put("tagged", {"a": 1}, tags=("t", "u"), ttl=40)
    await h.add("sum", 5, initial=1)
    await h.put_all([f"k{number}" for number in range(150)], ttl=60)
    entries = await _all(h)
    await h.backend.clear([MAIN])
    outcomes = await h.backend.restore(MAIN, list(entries.values()))
    assert [each.version for each in outcomes if isinstance(each, Written)] == [
        entry.version for entry in entries.values()
    ]
    assert await h.value("plain") == [1, "x"]
    for entry in entries.values():
        record = await h.glance(entry.key)
        assert record is not None, f"{entry.key!r} is gone"
        assert (record.version, record.tags) == (entry.version, entry.tags)
        assert (record.expires_in is None) == (entry.expires_in is None)
    assert h.left(await h.found("tagged"), 40)
    assert await h.add("sum", 1) == 7
    again = await _all(h)
    assert again["plain"] == entries["plain"]
    assert sorted(again) == sorted(entries)


@clause()
async def what_is_restored_expires(h: Harness) -> None:
    """It lives as long as it had left; what has nothing left is not stored."""
    await h.put("k", 1, ttl=10)
    entry = await _one(h, "k")
    await h.drop("k")
    assert not await _restored(h, replace(entry, expires_in=0.0))
    assert not await _restored(h, replace(entry, expires_in=-5.0))
    assert await h.value("k") is MISSING
    assert await _restored(h, replace(entry, expires_in=2 * h.unit))
    assert await h.value("k") == 1
    await h.advance(3)
    assert await h.value("k") is MISSING


@clause()
async def a_newer_entry_stays(h: Harness) -> None:
    """By default what is there is replaced only where its version is lower."""
    await h.put("k", "old")
    old = await _one(h, "k")
    await h.put("k", "new")
    new = await _one(h, "k")
    assert new.version > old.version
    assert not await _restored(h, old)
    assert not await _restored(h, new), "the very same write was stored again"
    assert await h.value("k") == "new"
    await h.drop("k")
    assert await _restored(h, old)
    assert await h.value("k") == "old"
    assert await _restored(h, new)
    assert await h.value("k") == "new"


@clause()
async def overwriting_is_chosen(h: Harness) -> None:
    """``never`` fills what is absent and no more; ``always`` replaces a newer entry."""
    await h.put("k", "old")
    old = await _one(h, "k")
    await h.put("k", "new")
    assert not await _restored(h, old, "never")
    assert await h.value("k") == "new"
    assert await _restored(h, old, "always")
    assert (await h.found("k")).version == old.version
    assert await h.value("k") == "old"
    await h.drop("k")
    assert await _restored(h, old, "never")
    assert await h.value("k") == "old"


@clause()
async def what_ended_may_be_replaced(h: Harness) -> None:
    """An entry that expired, or whose tag ended, is absent, whatever its version."""
    h.configure(grace=50)
    for mode in _MODES:
        await h.put("expired", "old")
        await h.put("ended", "old")
        entries = await _all(h)
        await h.put("expired", "new", ttl=1)
        await h.put("ended", "new", tags=("t",))
        await h.advance(2)
        await h.backend.invalidate_tags(["t"])
        for key in ("expired", "ended"):
            assert await _restored(h, entries[key], mode), f"{key}, {mode}"
            assert await h.value(key) == "old"


@clause()
async def a_restore_leaves_claims_alone(h: Harness) -> None:
    """What is loading or being committed is not touched, however it is overwritten."""
    await h.put_all(["loading", "fenced"])
    entries = list((await _all(h)).values())
    for key in ("loading", "fenced"):
        await h.drop(key)
    claim, [fence] = await h.claim("loading"), await h.fence("fenced")
    for mode in _MODES:
        outcomes = await h.backend.restore(MAIN, entries, overwrite=mode)
        assert outcomes == [Written(applied=False)] * 2
        assert await h.value("loading") is MISSING
        assert await h.value("fenced") is MISSING
    assert await h.fill(claim, "loaded")
    await h.release(fence)
    outcomes = await h.backend.restore(MAIN, entries, overwrite="always")
    assert outcomes == [Written(applied=True, version=entry.version) for entry in entries]
    assert await h.value("loading") == "loading"


@clause()
async def tags_live_again(h: Harness) -> None:
    """A restored entry has the present states of its tags: those that ended since do not end it,
    those that end from now on do.
    """
    await h.put("k", 1, tags=("t", "u"))
    entry = await _one(h, "k")
    await h.backend.invalidate_tags(["t"])
    assert await h.value("k") is MISSING
    assert await _restored(h, entry)
    assert (await h.found("k")).tags == ("t", "u")
    await h.backend.invalidate_tags(["u"])
    assert await h.value("k") is MISSING


@clause()
async def later_versions_are_higher(h: Harness) -> None:
    """What is written after a restore has a higher version than what was restored."""
    low = (await h.put("before", 1)).version
    assert await _restored(h, _made(h, "k", "restored", low + 50))
    assert await h.value("k") == "restored"
    assert (await h.put("other", 1)).version > low + 50
    assert (await h.put("k", "after")).version > low + 50
    assert await h.add("sum", 1) == 1
    assert (await h.found("sum")).version > low + 50
    claim = await h.claim("loaded")
    assert await h.fill(claim, 1)
    assert (await h.found("loaded")).version > low + 50


@clause()
async def what_was_not_sealed_for_a_key_is_refused(h: Harness) -> None:
    """An entry of another key or region, or one that was changed, is an error in its place; the
    others are stored.
    """
    await h.put_all(["a", "b", "c", "d"])
    await h.put("e", 1, region=OTHER)
    found = await _all(h)
    foreign = await _all(h, OTHER)
    await h.backend.clear([MAIN])
    wrong = [
        replace(found["a"], key="other"),
        replace(found["b"], value=found["b"].value[:-1] + b"?"),
        replace(found["c"], version=found["c"].version + 1),
        foreign["e"],
        replace(found["a"], value=b""),
    ]
    outcomes = await h.backend.restore(MAIN, [*wrong, found["d"]])
    assert all(isinstance(each, Undecodable) for each in outcomes[:5]), outcomes
    assert outcomes[5] == Written(applied=True, version=found["d"].version)
    assert await h.scan() == ["d"]
    outcomes = await h.backend.restore(MAIN, [replace(found["a"], version=0)])
    assert isinstance(outcomes[0], CacheError)


@clause()
async def an_export_survives_changes(h: Harness) -> None:
    """What stays from start to end is given, however much comes and goes meanwhile, and each entry
    is whole: its value, tags, expiry and version are of one write.
    """
    stable = [f"stable{number}" for number in range(60)]
    await h.put_all(stable)
    codec, numbers = _codec(h), count()
    seen: dict[str, set[Version]] = {}

    async def turn() -> None:
        number = next(numbers)
        ttl = None if number % 2 else 1000.0 + number
        await h.put("moving", number, tags=(f"tag{number}",), ttl=ttl)
        await h.put(f"new{number}", number)
        await h.drop(f"new{number - 3}")

    async def write(ended: asyncio.Event) -> None:
        while not ended.is_set():
            await turn()
            await asyncio.sleep(0)

    await turn()
    ended = asyncio.Event()
    writing = asyncio.create_task(write(ended))
    try:
        for _ in range(3):
            async for batch in h.backend.export(MAIN, batch_size=7):
                for each in batch:
                    assert isinstance(each, Exported)
                    seen.setdefault(each.key, set()).add(each.version)
                    if each.key == "moving":
                        _is_whole(h, codec, each)
                await asyncio.sleep(0)
            assert set(stable) <= seen.keys(), "a key that stayed was not given"
            assert "moving" in seen
    finally:
        ended.set()
        await writing
    assert all(len(seen[key]) == 1 for key in stable), "a version came that there was not"


def _is_whole(h: Harness, codec: RegionCodec, entry: Exported) -> None:
    sealed = codec.unseal(entry.key, entry.value)
    number = codec.decode(sealed.encoded)
    assert isinstance(number, int)
    assert sealed.version == entry.version
    assert entry.tags == (f"tag{number}",)
    assert (entry.expires_in is None) == (number % 2 == 1)
    if entry.expires_in is not None:
        assert abs(entry.expires_in / h.unit - 1000 - number) <= 200 + h.slack


@clause()
async def an_export_may_be_left(h: Harness) -> None:
    """Leaving an export before its end harms nothing, and its region may be emptied under it."""
    keys = [f"k{number}" for number in range(50)]
    await h.put_all(keys)
    left = h.backend.export(MAIN, batch_size=5)
    await anext(left)
    await left.aclose()
    async for _ in h.backend.export(MAIN, batch_size=5):
        await h.backend.clear([MAIN])
    assert await _all(h) == {}
    assert await h.backend.restore(MAIN, []) == []
