"""Weights that even out a ring: what moves by them is counted, and compared with real rings."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from clusterdb.cache.partition import HashRing
from clusterdb.cache.partition.placement import Placed, Placement
from clusterdb.cache.partition.reweighing import MOST, place_of, reweighed

KEYS = [b"main:default:k%d" % n for n in range(2_000)]
PLACES = sorted(map(place_of, KEYS))
WEIGHTS = st.lists(st.sampled_from([0.25, 0.5, 1.0, 2.0, 4.0]), min_size=1, max_size=5).map(
    lambda weights: {f"10.0.0.{n}:6379": weight for n, weight in enumerate(weights)}
)


def owners(weights: dict[str, float]) -> list[str]:
    ring = HashRing(weights, virtual_nodes=32)
    return [ring.owners(key)[0] for key in KEYS]


@settings(max_examples=40, deadline=None)
@given(WEIGHTS, st.sampled_from([0.1, 0.3, 0.9]))
def test_a_plan_is_what_rings_do_and_moves_hardly_more_than_has_to(weights, threshold):
    found = reweighed(weights, 32, PLACES, threshold)

    before, after = owners(weights), owners(found.weights)
    pairs = Counter(pair for pair in zip(before, after, strict=True) if pair[0] != pair[1])
    assert found.flows == dict(pairs)
    assert found.before == {name: before.count(name) for name in weights}
    assert found.after == {name: after.count(name) for name in weights}
    assert found.keys <= MOST * found.least


def test_one_server_with_too_much_is_brought_to_the_mean_by_the_least():
    weights = {"a:1": 4.0, "b:1": 1.0, "c:1": 1.0}
    found = reweighed(weights, 256, PLACES, 0.3)

    assert found.keys == found.least > 0
    assert max(found.after.values()) <= 1.15 * len(KEYS) / 3
    again = reweighed(found.weights, 256, PLACES, 0.3)
    assert (again.weights, again.keys) == (found.weights, 0)


def test_an_even_ring_and_an_empty_one_stay_as_they_are():
    weights = {"a:1": 1.0, "b:1": 1.0, "c:1": 1.0}
    for places in (PLACES, []):
        found = reweighed(weights, 256, places, 0.3)
        assert (found.weights, found.keys, found.least) == (weights, 0, 0)


def test_a_placement_is_read_as_it_was_written_and_nothing_else_is_one():
    placement = Placement(
        epoch=7,
        weights={"a:1": 0.5, "/run/redis.sock": 1.0},
        virtual_nodes=64,
        change="c0ffee",
        stage="moving",
        before={"a:1": 1.0, "/run/redis.sock": 1.0},
        token="t",
    )
    assert placement.text().startswith(b"7.c0ffee moving t {")
    assert Placement.read(placement.text()) == placement
    for other in (None, b"", b"7.c0ffee moving t", b"1 2 3 {}", 5):
        assert Placement.read(other) is None


def test_a_key_that_moves_is_asked_for_at_its_old_server_first():
    old, new = {"a:1": 4.0, "b:1": 1.0}, {"a:1": 1.0, "b:1": 1.0}
    placed = Placed(Placement(epoch=2, weights=new, before=old, virtual_nodes=64))
    rings = [HashRing(each, virtual_nodes=64) for each in (old, new)]

    for key in KEYS[:300]:
        first, then = [ring.owners(key)[0] for ring in rings]
        assert placed.seat(key) == (first, None if first == then else then)
