"""Who may import what, beyond the order of the floors that import-linter checks.

import-linter's `forbidden` contracts need every module they name to exist; these rules hold for
modules that are still to come, too.
"""

import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.house.sources import ROOT, SRC, Module, load

CACHE = "clusterdb.cache"


def floor(member: str) -> set[str]:
    """The modules that share a floor with this one, as pyproject.toml lists them."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for contract in settings["tool"]["importlinter"]["contracts"]:
        for layer in contract["layers"]:
            names = set(re.findall(r"\w+", layer))
            if member in names:
                return names
    raise LookupError(f"no layer in pyproject.toml names {member}")


WORDS = floor("errors")
ENGINES = floor("keys")
ADAPTERS = floor("transport") | floor("backends")
ENTRANCES = floor("cli")

INPUT_AND_OUTPUT = {"asyncio", "selectors", "socket", "sqlite3", "ssl", "subprocess"}

# Where each third-party package is at home. `testing` and `contrib` may use any of them.
HOMES = {
    "asyncpg": {"storage"},
    "cryptography": {"backup"},
    "cronsim": {"schedule"},
    "fastavro": {"codec", "backup"},
    "hiredis": {"transport"},
    "lz4": {"codec"},
    "obstore": {"backup"},
    "opentelemetry": {"tracing"},
    "prometheus_client": {"monitoring"},
    "redis": set(),
    "rich": {"cli"},
    "starlette": {"server"},
    "typer": {"cli"},
    "uvicorn": {"server"},
    "yaml": {"config"},
    "zstandard": {"codec", "backup"},
}


def part(name: str) -> str:
    """The part a name belongs to: `policy` for clusterdb.cache.policy.lru, else `tracing`, ..."""
    _, _, under = name.partition(f"{CACHE}." if name.startswith(f"{CACHE}.") else ".")
    return under.partition(".")[0]


def engines_do_no_io(modules: list[Module]) -> Iterator[str]:
    """Engines take bytes, counters and the time, and return decisions."""
    for module in _of(modules, ENGINES):
        for line, name in module.imports():
            if name.partition(".")[0] in INPUT_AND_OUTPUT:
                yield f"{module.at(line)} imports {name}"


def drivers_stay_at_home(modules: list[Module]) -> Iterator[str]:
    """One part of the code knows each driver, so that it can be replaced and stay optional."""
    for module in modules:
        for line, name in module.imports():
            homes = HOMES.get(name.partition(".")[0])
            if homes is not None and part(module.name) not in homes | {"testing", "contrib"}:
                yield f"{module.at(line)} imports {name}"


def only_the_factory_knows_adapters(modules: list[Module]) -> Iterator[str]:
    """Services and the face know protocols; the composition root picks what implements them."""
    for module in modules:
        if part(module.name) in ADAPTERS | {"factory", "testing"}:
            continue
        for line, name in module.imports():
            if name.startswith(f"{CACHE}.") and part(name) in ADAPTERS:
                yield f"{module.at(line)} imports {name}"


def transport_knows_no_cache(modules: list[Module]) -> Iterator[str]:
    """The Redis protocol is a client of its own; it shares only words, and who holds which key."""
    for module in _of(modules, {"transport"}):
        for line, name in module.imports():
            if name.startswith(f"{CACHE}.") and part(name) not in WORDS | {
                "transport",
                "partition",
            }:
                yield f"{module.at(line)} imports {name}"


def nobody_inside_uses_the_front_door(modules: list[Module]) -> Iterator[str]:
    """`from clusterdb.cache import Cache` inside the package would hide an import upwards."""
    for module in modules:
        if module.name == CACHE or part(module.name) in ENTRANCES:
            continue
        for line, name in module.imports():
            if name == CACHE or (name.startswith(f"{CACHE}.") and part(name)[0].isupper()):
                yield f"{module.at(line)} imports {name}"


def _of(modules: list[Module], parts: set[str]) -> Iterator[Module]:
    return (module for module in modules if part(module.name) in parts)


Rule = Callable[[list[Module]], Iterator[str]]

RULES: list[Rule] = [
    engines_do_no_io,
    drivers_stay_at_home,
    only_the_factory_knows_adapters,
    transport_knows_no_cache,
    nobody_inside_uses_the_front_door,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_source_keeps(rule: Rule):
    assert list(rule(load(SRC))) == []


BREACHES: list[tuple[Rule, str, str]] = [
    (engines_do_no_io, "cache/policy/lru.py", "import asyncio.events"),
    (engines_do_no_io, "cache/table.py", "def f():\n    from socket import socket"),
    (drivers_stay_at_home, "cache/coherence/near.py", "import hiredis"),
    (drivers_stay_at_home, "monitoring/__init__.py", "from rich.table import Table"),
    (only_the_factory_knows_adapters, "cache/manager.py", "from .backends.memory import Memory"),
    (only_the_factory_knows_adapters, "cache/backup/a.py", "from ..storage import sqlite"),
    (only_the_factory_knows_adapters, "cache/loading.py", "from . import transport"),
    (transport_knows_no_cache, "cache/transport/a.py", "from ..events import Event"),
    (nobody_inside_uses_the_front_door, "cache/manager.py", "from clusterdb.cache import Cache"),
    (nobody_inside_uses_the_front_door, "cache/manager.py", "import clusterdb.cache"),
    (nobody_inside_uses_the_front_door, "cache/policy/__init__.py", "from .. import Cache"),
]


@pytest.mark.parametrize(("rule", "where", "text"), BREACHES)
def test_each_rule_finds_its_breach(tmp_path: Path, rule: Rule, where: str, text: str):
    path = tmp_path / "clusterdb" / where
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")

    assert len(list(rule(load(tmp_path)))) == 1


def test_what_is_allowed_is_no_breach(tmp_path: Path):
    allowed = {
        "cache/transport/link.py": "import asyncio, hiredis\nfrom ..errors import CacheError\n",
        "cache/factory.py": "from .backends import memory\nfrom clusterdb.cache import manager\n",
        "cache/manager.py": "",
        "cache/backends/memory.py": "",
        "cache/cli/__init__.py": "import typer\nfrom clusterdb.cache import Cache\n",
        "cache/__init__.py": "from clusterdb.cache.manager import Cache\n",
        "tracing/__init__.py": "from opentelemetry import trace\n",
    }
    for where, text in allowed.items():
        path = tmp_path / "clusterdb" / where
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    assert [breach for rule in RULES for breach in rule(load(tmp_path))] == []
