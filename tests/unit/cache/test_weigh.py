"""The estimate: about right for flat values, and bounded for any."""

import sys
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterdb.cache import weigh as weigh_module
from clusterdb.cache.errors import InvalidArgument
from clusterdb.cache.weigh import MAX_WEIGHT, OVERHEAD, checked, weigh


@dataclass
class Plain:
    text: str


@dataclass(slots=True)
class Slotted:
    text: str


@pytest.mark.parametrize("value", ["x" * 1000, b"x" * 1000, 7, 1.5, None, True, bytearray(100)])
def test_flat_values_are_exact(value):
    assert weigh("key", value) == OVERHEAD + sys.getsizeof("key") + sys.getsizeof(value)


@pytest.mark.parametrize(
    "hold",
    [
        lambda text: [text],
        lambda text: (text,),
        lambda text: {text},
        lambda text: frozenset([text]),
        lambda text: {"key": text},
        lambda text: {text: 1},
        lambda text: {"a": [{"b": text}]},
        Plain,
        Slotted,
    ],
)
def test_what_a_value_holds_counts(hold):
    light, heavy = weigh("k", hold("x")), weigh("k", hold("x" * 100_001))

    assert heavy - light == 100_000


def test_a_large_container_is_taken_to_be_like_its_first_members():
    words = ["x" * 100 for _ in range(10_000)]

    assert weigh("k", words) == pytest.approx(
        sys.getsizeof(words) + 10_000 * sys.getsizeof(words[0]), rel=0.01
    )


@pytest.fixture
def looks(monkeypatch):
    """How many objects were looked at."""
    seen: list[object] = []

    class Counting:
        @staticmethod
        def getsizeof(value: object) -> int:
            seen.append(value)
            return sys.getsizeof(value)

    monkeypatch.setattr(weigh_module, "sys", Counting)
    return seen


def nested(wide: int, deep: int) -> object:
    value: object = 1
    for _ in range(deep):
        value = [value] * wide
    return value


@pytest.mark.parametrize(
    "value", [nested(1, 5000), nested(100_000, 1), {n: n for n in range(9999)}]
)
def test_deep_and_wide_values_take_few_looks(value, looks):
    assert weigh("k", value) > 0
    assert len(looks) < 100


@pytest.mark.parametrize("value", [nested(32, 4), nested(100, 6)])
def test_deep_and_wide_together_take_bounded_looks(value, looks):
    assert weigh("k", value) > 0
    assert len(looks) < 10_000


def test_a_cycle_ends(looks):
    ring: list[object] = []
    ring += [ring, {"ring": ring}]

    assert weigh("k", ring) > 0
    assert len(looks) < 1000


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)


@given(st.text(min_size=1), json)
def test_every_value_weighs_something(key, value):
    assert weigh(key, value) >= OVERHEAD + sys.getsizeof(key) + sys.getsizeof(value)


@pytest.mark.parametrize("weight", [1, 2, MAX_WEIGHT])
def test_a_weigher_may_give_any_weight_in_range(weight):
    assert checked(lambda _, value: weight, "k", None) == weight


@pytest.mark.parametrize("weight", [0, -1, MAX_WEIGHT + 1, 2**63, True, 1.0, None, "1"])
def test_a_weigher_may_give_no_other(weight):
    with pytest.raises(InvalidArgument, match="'the key'"):
        checked(lambda _, value: weight, "the key", None)
