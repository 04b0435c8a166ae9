"""Keys of calls: different arguments give different keys, equal calls equal ones."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import KEEP, Enum, Flag, IntEnum
from pathlib import PurePosixPath
from typing import NamedTuple
from uuid import UUID, uuid4

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clusterdb.cache import InvalidArgument
from clusterdb.cache.arguments import Template, call_key, written

HOSTILE = st.text(alphabet=st.sampled_from("'\"\\(),=:{}[]% #\n\x00aé\udc80" + "1-"))
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.binary(max_size=4),
    HOSTILE,
    st.text(max_size=4),
    st.dates(),
    st.uuids(),
    st.decimals(allow_nan=False),
    st.timedeltas(),
)
KEYS = st.one_of(st.none(), st.booleans(), st.integers(-3, 3), HOSTILE)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(KEYS, inner, max_size=3),
        st.sets(KEYS, max_size=3),
        st.frozensets(KEYS, max_size=3),
    ),
    max_leaves=6,
)


def same(one, other):
    """Equal all the way down, types included: what must have the same key."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return _matched(list(one.items()), list(other.items()))
    if isinstance(one, set | frozenset):
        return _matched(list(one), list(other))
    if isinstance(one, float | Decimal):
        return repr(one) == repr(other)
    return bool(one == other)


def _matched(left, right):
    return len(left) == len(right) and all(any(same(a, b) for b in right) for a in left)


@given(VALUES, VALUES)
@example(1, True)
@example(1, 1.0)
@example([], ())
@example({1}, frozenset({1}))
@example("5", 5)
@example("1, 2", ("1", "2"))
@example({"a": 1}, {"a": True})
def test_different_values_have_different_texts_and_equal_ones_the_same(one, other):
    assert (written("x", one) == written("x", other)) == same(one, other)


@given(st.dictionaries(st.sampled_from("abc"), VALUES, min_size=1), st.data())
def test_calls_with_different_arguments_have_different_keys(arguments, data):
    other = dict(arguments)
    name = data.draw(st.sampled_from(sorted(arguments)))
    other[name] = data.draw(VALUES)
    assert (call_key("f", arguments) == call_key("f", other)) == same(arguments, other)
    assert call_key("f", arguments) != call_key("g", arguments)


def test_the_order_of_sets_and_dictionaries_does_not_matter():
    assert written("x", {"a": 1, "b": 2}) == written("x", {"b": 2, "a": 1})
    many = [str(number) for number in range(50)]
    backwards = many[::-1]
    assert written("x", set(many)) == written("x", set(backwards))


NOON = datetime(2024, 1, 1, 12)  # noqa: DTZ001 - times without a zone are arguments, too


class Colour(Enum):
    RED = 1
    CRIMSON = 1  # noqa: PIE796 - another name of it
    BLUE = 2


class Mixed(Enum):
    NUMBER = 1
    TEXT = "1"


class Kept(Flag, boundary=KEEP):
    KNOWN = 1


class Size(IntEnum):
    SMALL = 1


class Right(Flag):
    READ = 1
    WRITE = 2


def kind(**attributes):
    return type("Colour", (), attributes)


class Owner:
    def __init__(self, number):
        self.number = number

    def __cache_key__(self):
        return self.number


class OtherOwner(Owner):
    pass


DISTINCT = [
    1, True, 1.0, "1", b"1", Size.SMALL, Colour.RED, Colour.BLUE, Colour, Size, Right.READ,
    Mixed.NUMBER, Mixed.TEXT, Kept(0), Kept(8), Kept(16),
    Right(0), Right.READ | Right.WRITE, Owner, Owner(1), Owner(2), Owner(True), OtherOwner(1),
    Owner(Owner(1)), 10**80, -(10**80), 10**80 + 1, 0.0, -0.0, float("inf"), 1j,
    Decimal(1), Decimal("1.0"), date(2024, 1, 1), NOON, time(1),
    NOON.replace(tzinfo=UTC), NOON.replace(fold=1), timedelta(1),
    UUID(int=1), str(UUID(int=1)), PurePosixPath("a"), "a", "PurePosixPath('a')", "enum", (), [],
    {}, set(), frozenset(), None, "None", (1,), ((1,),), (1, 1), "é", "\udc80", r"\udc80", int,
    "type builtins.int",
]  # fmt: skip


def test_what_is_not_the_same_has_another_text():
    texts = [written("x", value) for value in DISTINCT]
    assert len(set(texts)) == len(texts)


def test_what_is_the_same_has_the_same_text():
    assert written("x", Colour.CRIMSON) == written("x", Colour.RED)
    assert written("x", Owner(5)) == written("x", Owner(5))
    assert written("x", Right.READ | Right.WRITE) == written("x", Right.WRITE | Right.READ)


@dataclass(frozen=True)
class Point:
    x: int


class Pair(NamedTuple):
    a: int
    b: int


class Text(str):
    __slots__ = ()


