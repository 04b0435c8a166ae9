"""What is put in comes out: equal, and of the same types."""

import sys
from collections import Counter, OrderedDict
from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.cache.codec.samples import (
    ID,
    JSON,
    LINE,
    PLAIN,
    TYPED,
    USER,
    Account,
    Color,
    Line,
    Movie,
    User,
    Wave,
    codec,
    same,
)

from clusterdb.cache import EncodeError, TypeMismatch, TypeRequired
from clusterdb.cache.codec import TYPED as FLAG
from clusterdb.cache.codec import CodecId, Encoded
from clusterdb.cache.errors import Undecodable

MESSAGEPACK, JSON_CODEC, RAW, PICKLE = (
    codec(name) for name in ("messagepack", "json", "raw", "pickle")
)


@given(PLAIN)
def test_trees_of_builtins_come_back_without_a_type(value):
    encoded = MESSAGEPACK.encode(value)
    assert not encoded.flags & FLAG
    assert same(MESSAGEPACK.decode(encoded), value)


@given(JSON)
def test_what_json_has_forms_for_comes_back_without_a_type(value):
    encoded = JSON_CODEC.encode(value)
    assert not encoded.flags & FLAG
    assert same(JSON_CODEC.decode(encoded), value)


@given(PLAIN)
def test_pickles_come_back(value):
    assert same(PICKLE.decode(PICKLE.encode(value)), value)


@given(st.binary() | st.text())
def test_raw_bytes_and_text_come_back(value):
    encoded = RAW.encode(value)
    assert encoded.payload == (value if isinstance(value, bytes) else value.encode())
    assert same(RAW.decode(encoded), value)


def named(part: object) -> str:
    """The same in every process: sets are shown in an order of their own."""
    return type(part).__qualname__ if isinstance(part, Account) else str(part)


@pytest.mark.parametrize("coded", [MESSAGEPACK, JSON_CODEC, PICKLE], ids=["msgpack", "json", "pkl"])
@pytest.mark.parametrize(("value", "wanted"), TYPED, ids=named)
def test_values_of_a_type_come_back_as_that_type(value, wanted, coded):
    found = coded.decode(coded.encode(value), wanted)
    assert type(found) is type(value)
    assert found == value


@given(
    st.builds(User, age=st.integers(-(2**63), 2**64 - 1))
    | st.builds(Line, price=st.decimals(allow_nan=False, allow_infinity=False))
)
def test_generated_objects_come_back(value):
    assert MESSAGEPACK.decode(MESSAGEPACK.encode(value), type(value)) == value


@pytest.mark.parametrize("coded", [MESSAGEPACK, JSON_CODEC], ids=["messagepack", "json"])
@pytest.mark.parametrize("wanted", [None, Any, object, list, list[Any], tuple[Any, ...], "list"])
def test_what_does_not_say_its_types_needs_one(wanted, coded):
    with pytest.raises((TypeRequired, TypeMismatch), match="type"):
        coded.decode(coded.encode([USER]), wanted)


def test_a_type_that_leaves_the_contents_open_is_none():
    with pytest.raises(TypeRequired, match=r"type=list\[User\]"):
        MESSAGEPACK.decode(MESSAGEPACK.encode({"a": USER}), dict[str, Any])


def test_complex_numbers_within_objects_come_back():
    assert MESSAGEPACK.decode(MESSAGEPACK.encode(Wave(1j)), Wave) == Wave(1j)
    with pytest.raises(EncodeError, match=r"the complex at \$\.phase"):
        JSON_CODEC.encode(Wave(1j))


def test_annotated_types_are_types_too():
    encoded = MESSAGEPACK.encode([USER])
    assert MESSAGEPACK.decode(encoded, Annotated[list[User], ["not hashable"]]) == [USER]
    with pytest.raises(TypeRequired):
        MESSAGEPACK.decode(encoded, Annotated[list[Any], ["not hashable"]])


