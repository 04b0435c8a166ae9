"""Claims: the right to fill a key, and everything that ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from ...claims import Claim
from ...protocols import Add, Put
from ...types import MISSING, Record, RemovalCause
from .clauses import clause
from .harness import MAIN, OTHER, Harness

__all__: list[str] = []


@clause()
async def a_live_entry_is_given_instead(h: Harness) -> None:
    """Where a live entry is, it is the answer, and nothing is claimed."""
    await h.put("k", "v")
    answer = await h.answer("k")
    assert isinstance(answer, Record)
    assert answer.value == "v"
    await h.drop("k")
    await h.claim("k")


@clause()
async def a_claim_has_one_holder(h: Harness) -> None:
    """While a claim is held nobody else gets one on that key, in that region."""
    claim = await h.claim("k")
    assert claim.key == "k"
    assert await h.answer("k") is None
    await h.claim("another")
    await h.claim("k", region=OTHER)
    answers = await h.backend.claim(MAIN, ["k", "new", "new"], (), 30 * h.unit)
    assert answers[0] is None
    assert isinstance(answers[1], Claim)
    assert answers[2] is None


@clause()
async def of_many_claimants_one_wins(h: Harness) -> None:
    """Of a hundred concurrent claimants one gets the claim."""
    answers = await asyncio.gather(*[h.answer("k") for _ in range(100)])
    assert sum([isinstance(answer, Claim) for answer in answers]) == 1
    assert answers.count(None) == 99


@clause()
async def a_fill_stores(h: Harness) -> None:
    """A fill stores value, TTL and the claim's tags, and ends the claim."""
    claim = await h.claim("k", "t", "u")
    assert await h.fill(claim, "loaded", ttl=10)
    record = await h.found("k")
    assert (record.value, sorted(record.tags)) == ("loaded", ["t", "u"])
    assert h.left(record, 10)
    await h.backend.invalidate_tags(["u"])
    assert await h.value("k") is MISSING
    await h.claim("k")


@clause()
async def a_claim_fills_once(h: Harness) -> None:
    """A claim that was filled can't be filled again."""
    claim = await h.claim("k")
    assert await h.fill(claim, 1)
    assert not await h.fill(claim, 2)
    assert await h.value("k") == 1
    await h.drop("k")
    assert not await h.fill(claim, 3)
    assert await h.value("k") is MISSING


@clause()
async def a_fill_has_a_version(h: Harness) -> None:
    """The version of a fill grows as that of any write."""
    version = (await h.put("other", 1)).version
    claim = await h.claim("k")
    [outcome] = await h.backend.fill(MAIN, [(claim, Put("k", 1))])
    assert not isinstance(outcome, Exception)
    assert outcome.version == (await h.found("k")).version > version


@clause()
async def fills_are_answered_in_order(h: Harness) -> None:
    """Each fill is answered in its place, lost ones among them."""
    claims = [await h.claim(key) for key in ("a", "b", "c")]
    await h.put("b", "written")
    fills = [(claim, Put(claim.key, "loaded")) for claim in claims]
    outcomes = await h.backend.fill(MAIN, fills)
    applied = [not isinstance(outcome, Exception) and outcome.applied for outcome in outcomes]
    assert applied == [True, False, True]
    assert [await h.value(key) for key in ("a", "b", "c")] == ["loaded", "written", "loaded"]


_Ending = Callable[[Harness], Awaitable[object]]


async def _commit_put(h: Harness) -> None:
    if "atomic" in h.backend.capabilities:
        assert await h.backend.commit(MAIN, [], [Put("k", "written")])
    else:
        await h.put("k", "written")


_ENDINGS: dict[str, tuple[_Ending, object]] = {
    "put": (lambda h: h.put("k", "written"), "written"),
    "put_absent": (lambda h: h.put("k", "written", when="absent"), "written"),
    "add": (lambda h: h.one(Add("k", 1, 0, None)), 1),
    "commit": (_commit_put, "written"),
    "delete": (lambda h: h.drop("k"), MISSING),
    "invalidate": (lambda h: h.drop("k", RemovalCause.INVALIDATED), MISSING),
    "clear": (lambda h: h.backend.clear([MAIN]), MISSING),
    "invalidate_tag": (lambda h: h.backend.invalidate_tags(["t"]), MISSING),
}
"""What ends a claim, and what is under its key then."""


async def _proves_end(h: Harness, end: _Ending, left: object) -> None:
    claim = await h.claim("k", "t", "u")
    await end(h)
    assert not await h.fill(claim, "too late"), "the fill of an ended claim was stored"
    assert await h.value("k") == left
    if left is MISSING:
        await h.claim("k", "t", "u")


async def _proves_end_of_fence(h: Harness, end: _Ending, left: object) -> None:
    [fence] = await h.fence("k")
    await h.backend.extend(MAIN, [fence], ("t", "u"))
    await end(h)
    assert not await h.fill(fence, "too late"), "the fill of an ended fence was stored"
    assert await h.value("k") == left


