"""Shares of a total: never above it, never under the floor, and where they hit the most."""

from itertools import accumulate, product

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.unit.cache.test_patterns import zipf

from clusterdb.cache.budget import Demand, Wish, decide, floor_of, split, spread
from clusterdb.cache.entries import Entry
from clusterdb.cache.profile import Profile

TOTAL = 12_800

gains = st.lists(st.integers(0, 1000), min_size=1, max_size=8)
widths = st.integers(1, 2000)


def curve(steps: list[int], width: int) -> list[tuple[float, float]]:
    """Hits that each ``width`` bytes bring."""
    return [((at + 1) * width, hits) for at, hits in enumerate(accumulate(steps))]


@st.composite
def all_wishes(draw: st.DrawFn) -> dict[str, Wish]:
    count = draw(st.integers(1, 4))
    wishes = {}
    for number in range(count):
        top = draw(st.integers(1, TOTAL))
        points = curve(draw(gains), draw(widths))
        wishes[str(number)] = Wish(points, min(floor_of(TOTAL, count), top), top)
    return wishes


def hits(wishes: dict[str, Wish], shares: dict[str, int]) -> float:
    return sum(wish.hits(shares[name]) for name, wish in wishes.items())


@given(all_wishes())
def test_no_split_is_above_the_total_or_outside_of_the_bounds(wishes):
    shares = split(TOTAL, wishes)

    assert sum(shares.values()) <= TOTAL
    assert all(wish.floor <= shares[name] <= wish.ceiling for name, wish in wishes.items())
    capped = all(shares[name] == wish.ceiling for name, wish in wishes.items())
    assert capped or sum(shares.values()) > TOTAL - len(wishes), "bytes were left over"


@given(st.lists(st.tuples(gains, widths), min_size=2, max_size=3))
@example([([1000], 2000), ([1000, 1000, 1000], 3)])
@example([([7, 7, 7], 333), ([7, 7, 7], 333), ([7, 7, 7, 7], 333)])
def test_of_concave_curves_the_split_is_the_best_there_is(shapes):
    floor = floor_of(TOTAL, len(shapes))
    wishes = {
        str(at): Wish(curve(sorted(steps, reverse=True), width), floor, TOTAL)
        for at, (steps, width) in enumerate(shapes)
    }
    left = TOTAL - floor * len(shapes)
    grains = 32  # every split in these, by trying
    best = max(
        sum(wish.hits(floor + left * part / grains) for wish, part in zip(
            wishes.values(), (*parts, grains - sum(parts)), strict=True))
        for parts in product(range(grains + 1), repeat=len(shapes) - 1)
        if sum(parts) <= grains
    )  # fmt: skip

    assert hits(wishes, split(TOTAL, wishes)) >= best - 1e-6


def test_a_loop_gets_all_it_needs_or_nothing():
    loop = Wish([(8000, 0), (8001, 1000)], 100, TOTAL)
    steady = Wish([(12_000, 600)], 100, TOTAL)

    assert split(TOTAL, {"loop": loop, "steady": steady})["loop"] >= 8001
    larger = Wish([(TOTAL + 1, 0), (TOTAL + 2, 1000)], 100, TOTAL)
    assert split(TOTAL, {"loop": larger, "steady": steady})["steady"] >= 12_000


@given(all_wishes(), st.data())
def test_steps_are_bounded_and_end_at_a_split_that_is_worth_it(wishes, data):
    ceilings = {name: wish.ceiling for name, wish in wishes.items()}
    shares = spread(TOTAL, {}, ceilings)
    requests = data.draw(st.integers(2000, 20_000))
    after: dict[str, int] = {}
    for _ in range(200):
        after = decide(TOTAL, shares, wishes, requests)
        assert sum(after.values()) <= TOTAL
        assert all(wish.floor <= after[name] <= wish.ceiling for name, wish in wishes.items())
        assert sum(max(0, after[name] - shares[name]) for name in after) <= TOTAL // 16
        if after == shares:
            break
        shares = after
    assert after == shares, "it goes on for ever"
    best = hits(wishes, split(TOTAL, wishes))
    assert hits(wishes, shares) >= best - 0.01 * requests - 1e-6


def test_nothing_moves_for_little_or_for_few_requests():
    wishes = {"a": Wish([(TOTAL, 10_000)], 640, TOTAL), "b": Wish([], 640, TOTAL)}
    even = {"a": TOTAL // 2, "b": TOTAL // 2}

    assert decide(TOTAL, even, wishes, 1999) == even
    assert decide(TOTAL, even, wishes, 1_000_000) == even
    assert decide(TOTAL, even, wishes, 20_000) == {"a": 7200, "b": 5600}


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.none() | st.integers(1, 2 * TOTAL), min_size=1),
    st.dictionaries(st.sampled_from("abcdef"), st.none() | st.integers(1, 2 * TOTAL), min_size=1),
)
def test_new_regions_get_a_share(before, ceilings):
    both = ceilings | before
    for tops, had in ((before, {}), (both, spread(TOTAL, {}, before))):
        shares = spread(TOTAL, had, tops)
        floor = floor_of(TOTAL, len(tops))
        assert shares.keys() == tops.keys()
        assert sum(shares.values()) <= TOTAL
        for name, top in tops.items():
            most = TOTAL if top is None else top
            assert min(floor, most) <= shares[name] <= most


def test_a_new_region_takes_from_all_in_proportion():
    shares = spread(1200, {"a": 1100, "b": 100}, dict.fromkeys("abc"))

    assert shares["c"] == pytest.approx(310, abs=10)
    assert shares["a"] == pytest.approx(810, abs=20)
    assert 40 <= shares["b"] <= 100


def test_a_demand_follows_what_the_requests_are_like_now():
    demand = Demand()
    demand.look((50_000.0, [0.0, 30_000.0]))
    assert demand.requests == 50_000
    assert [hits for _, hits in demand.curve(10)] == [0, 30_000]

    for number in range(20):
        demand.look((60_000.0 + 10_000 * number, [0.0, 30_000.0]))

    assert demand.requests == pytest.approx(50_000, rel=0.05)
    assert demand.curve(10)[-1][1] < 500


def test_a_profile_tells_all_requests_and_about_how_many_could_have_hit():
    profile = Profile()
    requests = zipf(2000, 50_000)
    feed(profile, requests)
    seen, reuses = profile.reuses()

    assert seen == pytest.approx(50_000)
    assert sum(reuses) == pytest.approx(50_000 - len(set(requests)), rel=0.02)


def feed(profile: Profile, requests: list[str]) -> None:
    """As a table that forgets nothing does."""
    known: dict[str, Entry] = {}
    for key in requests:
        entry = known.get(key)
        if entry is None:
            entry = known[key] = Entry(key, None)
            profile.came(entry)
            continue
        profile.passed([entry])
        if entry.watched:
            profile.hit(entry)
