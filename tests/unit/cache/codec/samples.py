"""Values and types that a cache meets, for the tests of the codecs."""

import enum
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any, Generic, NamedTuple, TypedDict, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from clusterdb.cache.codec import RegionCodec, region_codec
from clusterdb.cache.config import Compression, SerializationConfig

T = TypeVar("T")

KEY = "a signing key of the tests"
OLD_KEY = "the signing key before it"


def codec(
    form: str = "messagepack",
    *,
    region: str = "users",
    compression: Compression | None = None,
    custom: Any = None,
    **settings: Any,
) -> RegionCodec:
    if form == "pickle":
        settings.setdefault("keys", [KEY])
    chosen = SerializationConfig(format=form, **settings)  # type: ignore[arg-type]
    return region_codec(region, chosen, compression, custom)


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Name(str):
    __slots__ = ()


@dataclass
class User:
    name: str
    age: int
    mail: str


@dataclass
class Account:
    owner: User
    opened: date
    balance: Decimal
    id: UUID
    tags: frozenset[str] = frozenset()
    color: Color = Color.RED
    history: tuple[tuple[datetime, int], ...] = ()
    raw: bytes = b""
    pause: timedelta | None = None
    at: time = time(12)
    level: Level = Level.LOW
    names: dict[Name, PurePosixPath] = field(default_factory=dict)


@dataclass
class Wave:
    phase: complex


class Point(NamedTuple):
    x: int
    y: float


class Order(msgspec.Struct):
    items: list[User]
    total: Decimal


class Cat(msgspec.Struct, tag=True):
    lives: int


class Dog(msgspec.Struct, tag=True):
    name: str


class Movie(TypedDict):
    title: str
    rating: float


class Page(msgspec.Struct, Generic[T]):
    rows: list[T]


class Line(BaseModel):
    sku: str
    when: datetime
    price: Decimal
    ids: set[UUID] = set()
    blob: bytes = b""
    pause: timedelta = timedelta(0)


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)

    at: tuple[int, date]
    lines: list[Line] = []


@dataclass
class Basket:
    lines: list[Line]
    by_sku: dict[str, Line]


USER = User("Ada", 36, "ada@example.org")
ID = UUID("12345678-1234-5678-1234-567812345678")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LINE = Line(sku="x", when=NOON, price=Decimal("1.20"), ids={ID}, blob=b"abc")
ACCOUNT = Account(
    owner=USER,
    opened=date(2020, 2, 29),
    balance=Decimal("-10.50"),
    id=ID,
    tags=frozenset({"a", "b"}),
    color=Color.BLUE,
    history=((NOON, 1), (NOON, 2)),
    raw=b"\xff\x00",
    pause=timedelta(days=-1, microseconds=3),
    at=time(1, 2, 3, 4),
    level=Level.HIGH,
    names={Name("n"): PurePosixPath("/a/b")},
)

TYPED: list[tuple[Any, Any]] = [
    (USER, User),
    ([USER], list[User]),
    ({"a": (USER, None)}, dict[str, tuple[User, User | None]]),
    (ACCOUNT, Account),
    (Point(1, 2.5), Point),
    ([Point(1, 2.5)], list[Point]),
    (Order([USER], Decimal("1.0")), Order),
    ([Cat(9), Dog("Rex")], list[Cat | Dog]),
    (Page([USER]), Page[User]),
    (Color.RED, Color),
    ({Level.HIGH: Color.BLUE}, dict[Level, Color]),
    (Name("x"), Name),
    (PurePosixPath("/a"), PurePosixPath),
    (OrderedDict(a=USER), OrderedDict[str, User]),
    (bytearray(b"x"), bytearray),
    (LINE, Line),
    ([LINE], list[Line]),
    (Strict(at=(1, date(2020, 1, 1)), lines=[LINE]), Strict),
    (Basket([LINE], {"x": LINE}), Basket),
]

ZONES = st.sampled_from(
    [None, UTC, timezone(timedelta(hours=-3, minutes=-30)), ZoneInfo("Europe/Vienna")]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**80), 2**80)
    | st.floats()
    | st.text()
    | st.binary()
    | st.datetimes(timezones=ZONES)
    | st.dates()
    | st.times(timezones=st.sampled_from([None, UTC]))
    | st.timedeltas()
    | st.uuids()
    | st.decimals()
    | st.complex_numbers()
)
KEYS = st.recursive(
    SCALARS.filter(lambda value: not isinstance(value, Decimal) or not value.is_snan()),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=4,
)
PLAIN = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.sets(KEYS, max_size=4)
        | st.frozensets(KEYS, max_size=4)
    ),
    max_leaves=12,
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def same(left: Any, right: Any) -> bool:
    """Whether two trees are equal in values and types, NaN being equal to itself."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return len(left) == len(right) and all(
            same(a, b) for a, b in zip(left.items(), right.items(), strict=True)
        )
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, (set, frozenset)):
        return sorted(map(exact, left)) == sorted(map(exact, right))
    return exact(left) == exact(right)


def exact(value: Any) -> str:
    """A text that is the same for two hashable values only if they are of the same types, too."""
    if isinstance(value, (tuple, frozenset)):
        parts = [exact(each) for each in value]
        return f"{type(value).__name__}({parts if isinstance(value, tuple) else sorted(parts)})"
    return f"{type(value).__name__} {value!r} {getattr(value, 'fold', 0)}"
