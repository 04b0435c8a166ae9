"""``cached`` on functions and methods of every kind."""

import asyncio
import copy
import inspect
import pickle
import threading
from types import ModuleType
from typing import Any

import pytest

from clusterdb.cache import (
    AsyncCached,
    Cache,
    Cached,
    CacheRegion,
    InvalidArgument,
    TypeMismatch,
    WrongLoop,
)
from clusterdb.cache.backends.memory import MemoryBackend
from clusterdb.cache.testing import FaultyBackend, ManualClock

CACHE = Cache()


@CACHE.cached
def at_import(x: int) -> int:
    return x


class Counted:
    """A function that counts its calls."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def __call__(self, value: Any) -> Any:
        self.calls.append(value)
        return value


@pytest.fixture
def ran():
    return Counted()


# -- what it is


async def test_a_coroutine_function(cache, ran):
    @cache.cached
    async def load(x):
        return ran(x)

    assert [await load(1), await load(1), await load(x=1), await load(2)] == [1, 1, 1, 2]
    assert ran.calls == [1, 2]
    assert isinstance(load, AsyncCached)


def test_a_plain_function(cache, ran):
    @cache.cached()
    def load(x):
        return ran(x), threading.get_ident()

    assert load(1) == load(x=1) == (1, threading.get_ident())
    assert ran.calls == [1]
    assert isinstance(load, Cached)


def test_it_looks_like_the_function(cache):
    @cache.cached
    async def load(x: int, *, y: str = "") -> float:
        """Text."""
        return 0.0

    wrapped: Any = load
    assert (wrapped.__name__, wrapped.__doc__, wrapped.__module__) == ("load", "Text.", __name__)
    assert str(inspect.signature(load)) == "(x: int, *, y: str = '') -> float"
    assert wrapped.__wrapped__.__qualname__ == wrapped.__qualname__
    assert "load" in repr(load)


def test_frameworks_see_whether_it_is_a_coroutine_function(cache):
    @cache.cached
    async def load(x): ...

    @cache.cached
    def plain(x): ...

    @cache.cached_many("{ids}")
    async def many(ids: list[int]) -> dict[int, int]:
        return {}

    class Users:
        @cache.cached
        async def load(self, x): ...

    for function in (load, many, Users.load, Users().load):
        assert inspect.iscoroutinefunction(function)
    assert not inspect.iscoroutinefunction(plain)


def test_it_is_pickled_and_copied_by_its_name():
    assert pickle.loads(pickle.dumps(at_import)) is at_import
    assert copy.deepcopy([at_import])[0] is at_import


def test_it_says_wrong_loop_for_a_blocking_call_in_a_loop(cache):
    @cache.cached
    def load(x):
        return x

    async def main():
        with pytest.raises(WrongLoop):
            load(2)
        return load(1)

    assert load(1) == 1
    assert asyncio.run(main()) == 1


@pytest.mark.parametrize(
    ("what", "says"),
    [
        (5, "decorates functions, not int"),
        (classmethod(lambda cls: 1), "put @classmethod above"),
        (staticmethod(lambda: 1), "put @staticmethod above"),
        (lambda x: x, "lambdas share one name"),
        (Counted(), "Counted has no name"),
    ],
)
def test_what_can_not_be_decorated_says_why(cache, what, says):
    with pytest.raises(InvalidArgument, match=says):
        cache.cached()(what)


def test_generators_are_refused(cache):
    def rows():
        yield 1

    async def more():
        yield 1

    for function in (rows, more):
        with pytest.raises(InvalidArgument, match="generator, which can be read only once"):
            cache.cached(function)


def test_settings_are_checked_when_decorating(cache):
    def load(x: int, y):
        return x

    with pytest.raises(InvalidArgument):
        cache.cached(ttl=-1)
    with pytest.raises(InvalidArgument):
        cache.cached_many(ttl="soon")
    for bad in (
        cache.cached("{z}"),
        cache.cached("{y}"),
        cache.cached("{x!r}"),
        cache.cached("a:{x}", key=str),
        cache.cached(tags=("{z}",)),
        cache.cached(tags=("",)),
    ):
        with pytest.raises(InvalidArgument):
            bad(load)
    with pytest.raises(InvalidArgument, match="write tags="):
        cache.cached(tags="user")(load)


def test_an_annotation_may_name_what_is_defined_later(cache):
    @cache.cached("{x}:{y}")
    def load(x: int, y: "Late"):  # type: ignore[name-defined]  # noqa: F821 - there is no such class
        return x

    with pytest.raises(InvalidArgument, match="annotate y as"):
        load(1, 2)


# -- arguments


def test_equal_calls_have_equal_keys_however_they_are_written(cache):
    @cache.cached
    def load(a, /, b, c=3, *rest, d=4, **more):
        return None

    assert len({load.key(1, 2), load.key(1, b=2), load.key(1, c=3, b=2, d=4)}) == 1
    assert load.key(1, 2, x=1, y=2) == load.key(1, 2, y=2, x=1)
    keys = [
        load.key(1, 2), load.key(1, 2, 4), load.key(1, 2, 3, 4), load.key(1, 2, d=5),
        load.key(1, 2, x=3), load.key(1, 2, 3, 4, 5), load.key(1, True), load.key(1, 2.0),
        load.key(1, 2, 3, (4, 5)), load.key(1, 2, more=1), load.key(1, 2, rest=1), load.key(2, 1),
    ]  # fmt: skip
    assert len(set(keys)) == len(keys)


def test_arguments_that_do_not_fit_raise_what_the_function_would(cache):
    @cache.cached
    def load(a, *, b=1):
        return None

    for args, kwargs in [((), {}), ((1, 2), {}), ((1,), {"c": 1})]:
        with pytest.raises(TypeError):
            load(*args, **kwargs)


def test_unhashable_arguments(cache, ran):
    @cache.cached
    def load(query):
        return ran(len(query))

    assert load({"ids": [1, 2], "tags": {"a"}}) == load({"tags": {"a"}, "ids": [1, 2]}) == 2
    assert ran.calls == [2]


def test_an_argument_without_identity_is_refused_at_the_call_and_may_bypass(cache, ran):
    @cache.cached
    def load(thing):
        return ran(thing)

    thing = object()
    with pytest.raises(InvalidArgument, match=r"thing is a builtins\.object"):
        load(thing)
    assert ran.calls == []
    assert load.bypass(thing) is thing


def test_functions_of_one_name_in_two_modules(cache):
    source = "def load(x):\n    return __name__, x\n"
    found = []
    for name in ("first", "second"):
        module = ModuleType(name)
        exec(source, vars(module))
        found.append(cache.cached(module.load)(1))
    assert found == [("first", 1), ("second", 1)]


def test_closures_of_one_name_never_share_automatic_keys(cache):
    def scaled(by, *decoration):
        @cache.cached(*decoration)
        def scale(x: int) -> int:
            return by * x

        return scale

    double = scaled(2)
    with pytest.raises(InvalidArgument, match=r"scaled\.<locals>\.scale.*template or key="):
        scaled(3)
    assert scaled(3, "three:{x}")(5) == 15
    assert double(5) == 10


def test_functions_without_variables_around_them_may_be_made_anew(cache):
    def make():
        @cache.cached
        def negative(x):
            return -x

        return negative

    assert make()(5) == make()(5) == -5


def test_lambdas_with_a_key_of_their_own(cache):
    double = cache.cached(key="double:{}".format)
    assert double(lambda x: 2 * x)(5) == 10
    assert cache.sync.get("double:5") == 10


def test_a_template_key_and_tags(cache, ran):
    @cache.cached("user:{number}", ttl="10s", tags=("user", "team:{team}"))
    def load(number: int, team: str = "a:b"):
        return ran(number)

    assert load(5) == load(5, team="a:b") == 5
    assert load.key(5) == "user:5"
    found = cache.sync.lookup("user:5")
    assert {"user", "team:a%3Ab"} < set(found.tags)
    assert found.expires_in == 10
    cache.sync.invalidate_tag("team:a%3Ab")
    assert load(5) == 5
    assert ran.calls == [5, 5]


def test_a_template_need_not_name_every_argument(cache, ran):
    @cache.cached("user:{number}")
    def load(connection: object, number: int):
        return ran(number)

    assert load(object(), 5) == load(object(), 5) == 5
    assert ran.calls == [5]


def test_a_key_function(cache, ran):
    @cache.cached(key=lambda x, scale=1: f"scaled:{x * scale}")
    def load(x, scale=1):
        return ran(x * scale)

    assert load(6) == load(2, scale=3) == load(3, 2) == 6
    assert (ran.calls, load.key(1, 2)) == ([6], "scaled:2")


# -- methods


class Shop:
    def __init__(self, name):
        self.name = name
        self.calls = []

    def __cache_key__(self):
        return self.name

    @CACHE.cached
    def price(self, item, *, tax=0):
        """What it costs."""
        self.calls.append(item)
        return self.name, item, tax

    @CACHE.cached
    async def stock(self, item):
        self.calls.append(item)
        return self.name, item

    @classmethod
    @CACHE.cached
    def of(cls, name):
        return cls.__name__, name

    @staticmethod
    @CACHE.cached
    def tax(country):
        return country


class Mall(Shop):
    pass


@pytest.fixture
def clean():
    yield
    CACHE.sync.clear()


@pytest.mark.usefixtures("clean")
def test_methods():
    one, other = Shop("a"), Shop("b")
    assert one.price(1) == one.price(item=1) == ("a", 1, 0)
    assert other.price(1) == ("b", 1, 0)
    assert (one.calls, other.calls) == ([1], [1])
    assert Shop.price(one, 1) == ("a", 1, 0)
    assert one.price.peek(1) == ("a", 1, 0)
    assert one.price.invalidate(1)
    assert other.price.peek(1) == ("b", 1, 0)
    assert one.price.refresh(1, tax=5) == ("a", 1, 5)
    assert one.price.bypass(7) == ("a", 7, 0)
    assert one.price.__doc__ == "What it costs."
    assert str(inspect.signature(one.price)) == "(item, *, tax=0)"
    assert str(inspect.signature(Shop.price)) == "(self, item, *, tax=0)"


@pytest.mark.usefixtures("clean")
def test_classmethods_and_staticmethods():
    assert (Shop.of("x"), Mall.of("x"), Mall("m").of("x")) == (
        ("Shop", "x"), ("Mall", "x"), ("Mall", "x"),
    )  # fmt: skip
    assert Shop.of.invalidate("x")
    assert Mall.of.peek("x") == ("Mall", "x")
    assert Shop.tax("de") == Shop("a").tax("de") == "de"
    assert Shop.tax.invalidate("de")


def test_a_method_of_a_class_without_identity_is_refused_with_the_remedy(cache):
    class Plain:
        @cache.cached
        def load(self, x):
            return x

    with pytest.raises(InvalidArgument, match=r"self is a .*Plain.*__cache_key__"):
        Plain().load(1)


def test_one_cache_over_another(cache, ran):
    with Cache().sync as outer:
        inner_load = cache.cached("{x}")(_square(ran))
        load = outer.cached("{x}")(inner_load)
        assert load(3) == 9
        assert (outer.get("3"), cache.sync.get("3")) == (9, 9)
        load.invalidate(3)
        assert load(3) == 9
        assert ran.calls == [3]


def _square(ran):
    def square(x: int) -> int:
        return ran(x) * x

    return square


async def test_one_cache_over_another_with_coroutine_functions(cache, ran):
    @cache.cached
    async def inner(x):
        return ran(x)

    async with Cache() as front:
        outer = front.cached(inner)
        assert isinstance(outer, AsyncCached)
        assert [await outer(1), await outer(1)] == [1, 1]
        assert ran.calls == [1]


# -- what the wrapper can do


async def test_invalidate_refresh_peek_bypass_info_clear(cache):
    values = iter(range(100))

    @cache.cached
    async def load(x):
        return next(values)

    assert await load.peek(1) is None
    assert not await load.invalidate(1)
    assert [await load(1), await load(1)] == [0, 0]
    assert await load.peek(1) == 0
    assert await load.refresh(1) == 1
    assert await load(1) == 1
    assert await load.bypass(1) == 2
    assert await load(1) == 1
    assert load.cache_info() == (3, 1)
    assert await load.invalidate(1)
    assert [await load(1), await load(2)] == [3, 4]
    await load.cache_clear()
    assert load.cache_info() == (0, 0)
    assert [await load(1), await load(2)] == [5, 6]


def test_clearing_leaves_other_functions_alone(cache, ran):
    @cache.cached
    def one(x):
        return ran(x)

    @cache.cached
    def other(x):
        return ran(x)

    one(1), other(2)
    one.cache_clear()
    one(1), other(2)
    assert ran.calls == [1, 2, 1]


async def test_none_is_stored_and_an_exception_is_not(cache, ran):
    @cache.cached
    async def find(x):
        ran(x)
        if x < 0:
            raise ValueError(x)

    assert [await find(1), await find(1)] == [None, None]
    for _ in range(2):
        with pytest.raises(ValueError, match="-1"):
            await find(-1)
    assert ran.calls == [1, -1, -1]
    assert find.cache_info() == (1, 3)


async def test_the_result_lives_as_long_as_it_was_given(cache, manual_clock, ran):
    @cache.cached(ttl=60)
    async def load(x):
        return ran(x)

    await load(1)
    manual_clock.advance(59)
    await load(1)
    manual_clock.advance(2)
    await load(1)
    assert ran.calls == [1, 1]


async def test_calls_at_once_run_it_once(cache):
    began, gate = asyncio.Event(), asyncio.Event()
    calls = 0

    @cache.cached
    async def load(x):
        nonlocal calls
        calls += 1
        began.set()
        await gate.wait()
        return x

    found = [asyncio.create_task(load(1)) for _ in range(100)]
    await began.wait()
    gate.set()
    assert set(await asyncio.gather(*found)) == {1}
    assert calls == 1
    assert load.cache_info() == (99, 1)


async def test_callers_that_share_a_failure_are_no_hits(cache):
    began, gate = asyncio.Event(), asyncio.Event()

    @cache.cached
    async def load(x):
        began.set()
        await gate.wait()
        raise OSError

    calls = [asyncio.create_task(load(1)) for _ in range(3)]
    await began.wait()
    gate.set()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [OSError] * 3
    assert load.cache_info() == (0, 3)


async def test_a_result_that_was_invalidated_while_it_was_made_is_not_stored(cache):
    gate, began = asyncio.Event(), asyncio.Event()
    values = iter(["old", "new"])

    @cache.cached
    async def load(x):
        value = next(values)
        began.set()
        await gate.wait()
        return value

    first = asyncio.create_task(load(1))
    await began.wait()
    await load.invalidate(1)
    gate.set()
    assert await first == "old"
    assert await load(1) == "new"


@pytest.mark.parametrize("isolation", ["copy", "share"])
def test_hits_are_counted_whatever_the_region_does_with_values(isolation):
    with Cache().sync as cache:
        region = cache.create_region(CacheRegion("r", isolation=isolation), type=list)

        @region.cached
        def load(x):
            return [x]

        assert load(1) == load(1) == [1]
        assert load.cache_info() == (1, 1)


async def test_hits_of_a_backend_without_a_table_are_counted():
    async with Cache(backend=FaultyBackend(MemoryBackend(ManualClock()))) as cache:

        @cache.cached
        async def load(x):
            return x

        assert [await load(1), await load(1)] == [1, 1]
        assert load.cache_info() == (1, 1)


async def test_a_function_of_a_typed_region(cache):
    region = await cache.create_region(CacheRegion("numbers"), type=int)

    @region.cached("{x}")
    async def load(x: int) -> int:
        return x

    assert await load(5) == 5
    assert await region.get("5") == 5
    assert await cache.get("5") is None
    await region.set("6", "text")
    with pytest.raises(TypeMismatch):
        await load(6)


def test_recursion(cache):
    @cache.cached
    def fib(n):
        return n if n < 2 else fib(n - 1) + fib(n - 2)

    assert fib(40) == 102334155
    assert fib.cache_info().misses == 41


async def test_recursion_with_coroutines(cache):
    @cache.cached
    async def fib(n):
        return n if n < 2 else await fib(n - 1) + await fib(n - 2)

    assert await fib(40) == 102334155


def test_decorated_before_any_loop_and_used_in_several():
    cache = Cache()
    calls = []

    @cache.cached
    async def load(x):
        calls.append(x)
        return x

    async def main():
        return await load(1), await load(1)

    assert [asyncio.run(main()) for _ in range(3)] == [(1, 1)] * 3
    assert calls == [1]
    cache.sync.close()


def test_threads(cache):
    gate = threading.Barrier(8)
    calls = []

    @cache.cached
    def load(x):
        calls.append(x)
        return x

    def work():
        gate.wait(30)
        found.extend(load(x) for x in range(50))

    found: list[int] = []
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(found) == sorted([*range(50)] * 8)
    assert sorted(calls) == list(range(50))
    assert load.cache_info() == (350, 50)
