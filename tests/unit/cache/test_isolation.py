"""What callers can do to each other through a shared value, by mode."""

from array import array
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from clusterdb.cache.config import CacheConfig, CacheRegion
from clusterdb.cache.errors import SharedValueMutated
from clusterdb.cache.isolation import Isolation, isolation
from clusterdb.cache.manager import Cache


@dataclass
class Plain:
    items: list[int] = field(default_factory=lambda: [1])


@dataclass(slots=True)
class Slotted:
    items: list[int] = field(default_factory=lambda: [1])


class Private:
    __slots__ = ("__items",)

    def __init__(self) -> None:
        self.__items = 1

    def change(self) -> None:
        self.__items = 2


class Struct(msgspec.Struct):
    number: int = 1


def mode(name: Any) -> Isolation:
    found = isolation(name)
    assert found is not None
    return found


CHANGES: dict[str, tuple[Any, Any]] = {
    "list": ([1], lambda value: value.append(2)),
    "item": ([1, 2], lambda value: value.reverse()),
    "negative": ([-1], lambda value: value.__setitem__(0, -2)),
    "prime": ([0], lambda value: value.__setitem__(0, 2**61 - 1)),
    "type": ([1], lambda value: value.__setitem__(0, True)),
    "dict": ({"a": 1}, lambda value: value.update(b=2)),
    "inner": ({"a": {"b": [1]}}, lambda value: value["a"]["b"].append(2)),
    "set": ({1}, lambda value: value.add(2)),
    "tuple": (([1],), lambda value: value[0].append(2)),
    "bytearray": (bytearray(b"a"), lambda value: value.append(1)),
    "ordered": (OrderedDict(a=1, b=2), lambda value: value.move_to_end("a")),
    "counter": (Counter("aab"), lambda value: value.update("b")),
    "deque": (deque([1]), lambda value: value.append(2)),
    "array": (array("i", [1]), lambda value: value.append(2)),
    "dataclass": (Plain(), lambda value: value.items.append(2)),
    "slots": (Slotted(), lambda value: value.items.append(2)),
    "private slots": (Private(), lambda value: value.change()),
    "struct": (Struct(), lambda value: setattr(value, "number", 2)),
}


def test_share_does_nothing():
    assert isolation("share") is None


def test_copy_gives_each_caller_its_own():
    enter, leave = mode("copy")
    mine = {"a": [1]}
    stored = enter(mine)
    mine["a"].append(2)
    first: Any = leave("k", stored)
    first["a"].append(3)

    assert leave("k", stored) == {"a": [1]}


@pytest.mark.parametrize("value", ["text", b"raw", 7, 1.5, None, True, 1j])
@pytest.mark.parametrize("name", ["copy", "check"])
def test_what_cant_be_changed_passes_through(name, value):
    enter, leave = mode(name)

    assert enter(value) is value
    assert leave("k", value) is value


@pytest.mark.parametrize("kind", CHANGES)
def test_check_finds_a_change(kind):
    import copy

    value, change = copy.deepcopy(CHANGES[kind][0]), CHANGES[kind][1]
    enter, leave = mode("check")
    stored = enter(value)
    assert leave("k", stored) is value
    assert leave("k", stored) is value
    change(value)

    with pytest.raises(SharedValueMutated):
        leave("k", stored)


def test_check_names_the_key_and_those_who_had_the_value():
    enter, leave = mode("check")
    stored = enter([1])
    taken: Any = leave("the key", stored)
    taken.append(2)

    with pytest.raises(SharedValueMutated, match="'the key'") as raised:
        leave("the key", stored)
    assert raised.value.key == "the key"
    assert raised.value.suspects
    assert all(__file__ in suspect for suspect in raised.value.suspects)


def test_check_remembers_few_suspects():
    enter, leave = mode("check")
    stored: Any = enter([1])
    for line in range(100):
        exec(compile("\n" * line + "leave('k', stored)", f"caller{line}", "exec"), locals())

    assert 1 <= len(stored.suspects) <= 8


def test_check_takes_cycles_and_nan():
    enter, leave = mode("check")
    ring: list[Any] = [float("nan"), -0.0]
    ring.append(ring)
    stored = enter(ring)

    assert leave("k", stored) is ring


@pytest.mark.parametrize("after", ["share", "copy"])
@pytest.mark.parametrize("before", ["share", "copy", "check"])
async def test_a_new_mode_gives_back_what_was_stored_in_the_old(before, after):
    config = CacheConfig(regions=(CacheRegion("r", isolation=before),))
    async with Cache(config) as cache:
        region = cache.region("r")
        await region.set("k", [1])
        await cache.configure_regions([CacheRegion("r", isolation=after)])

        assert await region.get("k") == [1]