async def _proves_successor(h: Harness, end: _Ending, left: object) -> None:
    first = await h.claim("k", "t")
    await end(h)
    if left is not MISSING:
        await h.drop("k")
    second = await h.claim("k", "t")
    assert not await h.fill(first, "too late")
    await h.release(first)
    assert await h.answer("k") is None, "the old claim ended the new one"
    assert await h.fill(second, "loaded")
    assert await h.value("k") == "loaded"


def _register(name: str, end: _Ending, left: object) -> None:
    async def proves_end(h: Harness) -> None:
        await _proves_end(h, end, left)

    async def proves_successor(h: Harness) -> None:
        await _proves_successor(h, end, left)

    async def proves_end_of_fence(h: Harness) -> None:
        await _proves_end_of_fence(h, end, left)

    proves_end.__name__ = f"{name}_ends_a_claim"
    proves_end.__doc__ = f"After a {name} a fill stores nothing, and the key can be claimed anew."
    proves_successor.__name__ = f"after_{name}_the_next_claim_is_safe"
    proves_successor.__doc__ = f"A claim ended by {name} can neither fill nor end the next one."
    proves_end_of_fence.__name__ = f"{name}_ends_a_fence"
    proves_end_of_fence.__doc__ = f"After a {name} the fill of a fence stores nothing."
    clause()(proves_end)
    if name != "invalidate":
        clause()(proves_end_of_fence)
    clause()(proves_successor)


for _name, (_end, _left) in _ENDINGS.items():
    _register(_name, _end, _left)


@clause()
async def a_fence_takes_the_place_of_an_entry(h: Harness) -> None:
    """A fence removes what is there, is absence to readers, and is filled as any claim."""
    await h.put("k", "old", ttl=10)
    await h.put("kk", "other")
    fence, second = await h.fence("k", "new")
    await h.backend.extend(MAIN, [fence], ("t",))
    assert await h.value("k") is MISSING
    assert await h.scan() == ["kk"]
    assert await h.answer("k") is None
    assert await h.fill(fence, "written", ttl=10)
    assert await h.fill(second, "too")
    record = await h.found("k")
    assert (record.value, record.tags) == ("written", ("t",))
    assert h.left(record, 10)
    await h.backend.invalidate_tags(["t"])
    assert await h.value("k") is MISSING
    assert await h.value("new") == "too"


@clause()
async def a_fence_ends_a_claim(h: Harness) -> None:
    """What was claimed before a fence can neither be filled nor end it."""
    claim = await h.claim("k")
    [fence] = await h.fence("k")
    assert not await h.fill(claim, "too late")
    await h.release(claim)
    assert await h.answer("k") is None, "the old claim ended the fence"
    assert await h.fill(fence, "written")
    assert await h.value("k") == "written"


@clause()
async def an_invalidation_spares_a_fence(h: Harness) -> None:
    """A fence is no copy: what invalidates its key leaves it where it is."""
    [fence] = await h.fence("k")
    assert not await h.drop("k", RemovalCause.INVALIDATED)
    assert await h.answer("k") is None, "the fence is gone"
    assert await h.fill(fence, "written")
    assert await h.value("k") == "written"
    assert await h.drop("k", RemovalCause.INVALIDATED)


@clause()
async def the_last_fence_stands(h: Harness) -> None:
    """A fence ends the fence before it, whose fill stores nothing."""
    [first] = await h.fence("k")
    [second] = await h.fence("k")
    assert not await h.fill(first, "too late")
    await h.release(first)
    assert await h.answer("k") is None
    assert await h.fill(second, "written")
    assert await h.value("k") == "written"


@clause()
async def a_released_fence_leaves_nothing(h: Harness) -> None:
    """A fence that is given back leaves absence, and the key can be claimed at once."""
    h.configure(grace=20)
    await h.put("k", "old", ttl=2)
    await h.advance(3)
    [fence] = await h.fence("k")
    await h.release(fence)
    assert await h.glance("k", stale=True) is None
    await h.claim("k")


@clause()
async def other_keys_leave_a_claim_alone(h: Harness) -> None:
    """What happens to other keys, tags and regions does not end a claim."""
    claim = await h.claim("k", "t")
    await h.put("k", 1, region=OTHER)
    await h.put("kk", 1, tags=("t",))
    await h.drop("kk")
    await h.backend.invalidate_tags(["other"])
    await h.backend.clear([OTHER])
    assert await h.fill(claim, "loaded")


@clause()
async def a_reused_tag_does_not_revive_a_claim(h: Harness) -> None:
    """A tag that ended and is used again does not make an old claim good."""
    claim = await h.claim("k", "t")
    await h.backend.invalidate_tags(["t"])
    await h.put("user", 1, tags=("t",))
    assert not await h.fill(claim, "too late")
    assert await h.value("user") == 1