SELF: list = []
SELF.append({"inner": SELF})
DEEP: list = []
for _ in range(5000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (object(), "no stable identity"),
        (Point(1), "no stable identity"),
        (Pair(1, 2), "no stable identity"),
        (Text("a"), "no stable identity"),
        (bytearray(b"a"), "no stable identity"),
        (lambda: 1, "no stable identity"),
        (list[int], "no stable identity"),
        ([1, object()], "no stable identity"),
        (SELF, "holds itself"),
        (DEEP, "nested over 32 deep"),
        (float("nan"), "NaN"),
        (complex("nan"), "NaN"),
        (Decimal("nan"), "NaN"),
        (Decimal("snan"), "NaN"),
        ({"a": [float("nan")]}, "NaN"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_value_without_a_stable_identity_is_refused_by_name(value, says):
    with pytest.raises(InvalidArgument, match=f"^user .*{says}"):
        written("user", value)


def test_a_huge_argument_has_a_short_key():
    one, other = "x" * 10_000_000, "x" * 9_999_999 + "y"
    keys = {call_key("f", {"a": one}), call_key("f", {"a": other})}
    assert len(keys) == 2
    assert max(map(len, keys)) < 100


# -- templates

TWO = [
    "{a}:{b}", "{a}-{b}", "{a}/x/{b}", "x{a}--{b}x", "{a}→{b}", "{a}{{{b}", "{a}}}{b}", "{a}5{b}",
    "{a}e{b}", "{a}-}}{b}",
]  # fmt: skip
TEXTS = st.tuples(HOSTILE, HOSTILE) | st.tuples(
    *[st.text(alphabet="-/x5e%3A:→\udc80{}", max_size=5)] * 2
)


@pytest.mark.parametrize("text", TWO)
def test_two_calls_never_meet_in_one_text(text):
    @given(TEXTS, TEXTS)
    @example(("x-y", "z"), ("x", "y-z"))
    @example(("%3A", ""), (":", ""))
    def check(one, other):
        template = Template(text, {"a": str, "b": str})
        texts = [template.fill(dict(zip("ab", each, strict=True))) for each in (one, other)]
        assert (texts[0] == texts[1]) == (one == other)

    check()


@pytest.mark.parametrize("text", ["{a}:{b}", "{a}-{b}", "{a},{b}", "x{a}x{b}5"])
@given(st.tuples(st.integers(), st.integers()), st.tuples(st.integers(), st.integers()))
@example((1, -2), (1, 2))
def test_two_pairs_of_numbers_never_meet(text, one, other):
    template = Template(text, {"a": int, "b": int})
    texts = [template.fill(dict(zip("ab", each, strict=True))) for each in (one, other)]
    assert (texts[0] == texts[1]) == (one == other)


def test_fields_of_fixed_length_may_stand_side_by_side():
    template = Template("{a}{b}{c}", {"a": UUID, "b": date, "c": str})
    number = uuid4()
    found = template.fill({"a": number, "b": date(2024, 1, 2), "c": "x:y"})
    assert found == f"{number}2024-01-02x%3Ay"


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("{a}{b}", {"a": int, "b": int}),
        ("{a}{b}", {"a": str, "b": date}),
        ("{a}5{b}", {"a": int, "b": int}),
        ("{a}%{b}", {"a": str, "b": str}),
    ],
)
def test_fields_that_could_run_into_each_other_are_refused(text, kinds):
    with pytest.raises(InvalidArgument, match=r"\{a\} could run into \{b\}.*put a ':' between"):
        Template(text, kinds)


def test_what_would_end_a_field_is_escaped():
    template = Template("user:{name}:{city}", {"name": str, "city": str})
    found = template.fill({"name": "a:b%{c}", "city": "x-y"})
    assert found == "user:a%3Ab%25%7Bc%7D:x-y"
    assert Template("{a}-{b}", {"a": str, "b": str}).fill({"a": "x-", "b": "-y"}) == "x%2D--y"


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int, True),
        (int, "5"),
        (int, 5.0),
        (int, Size.SMALL),
        (str, 5),
        (str, Text("a")),
        (str, None),
        (date, NOON),
        (UUID, str(UUID(int=1))),
    ],
)
def test_a_value_of_another_type_is_refused_at_the_call(annotation, value):
    template = Template("{x}", {"x": annotation})
    with pytest.raises(InvalidArgument, match=f"x=.*{type(value).__name__}.*{annotation.__name__}"):
        template.fill({"x": value})


def test_the_message_about_a_huge_value_is_short():
    with pytest.raises(InvalidArgument) as caught:
        Template("{x}", {"x": int}).fill({"x": "x" * 1_000_000})
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{y}", "field 'y'; there are: x"),
        ("{}", "field ''"),
        ("{0}", "field '0'"),
        ("{x.real}", "field 'x.real'"),
        ("{x[0]}", "field 'x"),
        ("{x:>5}", "without format"),
        ("{x!r}", "without format"),
        ("{x", "expected '}'"),
        ("}", "Single '}'"),
    ],
)
def test_a_bad_template_says_what_is_wrong(text, says):
    with pytest.raises(InvalidArgument) as caught:
        Template(text, {"x": int})
    assert says in str(caught.value)


@pytest.mark.parametrize("annotation", [float, bool, bytes, int | None, list[int], object])
def test_a_field_of_another_type_is_refused(annotation):
    with pytest.raises(InvalidArgument, match="annotate x as str, int, UUID or date"):
        Template("{x}", {"x": annotation})
