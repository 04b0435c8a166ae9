"""The reference pages name everything there is, and nothing that is not."""

import re
from pathlib import Path

import pytest

from clusterdb import cache
from clusterdb.cache import Batch, Cache, LoadContext, errors, events
from clusterdb.cache.atomic import Atomic

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"


def text(page: str) -> str:
    return (REFERENCE / page).read_text(encoding="utf-8")


def first_cells(page: str) -> list[str]:
    return re.findall(r"^\| `(\w+)` \|", text(page), re.MULTILINE)


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


@pytest.mark.parametrize("kind", [Cache, Batch, Atomic, LoadContext])
def test_every_operation_is_there(kind):
    # what only the batch as data shows, and what a later chapter of the documentation describes
    elsewhere = {"changes", "take", "commit", "sync", "cached", "cached_many"}
    named = set(re.findall(r"\w+", text("operations.md")))

    assert public(kind) - named - elsewhere == set()


def test_every_error_has_one_row_and_every_row_is_an_error():
    assert sorted(first_cells("errors.md")) == sorted(errors.__all__)


@pytest.mark.parametrize("name", sorted(errors.__all__))
def test_a_row_says_what_else_an_error_is(name):
    [also] = re.findall(rf"^\| `{name}` \| (.*?) \|", text("errors.md"), re.MULTILINE)
    bases = {base.__name__ for base in getattr(errors, name).__bases__}

    assert set(re.findall(r"`(\w+)`", also)) == bases - {"CacheError"}


def test_the_tree_of_errors_is_drawn_as_it_is():
    def tree(error: type, depth: int = 0) -> str:
        kinds: list[type] = error.__subclasses__()
        children = {kind.__name__: kind for kind in kinds if _ours(kind)}
        inner = "".join(tree(children[name], depth + 1) for name in sorted(children))
        return "  " * depth + error.__name__ + "\n" + inner

    assert tree(errors.CacheError) in text("errors.md")


def _ours(error: type) -> bool:
    return error.__module__ == errors.__name__


def test_every_event_has_its_row():
    kinds = {
        kind.__name__
        for name in events.__all__
        if isinstance(kind := getattr(events, name), type) and issubclass(kind, events.Event)
    }

    assert set(first_cells("events.md")) == kinds - {"Event", "KeyEvent"}
    assert {name for name in kinds if name in cache.__all__} >= set(first_cells("events.md"))