@clause()
async def a_claim_is_absence(h: Harness) -> None:
    """To reads, looks, touches, removals, scans and conditions a claim is nothing."""
    await h.claim("k")
    assert await h.record("k") is None
    assert await h.record("k", stale=True) is None
    assert await h.glance("k") is None
    assert not (await h.touch("k", 10)).applied
    assert not (await h.put("k", 1, when="present")).applied
    assert await h.scan() == []
    assert not (await h.backend.describe()).regions[MAIN].items, "it is counted as an entry"
    assert not await h.drop("k")


@clause("atomic")
async def a_check_takes_a_claim_for_absence(h: Harness) -> None:
    """A check for absence holds where only a claim is."""
    await h.claim("k")
    assert await h.backend.commit(MAIN, [("k", None)], [Put("other", 1)])


@clause()
async def what_is_refused_ends_no_claim(h: Harness) -> None:
    """A touch, or a write whose condition fails, is nothing that happened to the key."""
    claim = await h.claim("k")
    await h.touch("k", 10)
    await h.put("k", 1, when="present")
    await h.record("k")
    await h.glance("k")
    assert await h.fill(claim, "loaded")


@clause()
async def extend_adds_dependence(h: Harness) -> None:
    """After ``extend`` the end of the new tag ends the claim, too."""
    claim = await h.claim("k", "t")
    await h.backend.extend(MAIN, [claim], ("late",))
    await h.backend.invalidate_tags(["late"])
    assert not await h.fill(claim, "too late")
    assert await h.value("k") is MISSING


@clause()
async def extend_keeps_the_first_tags(h: Harness) -> None:
    """After ``extend`` the tags that the claim was taken with still count."""
    claim = await h.claim("k", "t")
    await h.backend.extend(MAIN, [claim], ("late",))
    await h.backend.invalidate_tags(["t"])
    assert not await h.fill(claim, "too late")


@clause()
async def extend_takes_the_present_state(h: Harness) -> None:
    """What happened to a tag before ``extend`` does not count; the entry has all tags."""
    claim = await h.claim("k", "t")
    await h.backend.invalidate_tags(["late"])
    await h.backend.extend(MAIN, [claim], ("late",))
    assert await h.fill(claim, "loaded")
    assert sorted((await h.found("k")).tags) == ["late", "t"]
    await h.backend.invalidate_tags(["late"])
    assert await h.value("k") is MISSING


@clause()
async def extend_revives_nothing(h: Harness) -> None:
    """Extending a claim that ended does not make it good."""
    claim = await h.claim("k")
    await h.drop("k")
    await h.backend.extend(MAIN, [claim], ("late",))
    assert not await h.fill(claim, "too late")
    assert await h.value("k") is MISSING


@clause()
async def release_gives_back(h: Harness) -> None:
    """A released claim can't be filled, and the key can be claimed at once."""
    claim = await h.claim("k")
    await h.release(claim)
    second = await h.claim("k")
    assert not await h.fill(claim, "too late")
    assert await h.fill(second, "loaded")


@clause()
async def release_is_idempotent(h: Harness) -> None:
    """Releasing again, after a fill, or after another took over, changes nothing."""
    claim = await h.claim("k")
    await h.release(claim)
    second = await h.claim("k")
    await h.release(claim, claim)
    assert await h.answer("k") is None, "an old release ended a new claim"
    assert await h.fill(second, "loaded")
    await h.release(second)
    assert await h.value("k") == "loaded"
    await h.release()


@clause()
async def a_stale_entry_waits_for_the_fill(h: Harness) -> None:
    """An expired entry is claimed, and stays within its grace until the fill replaces it."""
    h.configure(grace=20)
    await h.put("k", "old", ttl=2)
    await h.advance(3)
    claim = await h.claim("k")
    stale = await h.glance("k", stale=True)
    assert stale is not None
    assert stale.value == "old"
    assert await h.fill(claim, "new")
    assert await h.value("k") == "new"


@clause()
async def an_entry_whose_tag_ended_is_claimed(h: Harness) -> None:
    """Where the tag of an entry ended, the key is claimed, and the fill replaces the entry."""
    await h.put("k", "old", tags=("t",))
    await h.backend.invalidate_tags(["t"])
    claim = await h.claim("k", "t")
    assert await h.fill(claim, "new")
    assert await h.value("k") == "new"


@clause("limits")
async def a_failed_fill_ends_its_claim(h: Harness) -> None:
    """A fill that fails says so in its place and ends its claim, as any fill does."""
    h.configure(max_weight=2000)
    claims = [await h.claim(key) for key in ("big", "small")]
    fills = [(claims[0], Put("big", "x" * 3000)), (claims[1], Put("small", "x"))]
    outcomes = await h.backend.fill(MAIN, fills)
    assert isinstance(outcomes[0], Exception)
    assert await h.value("small") == "x"
    await h.claim("big")
