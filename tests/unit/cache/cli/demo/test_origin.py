from pathlib import Path

import pytest

from clusterdb.cache.cli.demo.origin import Facts, NoSources, Origin, analyse, find_modules

SOURCE = b'''"""A module."""
import os
from sys import path

class Cup:
    """A cup."""
    def fill(self):
        return 1

async def drink():
    """Drink."""
'''


def library(root: Path, number: int) -> Path:
    for at in range(number):
        (root / f"module_{at}.py").write_text("x = 1\n" * at, encoding="utf-8")
    return root


def test_a_source_is_counted():
    assert analyse("cup", SOURCE) == Facts(
        name="cup", lines=11, functions=2, classes=1, imports=2, documented=3, documentable=4
    )


def test_a_source_of_another_python_has_lines_only():
    facts = analyse("old", b"print 'hello'\n")

    assert (facts.lines, facts.functions, facts.documentable) == (1, 0, 1)


def test_the_seed_gives_the_order_and_nothing_else(tmp_path: Path):
    root = library(tmp_path, 60)
    one, again, two = find_modules(1, root), find_modules(1, root), find_modules(2, root)

    assert one == again
    assert one != two
    assert {module.name for module in one} == {module.name for module in two}


def test_names_are_those_that_are_imported(tmp_path: Path):
    root = library(tmp_path, 50)
    for name in ("cups/__init__.py", "cups/big/mug.py", "cups/test/test_mug.py"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("", encoding="utf-8")
    names = {module.name: module.package for module in find_modules(1, root)}

    assert names["cups"] == names["cups.big.mug"] == "cups"
    assert [name for name in names if "test" in name] == []


def test_a_library_without_sources_is_refused(tmp_path: Path):
    with pytest.raises(NoSources, match="holds only 3 of them"):
        find_modules(1, library(tmp_path, 3))


def test_the_origin_counts_what_it_is_asked(tmp_path: Path):
    origin = Origin(find_modules(1, library(tmp_path, 50)))
    module = origin.modules[0]

    assert origin.load(module) == origin.load(module)
    assert origin.calls == 2
    assert origin.load(module).lines == module.lines
