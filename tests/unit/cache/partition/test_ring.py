"""Where keys go on a ring, and how many move when it changes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.effort import times

from clusterdb.cache.errors import InvalidArgument
from clusterdb.cache.partition import HashRing, hash64, hash_tag

GOLDEN = json.loads((Path(__file__).parent / "golden" / "ring-1.json").read_text(encoding="utf-8"))
KEYS = [b"main:default:user:%d" % n for n in range(2000)]

addresses = st.lists(
    st.builds("{}:{}".format, st.from_regex(r"[a-z0-9.-]{1,12}", fullmatch=True), st.integers()),
    min_size=3,
    max_size=10,
    unique=True,
)


def ring_of(nodes, **options):
    return HashRing(dict.fromkeys(nodes, 1.0), **options)


@pytest.mark.parametrize("case", GOLDEN["rings"], ids=lambda case: str(case["virtual_nodes"]))
def test_places_are_those_of_all_releases_and_languages(case):
    ring = HashRing(case["nodes"], virtual_nodes=case["virtual_nodes"], copies=case["copies"])
    assert {key: list(ring.owners(key.encode())) for key in case["owners"]} == case["owners"]


def test_the_hash_is_that_of_all_releases_and_languages():
    assert {text: hash64(text.encode()).hex() for text in GOLDEN["hash64"]} == GOLDEN["hash64"]


@given(nodes=addresses, data=st.data())
@settings(max_examples=times(30))
def test_a_node_that_joins_takes_only_its_share_and_takes_it_for_itself(nodes, data):
    """Leaving is the same, seen from the other side."""
    node = data.draw(st.sampled_from(nodes))
    without = ring_of([each for each in nodes if each != node])
    whole = ring_of(nodes)
    moved = [key for key in KEYS if without.owners(key) != whole.owners(key)]

    assert all(whole.owners(key) == (node,) for key in moved)
    due = 1 / len(nodes)
    # 6 standard deviations of a share of 256 points and of this sample: names may be unlucky
    spread = 6 * (due * (1 - due) * (1 / (256 * len(nodes)) + 1 / len(KEYS))) ** 0.5
    assert len(moved) / len(KEYS) <= due + spread


@pytest.mark.parametrize("count", range(2, 17))
def test_a_node_more_moves_no_more_than_its_share_and_five_percent(count):
    nodes = [f"cache-{n}.example.org:6379" for n in range(count)]
    fewer, more = ring_of(nodes[:-1]), ring_of(nodes)
    moved = [key for key in KEYS if fewer.owners(key) != more.owners(key)]

    assert 0 < len(moved) / len(KEYS) <= 1 / count + 0.05


@given(nodes=addresses, copies=st.integers(2, 3), data=st.data())
@settings(max_examples=times(20))
def test_with_copies_a_node_that_leaves_changes_only_its_own_place(nodes, copies, data):
    """Each key keeps its other owners, in their order, and gets one more behind them."""
    node = data.draw(st.sampled_from(nodes))
    rest = [each for each in nodes if each != node]
    copies = min(copies, len(rest))
    before, after = ring_of(nodes, copies=copies), ring_of(rest, copies=copies)
    for key in KEYS[:500]:
        kept = tuple(each for each in before.owners(key) if each != node)
        assert after.owners(key)[: len(kept)] == kept


@given(nodes=addresses, key=st.binary(max_size=40), points=st.integers(1, 5))
def test_owners_are_distinct_and_fewer_copies_are_the_first_of_more(nodes, key, points):
    most = ring_of(nodes, virtual_nodes=points, copies=len(nodes)).owners(key)

    assert sorted(most) == sorted(nodes)
    for copies in range(1, len(nodes)):
        ring = ring_of(nodes, virtual_nodes=points, copies=copies)
        assert ring.owners(key) == most[:copies]


@given(nodes=addresses, data=st.data())
@settings(max_examples=times(20))
def test_the_order_in_which_nodes_are_named_does_not_matter(nodes, data):
    other = data.draw(st.permutations(nodes))
    first, second = ring_of(nodes, copies=2), ring_of(other, copies=2)
    assert [first.owners(key) for key in KEYS[:200]] == [second.owners(key) for key in KEYS[:200]]


def shares(ring, keys=40_000):
    counts = Counter(ring.owners(b"%d" % n)[0] for n in range(keys))
    return {node: count / keys for node, count in counts.items()}


@pytest.mark.parametrize("count", [2, 3, 5, 8, 16])
def test_keys_are_spread_evenly(count):
    """The relative spread of shares, which chi-square sums up, is 1/sqrt(256) by design."""
    found = shares(ring_of([f"10.0.{count}.{n}:6379" for n in range(count)]))
    variance = sum((share * count - 1) ** 2 for share in found.values()) / count

    assert len(found) == count
    assert variance**0.5 < 1.8 / 256**0.5
    assert max(found.values()) * count < 1.25


def test_weights_are_shares():
    found = shares(HashRing({"a": 1.0, "b": 2.0, "c": 0.5, "d": 0.5}))

    for node, due in {"a": 0.25, "b": 0.5, "c": 0.125, "d": 0.125}.items():
        assert found[node] == pytest.approx(due, rel=0.25)


def test_a_change_of_weight_moves_keys_only_to_or_from_that_node():
    light = HashRing({"a": 1.0, "b": 1.0, "c": 1.0})
    heavy = HashRing({"a": 1.0, "b": 1.0, "c": 2.0})
    moved = [key for key in KEYS if light.owners(key) != heavy.owners(key)]

    assert moved
    assert all(heavy.owners(key) == ("c",) for key in moved)


def test_the_lightest_node_still_has_a_point():
    ring = HashRing({"a": 1.0, "b": 0.001}, virtual_nodes=10, copies=2)
    assert set(ring.owners(b"key")) == {"a", "b"}


@given(tag=st.binary(min_size=1), before=st.binary(), after=st.binary())
def test_keys_with_one_tag_are_neighbours(tag, before, after):
    tag, before = tag.replace(b"}", b"") or b"t", before.replace(b"{", b"")
    ring = ring_of(["a", "b", "c"])
    assert ring.owners(before + b"{" + tag + b"}" + after) == ring.owners(b"{" + tag + b"}")


@pytest.mark.parametrize(
    ("key", "hashed"),
    [(b"a{b}c", b"b"), (b"a{}{b}", b"a{}{b}"), (b"{{a}}", b"{a"), (b"a}b{c", b"a}b{c")],
)
def test_tags_are_those_of_redis_cluster(key, hashed):
    assert hash_tag(key) == hashed


@pytest.mark.parametrize("copies", [0, 3])
def test_copies_need_nodes(copies):
    with pytest.raises(InvalidArgument, match=f"{copies} copies of each key"):
        ring_of(["a", "b"], copies=copies)
