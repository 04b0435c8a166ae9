"""Tags: one call ends every entry that has them, in all regions."""

from __future__ import annotations

from ...protocols import Put
from ...types import MISSING
from .clauses import clause
from .harness import MAIN, OTHER, Harness

__all__: list[str] = []

_ODD_TAGS = (" ", "*", "a,b", "a:b", "{x}", "\x00", "тег", "\U0001f600", "x" * 1024)


@clause()
async def a_tag_ends_its_entries(h: Harness) -> None:
    """Every entry with the tag is absent, whatever other tags it has; the others stay."""
    await h.put("one", 1, tags=("t",))
    await h.put("two", 1, tags=("u", "t"))
    await h.put("other", 1, tags=("u",))
    await h.put("none", 1)
    await h.backend.invalidate_tags(["t"])
    values = [await h.value(key) for key in ("one", "two", "other", "none")]
    assert values == [MISSING, MISSING, 1, 1]


@clause()
async def what_ended_is_absent_to_all(h: Harness) -> None:
    """To looks, conditions, touches, sums and removals an entry whose tag ended is absent."""
    await h.put_all(["look", "present", "absent", "touch", "drop"], tags=("t",))
    await h.put("add", 5, tags=("t",))
    await h.backend.invalidate_tags(["t"])
    assert await h.glance("look") is None
    assert not (await h.put("present", 1, when="present")).applied
    assert (await h.put("absent", 1, when="absent")).applied
    assert not (await h.touch("touch", 10)).applied
    assert await h.add("add", 1) == 1
    assert not await h.drop("drop")


@clause()
async def what_ended_is_never_stale(h: Harness) -> None:
    """Grace is for what expired: an entry whose tag ended answers no stale read."""
    h.configure(grace=20)
    await h.put("live", 1, tags=("t",))
    await h.put("stale", 1, ttl=2, tags=("t",))
    await h.advance(3)
    await h.backend.invalidate_tags(["t"])
    for key in ("live", "stale"):
        assert await h.glance(key, stale=True) is None
        assert await h.record(key, stale=True) is None


@clause()
async def a_tag_reaches_every_region(h: Harness) -> None:
    """Tags belong to the whole cache."""
    await h.put("k", 1, tags=("t",))
    await h.put("k", 1, region=OTHER, tags=("t",))
    await h.backend.invalidate_tags(["t"])
    assert await h.value("k") is MISSING
    assert await h.value("k", OTHER) is MISSING


@clause()
async def a_tag_can_be_used_again(h: Harness) -> None:
    """What is written after the end of a tag lives, and can be ended again."""
    await h.put("unread", 1, tags=("t",))
    for number in range(3):
        await h.put("k", number, tags=("t",))
        assert await h.value("k") == number
        await h.backend.invalidate_tags(["t"])
    assert await h.value("k") is MISSING


@clause()
async def old_entries_do_not_come_back(h: Harness) -> None:
    """Using a tag again revives nothing that had ended."""
    await h.put("old", 1, tags=("t",))
    await h.backend.invalidate_tags(["t"])
    await h.put("new", 1, tags=("t",))
    assert await h.value("old") is MISSING
    assert await h.value("new") == 1


@clause()
async def an_overwrite_leaves_its_old_tags(h: Harness) -> None:
    """An entry has the tags of its last write only."""
    await h.put("k", 1, tags=("old",))
    await h.put("k", 2, tags=("new",))
    await h.backend.invalidate_tags(["old"])
    assert await h.value("k") == 2
    await h.put("k", 3)
    await h.backend.invalidate_tags(["new"])
    assert await h.value("k") == 3


@clause()
async def a_refused_write_changes_no_tags(h: Harness) -> None:
    """A write whose condition failed leaves the tags of what is there."""
    await h.put("k", 1, tags=("t",))
    await h.put("k", 2, tags=("u",), when="absent")
    await h.backend.invalidate_tags(["u"])
    assert await h.value("k") == 1
    await h.backend.invalidate_tags(["t"])
    assert await h.value("k") is MISSING


@clause()
async def touches_and_sums_keep_tags(h: Harness) -> None:
    """After a touch or a sum the entry ends with its tags as before."""
    await h.put("touched", 1, tags=("t",))
    await h.put("added", 1, tags=("t",))
    await h.touch("touched", 10)
    await h.add("added", 1)
    await h.backend.invalidate_tags(["t"])
    assert await h.value("touched") is MISSING
    assert await h.value("added") is MISSING


@clause("atomic")
async def a_commit_counts_tags(h: Harness) -> None:
    """What a commit stored ends with its tags."""
    await h.backend.commit(MAIN, [], [Put("a", 1, None, ("t",)), Put("b", 1)])
    await h.backend.invalidate_tags(["t"])
    assert [await h.value(key) for key in ("a", "b")] == [MISSING, 1]


@clause()
async def several_tags_in_one_call(h: Harness) -> None:
    """One call ends several tags, unknown ones and doubles among them."""
    for tag in ("a", "b", "c"):
        await h.put(tag, 1, tags=(tag,))
    await h.backend.invalidate_tags(["a", "unknown", "b", "a"])
    assert [await h.value(key) for key in ("a", "b", "c")] == [MISSING, MISSING, 1]
    assert await h.backend.invalidate_tags([]) == 0


@clause()
async def tag_names_are_exact(h: Harness) -> None:
    """Any Unicode tag is taken as it is, and no two are mixed up."""
    for number, tag in enumerate(_ODD_TAGS):
        await h.put(f"k{number}", 1, tags=(tag,))
        assert (await h.found(f"k{number}")).tags == (tag,)
    for number, tag in enumerate(_ODD_TAGS):
        await h.backend.invalidate_tags([tag])
        alive = [await h.value(f"k{other}") for other in range(len(_ODD_TAGS))]
        assert alive == [MISSING] * (number + 1) + [1] * (len(_ODD_TAGS) - number - 1)


@clause("tag_counts")
async def a_tag_counts_what_it_ended(h: Harness) -> None:
    """The answer is how many entries and claims pointed to the tags."""
    await h.put_all(["a", "b"], tags=("t", "u"))
    await h.put("c", 1, region=OTHER, tags=("t",))
    await h.claim("d", "t")
    assert await h.backend.invalidate_tags(["t"]) == 4
    assert await h.backend.invalidate_tags(["t"]) == 0
    assert await h.backend.invalidate_tags(["unknown"]) == 0


@clause("tag_counts")
async def tags_are_known_while_used(h: Harness) -> None:
    """``describe`` counts the tags that something points to, and no others."""
    assert (await h.backend.describe()).tags == 0
    await h.put("a", 1, tags=("t", "u"))
    await h.put("b", 1, tags=("u",))
    assert (await h.backend.describe()).tags == 2
    await h.drop("a")
    assert (await h.backend.describe()).tags == 1
    await h.put("b", 2)
    assert (await h.backend.describe()).tags == 0
    await h.release(await h.claim("c", "t"))
    assert (await h.backend.describe()).tags == 0
