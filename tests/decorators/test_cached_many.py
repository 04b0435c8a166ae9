"""``cached_many``: one entry an item, one call for those that are missing."""

import inspect

import pytest

from clusterdb.cache import AsyncCachedMany, CachedMany, CacheError, InvalidArgument


async def test_a_coroutine_function(cache):
    asked = []

    @cache.cached_many("user:{ids}", ttl="1m", tags=("user",))
    async def users(ids: list[int]) -> dict[int, str]:
        asked.append(ids)
        return {number: f"user {number}" for number in ids if number < 100}

    assert isinstance(users, AsyncCachedMany)
    assert await users([1, 2]) == {1: "user 1", 2: "user 2"}
    assert await users([2, 3, 2, 999]) == {2: "user 2", 3: "user 3"}
    assert asked == [[1, 2], [3, 999]]
    assert await cache.get("user:3") == "user 3"
    assert users.key(3) == "user:3"
    assert await users.invalidate(1, 2, 999) == 2
    await cache.invalidate_tag("user")
    assert await users([3]) == {3: "user 3"}
    await users.cache_clear()
    assert not await cache.exists("user:3")
    assert await users([]) == {}
    assert str(inspect.signature(users)) == "(ids: list[int]) -> dict[int, str]"


def test_a_plain_function(cache):
    asked = []

    @cache.cached_many()
    def squares(numbers):
        asked.append(numbers)
        return {number: number**2 for number in numbers}

    assert isinstance(squares, CachedMany)
    assert squares(range(3)) == {0: 0, 1: 1, 2: 4}
    assert squares([2, 3]) == {2: 4, 3: 9}
    assert asked == [[0, 1, 2], [3]]
    assert squares.invalidate(2) == 1
    squares.cache_clear()
    assert squares([0]) == {0: 0}
    assert asked[2:] == [[0]]


def test_none_is_stored_for_an_item(cache):
    asked = []

    @cache.cached_many("{ids}")
    def find(ids: list[str]) -> dict[str, None]:
        asked.append(ids)
        return dict.fromkeys(ids)

    assert find(["a"]) == find(["a"]) == {"a": None}
    assert asked == [["a"]]


@pytest.mark.parametrize("result", [[1], None, 5])
async def test_a_result_that_is_no_mapping(cache, result):
    @cache.cached_many()
    async def load(ids):
        return result

    with pytest.raises(InvalidArgument, match=r"load gave a .* returns a mapping"):
        await load([1])


def test_a_result_that_was_not_asked_for(cache):
    @cache.cached_many("{ids}")
    def load(ids: list[int]) -> dict[int, int]:
        return {2: 2}

    with pytest.raises(CacheError, match="not asked for"):
        load([1])


def test_an_item_of_another_type(cache):
    @cache.cached_many("{ids}")
    def load(ids: list[int]) -> dict[int, int]:
        return {}

    with pytest.raises(InvalidArgument, match="annotated as int"):
        load(["1"])


def nothing():
    return {}


def two(one, other):
    return {}


@pytest.mark.parametrize("function", [nothing, two])
def test_a_function_of_another_shape_is_refused(cache, function):
    with pytest.raises(InvalidArgument, match="functions of one collection"):
        cache.cached_many()(function)


def test_closures_of_one_name_never_share_automatic_keys(cache):
    def scaled(by, *template):
        @cache.cached_many(*template)
        def scale(numbers: list[int]) -> dict[int, int]:
            return {number: by * number for number in numbers}

        return scale

    double = scaled(2)
    with pytest.raises(InvalidArgument, match="template or key="):
        scaled(3)
    assert scaled(3, "three:{numbers}")([5]) == {5: 15}
    assert double([5]) == {5: 10}