@pytest.mark.parametrize(
    ("value", "wanted", "found"),
    [
        ({"name": "Ada", "age": 36, "mail": "m"}, User, User("Ada", 36, "m")),
        ({"title": "M", "rating": 8}, Movie, {"title": "M", "rating": 8.0}),
        ({"a": (1, 2)}, dict[str, tuple[int, int]], {"a": (1, 2)}),
        ([(1, {2})], list[tuple[int, set[int]]], [(1, {2})]),
        ({"when": date(2020, 1, 1)}, dict[str, date], {"when": date(2020, 1, 1)}),
        ("2020-01-01", date, date(2020, 1, 1)),
        (5, int, 5),
        (5, float, 5.0),
        (None, User | None, None),
        (2**70, int, 2**70),
        (ID, UUID, ID),
        ("red", Color, Color.RED),
    ],
)
def test_plain_values_are_read_as_the_type_asked_for(value, wanted, found):
    assert same(MESSAGEPACK.decode(MESSAGEPACK.encode(value), wanted), found)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (5, str),
        (5, bool),
        (True, int),
        ("YWJj", bytes),
        (b"abc", str),
        ({"name": 1}, User),
        (USER, Color),
        (ID, int),
        (2**70, bytes),
        (USER, User | Line),  # msgspec can't tell the members of such a union apart
        ("x", Line),
        ({1, 2}, dict[int, int]),
        ([1], int | UUID),
        ("x", 5),
    ],
)
def test_another_type_than_the_stored_one_is_a_mismatch(value, wanted):
    encoded = MESSAGEPACK.encode(value)
    with pytest.raises(TypeMismatch, match="can't be read as"):
        MESSAGEPACK.decode(encoded, wanted)


def test_an_error_in_a_type_s_own_code_is_a_mismatch():
    @dataclass
    class Picky:
        a: int

        def __post_init__(self) -> None:
            if self.a < 0:
                raise LookupError("a is below 0")

    encoded = MESSAGEPACK.encode({"a": -1})
    with pytest.raises(TypeMismatch, match="a is below 0"):
        MESSAGEPACK.decode(encoded, Picky)


@pytest.mark.parametrize("name", ["messagepack", "json", "pickle"])
@pytest.mark.parametrize("value", [0, -1, 10, 2**63 - 1, -(2**63)])
def test_ints_are_digits_that_a_server_can_add_to(name, value):
    coded = codec(name)
    encoded = coded.encode(value)
    assert encoded == Encoded(str(value).encode(), CodecId.INTEGER, 0)
    assert same(coded.decode(encoded), value)


@pytest.mark.parametrize("value", [True, 2**63, -(2**63) - 1])
def test_what_a_server_can_t_add_to_is_no_integer(value):
    encoded = MESSAGEPACK.encode(value)
    assert encoded.codec == CodecId.MESSAGEPACK
    assert same(MESSAGEPACK.decode(encoded), value)


@pytest.mark.parametrize("payload", [b"", b"-", b"01", b"-0", b"1_0", b" 1", b"1\n", b"9" * 30])
def test_other_digits_are_malformed(payload):
    with pytest.raises(Undecodable):
        MESSAGEPACK.decode(Encoded(payload, CodecId.INTEGER, 0))


def test_messagepack_s_own_types_are_plain_messagepack():
    """Anybody's reader reads what is made of MessagePack's own types."""
    value = {"a": [1.5, None, True, b"x", {1: "y"}]}
    assert msgspec.msgpack.decode(MESSAGEPACK.encode(value).payload) == value


@pytest.mark.parametrize(
    ("name", "value", "path", "kind"),
    [
        ("messagepack", {"users": [1, {"photo": object()}]}, "$.users[1].photo", "object"),
        ("messagepack", User("Ada", 36, object()), "$.mail", "object"),  # type: ignore[arg-type]
        ("messagepack", [USER, 2**70], "$[1]", "int"),
        ("messagepack", {"a b": {"\ud800"}}, "$['a b'][*]", "str"),
        ("messagepack", {object: 1}, "$.<key <class 'object'>>", "type"),
        ("messagepack", OrderedDict(a=lambda: 1), "$.a", "function"),
        ("messagepack", (1, sys), "$[1]", "module"),
        ("json", {"a": [0.0, float("nan")]}, "$.a[1]", "float"),
        ("json", [None, {"x": float("-inf")}], "$[1].x", "float"),
        ("json", {"a": {1: "x", "1": "y"}}, "$.a", "dict"),
        ("json", [2**70, None, float("nan")], "$[2]", "float"),
        ("raw", 1, "$", "int"),
        ("raw", ["x"], "$", "list"),
        ("raw", "\ud800", "$", "str"),
        ("pickle", {"a": [lambda: 1]}, "$.a[0]", "function"),
    ],
)
def test_an_error_names_the_part_that_can_t_be_encoded(name, value, path, kind):
    with pytest.raises(EncodeError) as caught:
        codec(name).encode(value)
    assert (caught.value.path, caught.value.kind) == (path, kind)
    assert kind in str(caught.value)
    assert path in str(caught.value)


