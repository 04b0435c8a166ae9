"""Options: what is refused before anything changes, and who wins where two speak."""

import math
from datetime import timedelta
from typing import Any

import pytest
from msgspec import UNSET

from clusterdb.cache.errors import CacheError, InvalidArgument
from clusterdb.cache.options import (
    GetOptions,
    Pattern,
    PatternOptions,
    SetOptions,
    resolve_set,
    resolve_tags,
    resolve_ttl,
)

BAD_TTLS: list[Any] = [
    0,
    0.0,
    -0.0,
    -1,
    math.nan,
    math.inf,
    -math.inf,
    1e11,
    10**400,
    True,
    False,
    timedelta(0),
    timedelta(seconds=-1),
    "",
    "0s",
    "-1s",
    "1x",
    "soon",
    [1],
    b"1",
]


def resolve(options: SetOptions | None = None, **keywords: Any) -> SetOptions:
    given: dict[str, Any] = {"ttl": UNSET, "nx": None, "xx": None, "keep_ttl": None, "tags": None}
    return resolve_set(options, **(given | keywords))


@pytest.mark.parametrize("ttl", BAD_TTLS)
def test_a_bad_ttl_is_refused_everywhere(ttl):
    for refused in (
        lambda: SetOptions(ttl=ttl),
        lambda: resolve(ttl=ttl),
        lambda: resolve(SetOptions(ttl=5), ttl=ttl),
        lambda: resolve_ttl(ttl, None),
    ):
        with pytest.raises(InvalidArgument) as raised:
            refused()
        assert isinstance(raised.value, CacheError)
        assert isinstance(raised.value, ValueError)


@pytest.mark.parametrize(
    ("ttl", "seconds"), [(5, 5.0), ("1h30m", 5400.0), (timedelta(days=1), 86400.0), (None, None)]
)
def test_a_ttl_is_held_in_seconds(ttl, seconds):
    assert SetOptions(ttl=ttl).ttl == seconds
    assert resolve(ttl=ttl).ttl == seconds
    assert resolve_ttl(ttl, 99.0) == seconds


def test_an_unset_ttl_is_the_default():
    assert resolve_ttl(UNSET, 99.0) == 99.0
    assert resolve_ttl(UNSET, None) is None
    assert resolve().ttl is UNSET


def test_a_keyword_wins_over_the_preset():
    preset = SetOptions(ttl=5, nx=True, tags=("a",))

    assert resolve(preset) is preset
    assert resolve(preset, ttl=7) == SetOptions(ttl=7, nx=True, tags=("a",))
    assert resolve(preset, ttl=None) == SetOptions(ttl=None, nx=True, tags=("a",))
    assert resolve(preset, nx=False) == SetOptions(ttl=5, tags=("a",))
    assert resolve(preset, nx=False, xx=True) == SetOptions(ttl=5, xx=True, tags=("a",))
    assert resolve(preset, tags=["b", "b"]) == SetOptions(ttl=5, nx=True, tags=("b",))
    assert resolve(preset, tags=()) == SetOptions(ttl=5, nx=True)


def test_what_excludes_each_other_is_refused():
    for refused in (
        lambda: SetOptions(nx=True, xx=True),
        lambda: SetOptions(keep_ttl=True, ttl=5),
        lambda: SetOptions(keep_ttl=True, ttl=None),
        lambda: resolve(nx=True, xx=True),
        lambda: resolve(keep_ttl=True, ttl=5),
    ):
        with pytest.raises(InvalidArgument, match="exclude"):
            refused()


def test_options_are_frozen_and_know_their_fields():
    with pytest.raises(AttributeError):
        SetOptions().ttl = 5  # type: ignore[misc]
    with pytest.raises(TypeError):
        SetOptions(tll=5)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        GetOptions(True)  # type: ignore[call-arg]


# -- tags


@pytest.mark.parametrize(
    "tags",
    [
        "user",
        ("",),
        (1,),
        (None,),
        (b"t",),
        ("a\ud800",),
        ("x" * 1025,),
        ("é" * 513,),
        tuple(map(str, range(1025))),
        (["t"],),
        ({},),
        5,
        None,
    ],
    ids=lambda tags: repr(tags)[:20],
)
def test_bad_tags_are_refused(tags):
    for refused in (lambda: resolve_tags(tags), lambda: SetOptions(tags=tags)):
        with pytest.raises(InvalidArgument):
            refused()


def test_tags_keep_their_order_without_doubles():
    assert resolve_tags(["b", "a", "b"]) == ("b", "a")
    assert resolve_tags(iter("ab")) == ("a", "b")
    assert resolve_tags({"x" * 1024}) == ("x" * 1024,)
    assert len(resolve_tags(map(str, range(1024)))) == 1024
    assert SetOptions(tags=["a"]).tags == ("a",)  # type: ignore[arg-type]


# -- scans


@pytest.mark.parametrize("size", [0, -1, 1_000_001, True, 1.5, math.nan, "10", None])
def test_a_bad_batch_size_is_refused(size):
    for kind in (PatternOptions, lambda **given: Pattern(glob="*", **given)):
        with pytest.raises(InvalidArgument, match="batch_size"):
            kind(batch_size=size)


@pytest.mark.parametrize("timeout", [0, -1, math.nan, math.inf, "x", True, []])
def test_a_bad_timeout_is_refused(timeout):
    with pytest.raises(InvalidArgument):
        PatternOptions(timeout=timeout)


def test_a_timeout_is_held_in_seconds():
    assert PatternOptions(timeout="1m").timeout == 60.0
    assert Pattern(glob="*", timeout=timedelta(seconds=2)).timeout == 2.0
    assert PatternOptions().timeout is None
