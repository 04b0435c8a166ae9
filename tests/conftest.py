"""Where several processes run the tests, those that start servers or build keep to one of them,
and those with a database to another.

What is there when the tests begin, thousands of them and all modules, is kept from the collector of
cyclic garbage, and so is what each file of tests leaves behind, such as its reports and the modules
it was the first to import: looking through it took a third of a second each time. What is garbage
is collected before, so that warnings of it are those of the file that made it.
"""

import gc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.effort import set_up_hypothesis
from tests.storage.postgres import PostgresServer, missing
from tests.storage.postgres import start as start_postgres

DATABASES = ("storage", "write_modes")

set_up_hypothesis()  # before other files are read, which build on it


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    for item in items:  # before the choice by marks
        if "postgres" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.server)
    yield
    for item in items:
        if item.get_closest_marker("server") or item.get_closest_marker("build"):
            databases = any(each in item.path.parts for each in DATABASES)
            item.add_marker(pytest.mark.xdist_group("databases" if databases else "servers"))


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server of this session's own."""
    absent = missing()
    if absent:
        pytest.skip(f"not installed: {', '.join(absent)} (Debian: postgresql)")
    server = start_postgres()
    yield server
    server.remove()


@given(st.none())
def begin(nothing: None) -> None:
    """The first use of hypothesis loads what it brings with it."""


def keep_what_is_there() -> None:
    gc.collect()
    gc.freeze()


def pytest_collection_finish() -> None:
    begin()
    keep_what_is_there()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    yield
    if nextitem is not None and nextitem.path != item.path:
        keep_what_is_there()