@pytest.mark.parametrize("name", ["messagepack", "json"])
def test_a_circle_is_refused(name):
    value: list[Any] = [1]
    value.append({"again": value})
    with pytest.raises(EncodeError, match=r"at \$\[1\].again: it contains itself"):
        codec(name).encode(value)


@pytest.mark.parametrize("kind", [list, tuple, dict])
@pytest.mark.parametrize("depth", [130, 600, 5000])
def test_what_is_nested_too_deep_is_refused(kind, depth):
    value: Any = 1
    for _ in range(depth):
        value = {"a": value} if kind is dict else kind([value])
    with pytest.raises(EncodeError, match="deep"):
        MESSAGEPACK.encode(value)
    if kind is not tuple:  # what needs a type has msgspec's own limit
        with pytest.raises(EncodeError, match="deep"):
            JSON_CODEC.encode(value)


def test_what_is_nested_as_deep_as_allowed_comes_back():
    value: Any = ()
    for _ in range(120):
        value = (value,)
    assert same(MESSAGEPACK.decode(MESSAGEPACK.encode(value)), value)


def test_a_model_that_fails_to_dump_is_an_encode_error():
    class Model:
        def model_dump(self, **_: Any) -> Any:
            raise RuntimeError("no")

        @classmethod
        def model_validate(cls, _: Any, **__: Any) -> Any: ...

    with pytest.raises(EncodeError, match=r"the .*Model at \$\[0\]: no"):
        MESSAGEPACK.encode([Model()])


@pytest.mark.parametrize("document", [b"NaN", b'{"a":NaN}', b"Infinity", b"1e999", b"[1", b"\xff"])
def test_documents_that_are_not_json_are_undecodable(document):
    with pytest.raises(Undecodable):
        JSON_CODEC.decode(Encoded(document, CodecId.JSON, 0))


def test_the_last_of_two_equal_names_counts():
    assert JSON_CODEC.decode(Encoded(b'{"a":1,"a":2}', CodecId.JSON, 0)) == {"a": 2}


def test_a_change_of_format_keeps_what_was_stored():
    for old in (MESSAGEPACK, JSON_CODEC):
        encoded = old.encode({"a": [1, "x"]})
        for new in (MESSAGEPACK, JSON_CODEC, RAW):
            assert new.decode(encoded) == {"a": [1, "x"]}


class Reversed:
    """A program's codec of text."""

    def encode(self, value: Any) -> bytes:
        return value[::-1].encode()

    def decode(self, data: bytes, type: Any) -> Any:
        if type is int:
            raise TypeMismatch("only text")
        return data.decode()[::-1]


def test_a_program_s_own_codec_takes_two_methods():
    coded = codec(custom=Reversed())
    encoded = coded.encode("abc")
    assert encoded == Encoded(b"cba", CodecId.CUSTOM, 0)
    assert coded.decode(encoded, str) == "abc"
    with pytest.raises(EncodeError, match=r"the int at \$"):
        coded.encode(5)
    with pytest.raises(TypeMismatch, match="only text"):
        coded.decode(encoded, int)
    with pytest.raises(Undecodable, match="UnicodeDecodeError"):
        coded.decode(Encoded(b"\xff", CodecId.CUSTOM, 0))
    with pytest.raises(EncodeError, match="gave a list"):
        coded.encode(Twice())


class Twice:
    """What :class:`Reversed` makes no bytes of."""

    def __getitem__(self, _: Any) -> Any:
        return self

    def encode(self) -> Any:
        return []


def test_codecs_are_equal_by_configuration():
    assert codec() == codec() != codec("json")
    assert hash(codec()) == hash(codec())
    assert codec(region="a") != codec(region="b")
    assert codec(custom=Reversed()) != codec()
    assert "secret" not in repr(codec(keys=["a secret of 16 bytes"]))


def test_counters_and_naive_times_need_what_they_say():
    assert MESSAGEPACK.decode(MESSAGEPACK.encode(Counter("aab")), Counter) == Counter("aab")
    naive = datetime(2026, 1, 1, fold=1)  # noqa: DTZ001 - on purpose
    assert MESSAGEPACK.decode(MESSAGEPACK.encode(naive)).fold == 1
    assert LINE.when == MESSAGEPACK.decode(MESSAGEPACK.encode(LINE), Line).when
