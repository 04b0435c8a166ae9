"""Which backups may go, and which the next builds on."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.effort import times

from clusterdb.cache import BackupCorrupt, UnknownBackup
from clusterdb.cache.backup.chains import (
    Catalog,
    abandoned,
    expired,
    next_sequence,
    pick,
    usable_parent,
)
from clusterdb.cache.backup.manifest import BackupFile, Manifest

DAY = 86_400.0


def catalog(*backups, lost=(), **fields):
    """Backups by (name, day, parent's name), in the order they were made; ``lost`` ones have lost
    their file.
    """
    made: dict[str, Manifest] = {}
    for sequence, (name, day, parent) in enumerate(backups, 1):
        chain = (*made[parent].chain, name) if parent else (name,)
        file = BackupFile(name=f"{name}/e.avro", kind="entries", records=1, size=10, sha256="")
        made[name] = Manifest(
            id=name,
            cache="main",
            backend="memory",
            sequence=sequence,
            kind="incremental" if parent else "full",
            chain=chain,
            started=day * DAY,
            finished=day * DAY,
            regions={},
            files=(file,),
        )
    sizes = {f"{name}/e.avro": 10 for name in made if name not in lost}
    return Catalog(complete=tuple(made.values()), sizes=sizes, **fields)


def gone(found, now, retention=7):
    return [each.id for each in expired(found, now * DAY, retention * DAY)]


def test_what_is_older_than_the_retention_goes_the_newest_first():
    assert gone(catalog(("a", 1, ""), ("b", 2, ""), ("c", 9, "")), now=10) == ["b", "a"]


def test_the_last_good_chain_stays_however_old_it_is():
    found = catalog(("a", 1, ""), ("b", 2, "a"), ("c", 3, "b"))

    assert gone(found, now=100) == []


def test_a_broken_last_backup_does_not_cost_the_good_one_before_it():
    found = catalog(("a", 1, ""), ("b", 2, ""), ("c", 3, ""), lost=["c"])

    assert gone(found, now=100) == ["c", "a"]


def test_the_parent_of_one_that_stays_stays():
    found = catalog(("a", 1, ""), ("b", 2, "a"), ("c", 9, "b"), ("d", 10, ""))

    assert gone(found, now=10) == []


def test_a_backup_that_seems_to_be_of_the_future_stays():
    assert gone(catalog(("a", 50, ""), ("b", 1, "")), now=2) == []


@st.composite
def histories(draw):
    count = draw(st.integers(0, 8))
    backups: list[tuple[str, int, str]] = []
    for at in range(count):
        parents = ["", *[name for name, _, _ in backups]]
        backups.append((f"b{at}", draw(st.integers(0, 30)), draw(st.sampled_from(parents))))
    lost = draw(st.sets(st.sampled_from([name for name, _, _ in backups]))) if backups else set()
    return catalog(*backups, lost=lost)


@settings(max_examples=times(300))
@given(histories(), st.integers(0, 60), st.integers(1, 20))
def test_retention_never_breaks_what_it_keeps(found, now, retention):
    removed = set(gone(found, now, retention))
    kept = [each for each in found.complete if each.id not in removed]
    good_before = [each for each in found.complete if found.is_good(each)]

    for each in kept:
        assert not removed & set(each.chain)
    if good_before:
        assert good_before[-1] in kept
    for each in found.complete:
        if now * DAY - each.finished <= retention * DAY:
            assert each in kept
    # The newest go first, so that a clean-up that is cut short breaks no chain either.
    order = gone(found, now, retention)
    by_name = {each.id: each for each in found.complete}
    for at, name in enumerate(order):
        assert not any(name in by_name[later].chain for later in order[at + 1 :])


def test_the_next_builds_on_the_last_until_the_chain_is_long_enough():
    found = catalog(("a", 1, ""), ("b", 2, "a"))

    assert usable_parent(found, 3, [""]) == found.complete[-1]
    assert usable_parent(found, 2, [""]) is None
    assert usable_parent(found, 1, [""]) is None
    assert usable_parent(catalog(), 3, [""]) is None


def test_the_next_builds_on_nothing_that_is_broken_or_of_another_key():
    found = catalog(("a", 1, ""), ("b", 2, "a"), lost=["a"])

    assert usable_parent(found, 9, [""]) is None
    assert usable_parent(catalog(("a", 1, "")), 9, ["another key"]) is None


def test_sequences_grow_whatever_the_clock_says():
    assert next_sequence(catalog(("a", 9, ""), ("b", 1, ""))) == 3
    assert next_sequence(catalog()) == 1


def test_the_last_good_one_is_picked_and_names_are_explained():
    found = catalog(("a", 1, ""), ("b", 2, ""), lost=["b"], unfinished=("c",))

    assert pick(found, None).id == "a"
    assert pick(found, "b").id == "b"
    with pytest.raises(UnknownBackup, match="never finished"):
        pick(found, "c")
    with pytest.raises(UnknownBackup, match="there are a, b"):
        pick(found, "d")
    with pytest.raises(BackupCorrupt, match="is missing"):
        found.chain(found.complete[1])


def test_only_what_nobody_has_touched_for_long_is_abandoned():
    found = Catalog(unfinished=("old", "new"), touched={"old": 0.0, "new": 9000.0}, now=9100.0)

    assert abandoned(found) == ["old"]
