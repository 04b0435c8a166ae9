"""Functions as a storage: what holds, and what they are told that can't."""

import asyncio
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from clusterdb.cache import CallableStorage
from clusterdb.cache.clock import SystemClock
from clusterdb.cache.errors import NotSupported, RowRefused, StorageUnavailable
from clusterdb.cache.factory import make_setup, make_storage
from clusterdb.cache.rows import RowChange, RowWritten, Storage
from clusterdb.cache.testing import ManualClock
from clusterdb.cache.testing.storage import CLAUSES, TRAITS, Clause, Harness, run
from clusterdb.cache.types import MISSING


class Shelf:
    """What the functions work on; keys that begin with "bad" are refused."""

    def __init__(self) -> None:
        self.rows: dict[str, Any] = {}
        self.calls: list[tuple[str, list[str]]] = []

    async def load(self, keys: list[str]) -> dict[str, Any]:
        self.calls.append(("load", keys))
        return {key: self.rows[key] for key in keys if key in self.rows}

    async def write(self, values: Mapping[str, Any]) -> None:
        self.calls.append(("write", list(values)))
        if any(key.startswith("bad") for key in values):
            raise ValueError("a bad key")
        self.rows |= values

    async def delete(self, keys: Sequence[str]) -> None:
        self.calls.append(("delete", list(keys)))
        for key in keys:
            self.rows.pop(key, None)

    def storage(self, **changes: Any) -> Storage:
        functions = {"load": self.load, "write": self.write, "delete": self.delete} | changes
        return make_storage(CallableStorage(**functions), SystemClock())


def put(key: str, value: object = 1, **options: Any) -> RowChange:
    return RowChange("default", key, value, **options)


class CallableHarness(Harness):
    traits = TRAITS & {"shared"}


@pytest.mark.parametrize("clause", CLAUSES, ids=lambda clause: clause.name)
async def test_what_holds(clause: Clause):
    shelf = Shelf()
    under_test = CallableHarness(lambda _: shelf.storage(), ManualClock())
    if not under_test.offers(clause.needs):
        pytest.skip("functions can't")

    await run(clause, under_test)


async def test_keys_are_loaded_in_one_call():
    shelf = Shelf()
    shelf.rows = {"a": 1, "b": None}
    rows = await shelf.storage().read("default", ["a", "b", "c", "a"])
    assert [row and row.value for row in rows] == [1, None, None, 1]
    assert rows[1] is not None
    assert shelf.calls == [("load", ["a", "b", "c"])]


async def test_changes_are_made_in_one_call_of_each():
    shelf = Shelf()
    outcomes = await shelf.storage().write([put("a"), put("b"), put("c", MISSING)])
    assert outcomes == [RowWritten(applied=True, version=0)] * 3
    assert shelf.calls == [("write", ["a", "b"]), ("delete", ["c"])]


async def test_a_row_that_is_refused_is_found():
    shelf = Shelf()
    outcomes = await shelf.storage().write([put("a"), put("bad"), put("c")])
    assert isinstance(outcomes[1], RowRefused)
    assert (outcomes[1].key, outcomes[1].code) == ("bad", "ValueError")
    assert isinstance(outcomes[1].__cause__, ValueError)
    assert shelf.rows == {"a": 1, "c": 1}


async def test_a_network_that_fails_is_an_unavailable_storage():
    async def down(_: object) -> None:
        raise ConnectionResetError("reset by peer")

    storage = Shelf().storage(load=down, write=down)
    with pytest.raises(StorageUnavailable, match="load failed: reset by peer"):
        await storage.read("default", ["a"])
    with pytest.raises(StorageUnavailable, match="may have been written"):
        await storage.write([put("a"), put("b")])


async def test_a_function_has_a_time():
    async def forever(_: object) -> None:
        await asyncio.Event().wait()

    storage = Shelf().storage(load=forever, timeout=0.05)
    with pytest.raises(StorageUnavailable, match=r"load took longer than 0\.05 s"):
        await storage.read("default", ["a"])
    with pytest.raises(StorageUnavailable, match="before_commit took longer"):
        await storage.write([put("a")], before_commit=forever)


async def test_plain_functions_run_in_a_thread():
    seen = []

    def load(keys: list[str]) -> dict[str, int]:
        seen.append(threading.current_thread())
        return dict.fromkeys(keys, 5)

    [row] = await Shelf().storage(load=load).read("default", ["a"])
    assert row is not None
    assert row.value == 5
    assert seen[0] is not threading.main_thread()


async def test_before_the_commit_nothing_is_written():
    shelf = Shelf()
    seen = []

    async def before(_: object) -> None:
        seen.append(dict(shelf.rows))

    await shelf.storage().write([put("a")], before_commit=before)
    assert (seen, shelf.rows) == ([{}], {"a": 1})


@pytest.mark.parametrize(
    "change",
    [put("a", when="absent"), put("a", expect=1), put("a", version=7)],
    ids=["when", "expect", "version"],
)
async def test_what_functions_cannot_judge_is_not_supported(change: RowChange):
    shelf = Shelf()
    [outcome, other] = await shelf.storage().write([change, put("b")])
    assert isinstance(outcome, NotSupported)
    assert isinstance(other, RowWritten)
    assert shelf.rows == {"b": 1}


async def test_a_storage_that_only_loads():
    storage = Shelf().storage(write=None, delete=None)
    outcomes = await storage.write([put("a"), put("a", MISSING)])
    assert [str(outcome) for outcome in outcomes] == [
        "'a': the storage has no function write=",
        "'a': the storage has no function delete=",
    ]


async def test_what_functions_do_not_have():
    storage = Shelf().storage()
    for call in (storage.position(), storage.changes("", 1), storage.wait(1), storage.clear([])):
        with pytest.raises(NotSupported, match="functions can't"):
            await call
    with pytest.raises(NotSupported, match="functions can't give all rows"):
        await anext(storage.scan("default", 1))
    [outcome] = await storage.write([put("a")], atomic=True)
    assert isinstance(outcome, NotSupported)
    assert await storage.prune(1) == 0
    assert (await storage.describe()).name.endswith("load")
    with pytest.raises(NotSupported, match="no tables"):
        make_setup(CallableStorage(load=len), SystemClock())


async def test_a_load_that_returns_no_mapping_is_told():
    async def load(keys: list[str]) -> list[str]:
        return keys

    with pytest.raises(StorageUnavailable, match="returned a list"):
        await Shelf().storage(load=load).read("default", ["a"])
