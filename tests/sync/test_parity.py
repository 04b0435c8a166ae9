"""Both faces have the same operations, with the same parameters and texts."""

import inspect
from typing import Any

import pytest

from clusterdb.cache import Cache, Region, SyncCache, SyncRegion
from clusterdb.cache.atomic import Atomic
from clusterdb.cache.backup import Backups
from clusterdb.cache.batch import Batch
from clusterdb.cache.sync import SyncAtomic, SyncBackups, SyncBatch

# What one face has and the other has not, and why.
ONLY_ASYNC = {
    "access": "the calls to the backend, for other faces",
    "aclose": "is called close",
    "from_file": "a constructor: Cache.from_file(...).sync",
    "from_url": "a constructor: Cache.from_url(...).sync",
    "given": "for other faces",
    "at_once": "for other faces",
    "typed": "for other faces",
    "sync": "leads here",
}
ONLY_SYNC = {"close": "aclose of the other face"}
SHARED = {"commit"}  # of the changes themselves, which the sync face drives
FACES = [
    (Region, SyncRegion),
    (Cache, SyncCache),
    (Batch, SyncBatch),
    (Atomic, SyncAtomic),
    (Backups, SyncBackups),
]


def names(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def difference(one: type, other: type) -> tuple[set[str], set[str]]:
    """What each face has that the other lacks without a reason."""
    lacking = names(one) - names(other) - set(ONLY_ASYNC)
    return lacking, names(other) - names(one) - set(ONLY_SYNC)


def parameters(function: Any) -> list[tuple[str, Any, Any]]:
    # Not through __wrapped__ for what is written by hand: what counts is what can be called.
    own = inspect.unwrap(function) if _made(function) else function
    found = inspect.signature(own, follow_wrapped=False).parameters.values()
    return [(each.name, each.kind, each.default) for each in found]


def _made(function: Any) -> bool:
    """Whether it takes anything and hands it on to the method that it wraps."""
    return function.__code__.co_varnames[:1] == ("self",) and function.__code__.co_name == "call"


@pytest.mark.parametrize(("one", "other"), FACES)
def test_each_operation_is_on_both_faces(one, other):
    assert difference(one, other) == (set(), set())


def test_the_exceptions_are_still_there():
    assert set(ONLY_ASYNC) <= names(Cache)
    assert set(ONLY_SYNC) <= names(SyncCache)
    assert not set(ONLY_ASYNC) & names(SyncCache)


@pytest.mark.parametrize("on_sync", [False, True])
def test_an_operation_on_one_face_only_is_found(on_sync):
    kind = type("Grown", (SyncCache if on_sync else Cache,), {"fresh": lambda self: None})
    one, other = (Cache, kind) if on_sync else (kind, SyncCache)

    assert {"fresh"} in difference(one, other)


def shared() -> list[tuple[str, type, type]]:
    return [
        (name, one, other)
        for one, other in FACES
        for name in sorted((names(one) & names(other)) - SHARED)
        if callable(getattr(one, name))
    ]


@pytest.mark.parametrize(("name", "one", "other"), shared())
def test_an_operation_has_the_same_parameters(name, one, other):
    assert parameters(getattr(one, name)) == parameters(getattr(other, name))


@pytest.mark.parametrize(("name", "one", "other"), shared())
def test_an_operation_has_a_text_and_on_the_faces_of_a_key_space_the_same(name, one, other):
    assert getattr(other, name).__doc__
    if issubclass(one, Region):
        assert getattr(one, name).__doc__ == getattr(other, name).__doc__


@pytest.mark.parametrize(("name", "one", "other"), shared())
def test_no_operation_of_the_sync_face_is_a_coroutine_function(name, one, other):
    assert not inspect.iscoroutinefunction(getattr(other, name))
    assert not inspect.isasyncgenfunction(getattr(other, name))
