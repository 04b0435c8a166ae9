"""What moves between servers: as little as can be, until none is far from the mean."""

from hypothesis import given
from hypothesis import strategies as st

from clusterdb.cache.partition import balanced_loads, even_weights, least_moves, part_moves

LOADS = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 100_000), min_size=1)
THRESHOLDS = st.sampled_from([0.05, 0.1, 0.2, 0.5, 1.0])


@given(LOADS, THRESHOLDS)
def test_loads_are_evened_out_by_the_least_that_has_to_move(loads, threshold):
    wanted = balanced_loads(loads, threshold)

    mean = sum(loads.values()) / len(loads)
    assert sum(wanted.values()) == sum(loads.values())
    if all(abs(load - mean) <= threshold * mean for load in loads.values()):
        assert wanted == loads
        return
    low, high = mean * (1 - threshold / 2), mean * (1 + threshold / 2)
    assert all(low - 1 <= load <= high + 1 for load in wanted.values())
    over = sum([max(0.0, load - high) for load in loads.values()])
    under = sum([max(0.0, low - load) for load in loads.values()])
    assert least_moves(loads, wanted) <= max(over, under) + len(loads)


@given(
    st.dictionaries(
        st.sampled_from("abcd"),
        st.dictionaries(st.integers(0, 16_383), st.integers(0, 50), max_size=30),
        min_size=1,
    ),
    THRESHOLDS,
)
def test_parts_that_move_are_never_more_than_the_minimum(parts, threshold):
    moves, least = part_moves(parts, threshold)

    assert sum([move.keys for move in moves]) <= least
    assert len({(move.source, move.part) for move in moves}) == len(moves)
    for move in moves:
        assert parts[move.source][move.part] == move.keys > 0
        assert move.source != move.target


def test_a_server_that_is_new_gets_its_share():
    parts = {"a": dict.fromkeys(range(100), 10), "b": dict.fromkeys(range(100, 200), 10), "new": {}}

    moves, least = part_moves(parts, 0.2)

    moved = sum([move.keys for move in moves])
    assert {move.target for move in moves} == {"new"}
    assert least - 10 <= moved <= least
    assert moved >= 0.9 * 2000 / 3 - 20


def test_a_part_that_is_too_large_to_fit_moves_where_that_is_better():
    large = {"a": {1: 600, 2: 600}, "b": {}, "c": {}}

    moves, _ = part_moves(large, 0.2)

    assert [(move.source, move.keys) for move in moves] == [("a", 600)]
    assert part_moves({"a": {1: 1200}, "b": {}}, 0.2)[0] == [], "it would only be too much there"


@given(st.lists(st.tuples(st.floats(0.1, 4), st.integers(0, 10_000)), min_size=1, max_size=6))
def test_weights_that_even_out_a_ring_are_ones_that_a_ring_takes(servers):
    weights = {str(n): weight for n, (weight, _) in enumerate(servers)}
    loads = {str(n): load for n, (_, load) in enumerate(servers)}

    even = even_weights(weights, loads, 0.2)

    assert all(0 < weight <= 16 for weight in even.values())
    if even != weights:
        assert max(even.values()) == 1


def test_a_server_with_twice_the_keys_gets_half_the_weight():
    assert even_weights({"a": 1, "b": 1}, {"a": 200, "b": 100}, 0.2) == {"a": 0.5, "b": 1.0}
    assert even_weights({"a": 1, "b": 1}, {"a": 110, "b": 100}, 0.2) == {"a": 1, "b": 1}
    assert even_weights({"a": 1, "b": 1}, {"a": 110, "b": 0}, 0.2) == {"a": 1, "b": 1}
