"""The slow origin: the modules of the standard library, read and analysed one at a time."""

from __future__ import annotations

import ast
import random
import sysconfig
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

__all__ = ["Facts", "Module", "NoSources", "Origin", "analyse", "find_modules"]

_NOT_MODULES: Final = frozenset(
    {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
)
_FEWEST: Final = 50
_PARSER: Final = threading.Lock()  # CPython 3.11 can fail when two threads parse (gh-106905)

_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


class NoSources(Exception):
    """The standard library is installed without its sources."""


class Module(msgspec.Struct, frozen=True):
    """A module of the standard library; ``package`` is the first part of its name."""

    name: str
    path: Path
    lines: int

    @property
    def package(self) -> str:
        return self.name.partition(".")[0]


class Facts(msgspec.Struct, frozen=True):
    """What the analysis of a module finds. ``documented`` of ``documentable`` have a docstring."""

    name: str
    lines: int
    functions: int
    classes: int
    imports: int
    documented: int
    documentable: int


class Origin:
    """Answers what a module contains, slowly; ``calls`` counts how often it was asked."""

    def __init__(self, modules: Sequence[Module]) -> None:
        self.modules = list(modules)
        self.calls = 0

    def load(self, module: Module) -> Facts:
        """Read and analyse a module, each time anew."""
        self.calls += 1
        return analyse(module.name, module.path.read_bytes())


def analyse(name: str, source: bytes) -> Facts:
    """Parse a source and count what is in it; one at a time, whatever the number of threads."""
    with _PARSER:
        nodes = list(ast.walk(_parse(source)))
    documentable = [node for node in nodes if isinstance(node, _Documented)]
    return Facts(
        name=name,
        lines=source.count(b"\n"),
        functions=sum(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in nodes),
        classes=sum(isinstance(node, ast.ClassDef) for node in nodes),
        imports=sum(isinstance(node, ast.Import | ast.ImportFrom) for node in nodes),
        documented=sum(ast.get_docstring(node, clean=False) is not None for node in documentable),
        documentable=len(documentable),
    )


def _parse(source: bytes) -> ast.Module:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError):  # sample sources of lib2to3 are not of this Python
        return ast.Module(body=[], type_ignores=[])


def find_modules(seed: int, root: Path | None = None) -> list[Module]:
    """The modules below ``root``, by default the standard library, in an order given by ``seed``.

    Reads each source once, so that the disk's own cache is warm before anything is measured.
    """
    root = Path(sysconfig.get_path("stdlib")) if root is None else root
    modules = [
        Module(".".join(_name(path.relative_to(root))), path, path.read_bytes().count(b"\n"))
        for path in _sources(root)
    ]
    if len(modules) < _FEWEST:
        raise NoSources(
            f"the demo analyses the sources of the standard library, and {root} holds only "
            f"{len(modules)} of them: run it with a Python that has its sources"
        )
    random.Random(seed).shuffle(modules)
    return modules


def _sources(root: Path) -> Iterator[Path]:
    for path in sorted(root.rglob("*.py")):
        if _NOT_MODULES.isdisjoint(path.relative_to(root).parts):
            yield path


def _name(path: Path) -> tuple[str, ...]:
    parts = path.with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts
