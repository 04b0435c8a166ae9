"""The shape of the code: sizes, names, `__all__`, and what never stays in a source.

Each rule is a function from modules to the list of its breaches, so that the last test can show on
a bad tree that each of them bites.
"""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import pytest
from tests.house.sources import SRC, Function, Module, load

from clusterdb.cache.hot import HOT_MODULES

MODULE_MEDIAN, MODULE_MOST = 200, 600
CLASS_MOST = 350
FUNCTION_MEDIAN, FUNCTION_MOST = 10, 60

NAMES_THAT_SAY_NOTHING = {"utils", "helpers", "common", "misc"}
NOTES_TO_SELF = re.compile(r"\b(TODO|FIXME|XXX)\b")
BLANKET = re.compile(r"#\s*(type:\s*ignore(?!\[)|noqa(?!:\s*[A-Z]))")
SILENT = (ast.Pass, ast.Continue)
WAITS = (ast.Await, ast.AsyncFor, ast.AsyncWith)


def length(node: ast.ClassDef | Function) -> int:
    """Lines from `def` or `class` to the end; docstrings count, decorators don't."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def namespace_stays_open(modules: list[Module]) -> Iterator[str]:
    """`clusterdb` is a namespace that other distributions share."""
    return (str(module.path) for module in modules if module.name == "clusterdb")


def modules_are_short(modules: list[Module]) -> Iterator[str]:
    for module in modules:
        if module.lines > MODULE_MOST:
            yield f"{module.name}: {module.lines} lines, at most {MODULE_MOST}"
    middle = median([module.lines for module in modules] or [0])
    if middle > MODULE_MEDIAN:
        yield f"the median module has {middle} lines, at most {MODULE_MEDIAN}"


def classes_are_short(modules: list[Module]) -> Iterator[str]:
    for module in modules:
        for node in module.classes:
            if length(node) > CLASS_MOST:
                yield f"{module.at(node)} {node.name}: {length(node)} lines, at most {CLASS_MOST}"


def functions_are_short(modules: list[Module]) -> Iterator[str]:
    lengths = []
    for module in modules:
        for node in module.functions:
            lengths.append(length(node))
            if length(node) > FUNCTION_MOST:
                size = f"{length(node)} lines, at most {FUNCTION_MOST}"
                yield f"{module.at(node)} {node.name}: {size}"
    middle = median(lengths or [0])
    if middle > FUNCTION_MEDIAN:
        yield f"the median function has {middle} lines, at most {FUNCTION_MEDIAN}"


def modules_list_their_names(modules: list[Module]) -> Iterator[str]:
    for module in modules:
        bound = {
            target.id
            for node in module.tree.body
            for target in _targets(node)
            if isinstance(target, ast.Name)
        }
        if "__all__" not in bound and module.path.stem != "__main__":
            yield f"{module.name} has no __all__"


def _targets(node: ast.stmt) -> list[ast.expr]:
    if isinstance(node, ast.Assign):
        return node.targets
    return [node.target] if isinstance(node, ast.AnnAssign) else []


def names_say_something(modules: list[Module]) -> Iterator[str]:
    for module in modules:
        if NAMES_THAT_SAY_NOTHING & {part.strip("_") for part in module.name.split(".")}:
            yield module.name


def no_notes_to_self(modules: list[Module]) -> Iterator[str]:
    return _matching(modules, NOTES_TO_SELF)


def no_blanket_ignores(modules: list[Module]) -> Iterator[str]:
    return _matching(modules, BLANKET)


def _matching(modules: list[Module], pattern: re.Pattern[str]) -> Iterator[str]:
    for module in modules:
        for number, line in enumerate(module.text.splitlines(), 1):
            if pattern.search(line):
                yield f"{module.at(number)} {line.strip()}"


def no_swallowed_errors(modules: list[Module]) -> Iterator[str]:
    """`except Exception: pass` and `suppress(Exception)` hide what went wrong."""
    for module in modules:
        for node in module.nodes:
            if isinstance(node, ast.ExceptHandler | ast.Call) and _swallows(node):
                yield f"{module.at(node)} swallows every error"


def _swallows(node: ast.ExceptHandler | ast.Call) -> bool:
    if isinstance(node, ast.ExceptHandler):
        return _is_broad(node.type) and all(isinstance(step, SILENT) for step in node.body)
    return ast.unparse(node.func).endswith("suppress") and any(map(_is_broad, node.args))


def _is_broad(caught: ast.expr | None) -> bool:
    return caught is None or ast.unparse(caught) in {"Exception", "BaseException"}


def compiled_code_does_not_wait_in_a_handler(modules: list[Module]) -> Iterator[str]:
    """A coroutine that mypyc compiled and that is suspended while it handles an error leaves that
    error to whatever runs next in the thread, as the context of all errors to come.
    """
    hot = {f"clusterdb.cache.{name}" for name in HOT_MODULES}
    for module in modules:
        for node in module.nodes:
            if isinstance(node, ast.Try) and module.name in hot:
                handlers = [step for handler in node.handlers for step in handler.body]
                for step in [*handlers, *node.finalbody]:
                    if any(isinstance(inner, WAITS) for inner in ast.walk(step)):
                        yield f"{module.at(step)} waits while it handles an error"


Rule = Callable[[list[Module]], Iterator[str]]

RULES: list[Rule] = [
    namespace_stays_open,
    modules_are_short,
    classes_are_short,
    functions_are_short,
    modules_list_their_names,
    names_say_something,
    no_notes_to_self,
    no_blanket_ignores,
    no_swallowed_errors,
    compiled_code_does_not_wait_in_a_handler,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_source_keeps(rule: Rule):
    assert list(rule(load(SRC))) == []


BREACHES: list[tuple[Rule, str, str]] = [
    (namespace_stays_open, "clusterdb/__init__.py", ""),
    (modules_are_short, "clusterdb/cache/a.py", "x = 1\n" * 601),
    (modules_are_short, "clusterdb/cache/a.py", "x = 1\n" * 201),
    (classes_are_short, "clusterdb/cache/a.py", "class A:\n" + "    x = 1\n" * 350),
    (functions_are_short, "clusterdb/cache/a.py", "def f():\n" + "    g()\n" * 60),
    (functions_are_short, "clusterdb/cache/a.py", ("async def f():\n" + "    g()\n" * 11) * 2),
    (modules_list_their_names, "clusterdb/cache/a.py", "x = 1\n"),
    (names_say_something, "clusterdb/cache/_utils.py", ""),
    (names_say_something, "clusterdb/cache/common/a.py", ""),
    (no_notes_to_self, "clusterdb/cache/a.py", "x = 1  # TODO: more\n"),
    (no_blanket_ignores, "clusterdb/cache/a.py", "x = 1  # type: ignore\n"),
    (no_blanket_ignores, "clusterdb/cache/a.py", "x = 1  # noqa\n"),
    (no_swallowed_errors, "clusterdb/cache/a.py", "try:\n    f()\nexcept Exception:\n    pass\n"),
    (
        no_swallowed_errors,
        "clusterdb/cache/a.py",
        "with suppress(Exception):\n    f()\n",
    ),
    (
        compiled_code_does_not_wait_in_a_handler,
        "clusterdb/cache/table.py",
        "async def f():\n    try:\n        g()\n    finally:\n        await h()\n",
    ),
]


@pytest.mark.parametrize(("rule", "where", "text"), BREACHES)
def test_each_rule_finds_its_breach(tmp_path: Path, rule: Rule, where: str, text: str):
    path = tmp_path / where
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")

    assert list(rule(load(tmp_path))) != []


def test_a_clean_tree_has_no_breach(tmp_path: Path):
    path = tmp_path / "clusterdb/cache/a.py"
    path.parent.mkdir(parents=True)
    path.write_text(
        "__all__: list[str] = []\nx = 1  # type: ignore[misc]\ny = 2  # noqa: E501\n"
        "try:\n    f()\nexcept KeyError:\n    pass\n",
        encoding="utf-8",
    )

    assert [breach for rule in RULES for breach in rule(load(tmp_path))] == []
