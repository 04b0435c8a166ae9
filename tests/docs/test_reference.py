"""The pages name everything there is, and nothing that is not."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from clusterdb import cache
from clusterdb.cache import Batch, Cache, LoadContext, errors, events
from clusterdb.cache.atomic import Atomic
from clusterdb.cache.cli.app import app
from clusterdb.cache.measures import LATENCY, LOAD_LATENCY, METRICS, REGION, WHOLE
from clusterdb.monitoring.metrics import Described
from clusterdb.monitoring.timings import BOUNDS

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "reference"


def text(page: str) -> str:
    return (REFERENCE / page).read_text(encoding="utf-8")


def first_cells(page: str) -> list[str]:
    return re.findall(r"^\| `(\w+)` \|", text(page), re.MULTILINE)


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


@pytest.mark.parametrize("kind", [Cache, Batch, Atomic, LoadContext])
def test_every_operation_is_there(kind):
    # what only the batch as data shows, and what a later chapter of the documentation describes
    elsewhere = {
        "changes",
        "take",
        "commit",
        "sync",
        "cached",
        "cached_many",
        "access",
        "hit",
        "given",
        "at_once",
        "typed",
    }
    named = set(re.findall(r"\w+", text("operations.md")))

    assert public(kind) - named - elsewhere == set()


def test_every_test_that_a_page_names_is_there():
    named = [
        (page.name, *found)
        for page in sorted((ROOT / "docs").rglob("*.md"))
        for found in re.findall(r"`(tests/[\w/]+\.py)::(\w+)", page.read_text(encoding="utf-8"))
    ]
    files = {file: (ROOT / file).read_text(encoding="utf-8") for _, file, _ in named}

    assert [each for each in named if f"def {each[2]}(" not in files[each[1]]] == []


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


def test_every_metric_has_its_row():
    row = re.compile(r"^\| `(cache_\w+)` \| (\w+) \| (.*?) \| (.*) \|$", re.MULTILINE)
    found = [
        (name, kind, tuple(re.findall(r"`(\w+)`", labels)), said)
        for name, kind, labels, said in row.findall(text("metrics.md"))
    ]

    assert found == [(each.name, each.kind, each.labels, each.help) for each in rows_of_metrics()]


def rows_of_metrics() -> list[Described]:
    """In the order of the page: latencies stand behind the cache as a whole."""
    order = (*REGION.values(), *WHOLE.values(), LATENCY, LOAD_LATENCY)
    rows = dict.fromkeys([each.name for each in order]) | dict.fromkeys(METRICS)
    return [METRICS[name] for name in rows]


def test_the_bounds_of_the_histograms_are_those_of_the_page():
    said = "0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100 and 500 milliseconds and 2.5 seconds"
    bounds = [float(each) / 1000 for each in re.findall(r"[\d.]+", said)[:-1]] + [2.5]

    assert said in text("metrics.md")
    assert bounds == pytest.approx(BOUNDS)


def commands(command: Any, path: str) -> Iterator[tuple[str, str, set[str]]]:
    """Each command that does something, with its arguments and its options but `--help`."""
    inner = getattr(command, "commands", {})
    for name, child in inner.items():
        yield from commands(child, f"{path} {name}")
    if not inner:
        options = {option for each in command.params for option in each.opts if option[0] == "-"}
        given = [each for each in command.params if each.param_type_name == "argument"]
        yield path, "".join([_argument(each) for each in given]), options


def _argument(parameter: Any) -> str:
    name = parameter.name.upper() + ("..." if parameter.nargs == -1 else "")
    return f" {name}" if parameter.required else f" [{name}]"


OF_ALL = {"--config", "--url", "--region", "--json"}
"""Options that the page describes once."""


def test_every_command_and_option_is_there():
    page = text("command-line.md")
    have = list(commands(typer.main.get_command(app), "cache"))

    assert {row.split("`")[1] for row in page.splitlines() if row.startswith("| `cache ")} == {
        path + arguments for path, arguments, _ in have
    }
    assert set(re.findall(r"^\| `(--[a-z]+)", section(page, "Which cache"), re.MULTILINE)) == OF_ALL
    for path, _, options in have:
        named = set(re.findall(r"(--[a-z][a-z-]+)", section(page, path)))
        assert named - OF_ALL - {"--install-completion"} == options - OF_ALL, path
        assert ("--json" in named) == ("--json" in options), path


def section(page: str, title: str) -> str:
    """What stands under a heading."""
    return page.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("decisions", "explanation", "howto")
    for path in (ROOT / "docs" / folder).glob("*.md")
)


@pytest.mark.parametrize("page", PAGES)
def test_every_test_that_a_page_names_exists(page):
    """A page names a file, or a file and functions of it: `tests/x.py::test_a`, `test_b`."""
    file = ROOT
    for path, name in re.findall(
        r"`(tests/[\w/.]+)?(?:::)?(test_\w+)?`", (ROOT / page).read_text(encoding="utf-8")
    ):
        file = ROOT / path if path else file
        assert file.exists(), path
        if name:
            assert f"def {name}(" in file.read_text(encoding="utf-8"), name
