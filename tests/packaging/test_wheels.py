"""What a build makes: compiled where it can, plain Python by itself where it can't."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from zipfile import ZipFile

import pytest
from tests.packaging.package import (
    COMPILER,
    FEW,
    copy_of_the_sources,
    hasty_compiler,
    needs_build_tools,
)

pytestmark = [pytest.mark.build, needs_build_tools]

SCRIPT = """\
import asyncio, json
from clusterdb.cache import Cache, clock, table

async def main():
    async with Cache() as cache:
        await cache.set("user:1", {"name": "Ada"}, tags=("user",))
        found = await cache.get("user:1")
        await cache.invalidate_tag("user")
        return [found, await cache.get("user:1")]

print(json.dumps([asyncio.run(main()), table.__file__, clock._steady.__class__.__name__]))
"""


@dataclass
class Built:
    """A wheel, where it was installed, and what pip said."""

    wheel: Path
    site: Path
    output: str

    @property
    def names(self) -> list[str]:
        with ZipFile(self.wheel) as archive:
            return archive.namelist()

    @property
    def libraries(self) -> set[str]:
        return {name.partition(".")[0] for name in self.names if name.endswith(".so")}


def pip(*args: str, **switches: str) -> str:
    environment = {k: v for k, v in os.environ.items() if k not in ("CC", "CLUSTERDB_PURE")}
    command = [sys.executable, "-m", "pip", "--no-input", "--disable-pip-version-check", *args]
    done = subprocess.run(
        command,
        env=environment | switches,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def build(place: Path, **switches: str) -> Built:
    """Build from a copy, so that the checkout stays clean, and install without an index."""
    source, wheels, site = place / "source", place / "wheels", place / "site"
    copy_of_the_sources(source)
    offline = ["--no-deps", "--no-index"]
    make = ["wheel", "-v", *offline, "--no-build-isolation", "-w", str(wheels), str(source)]
    output = pip(*make, **switches)
    (wheel,) = wheels.iterdir()
    pip("install", *offline, "--target", str(site), str(wheel))
    return Built(wheel, site, output)


def used(built: Built) -> tuple[str, str]:
    """Use the installed package; the file of its table, and what kind of function its clock is."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT],
        cwd=built.site.parent,
        env={**os.environ, "PYTHONPATH": str(built.site)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    answers, file, clock = json.loads(done.stdout)
    assert answers == [{"name": "Ada"}, None]
    assert Path(file).is_relative_to(built.site)
    return Path(file).name, clock


def holds_the_package(built: Built) -> None:
    names = built.names
    for name in ("cache/py.typed", "cache/table.py", "cache/_boottime.pyi", "tracing/py.typed"):
        assert f"clusterdb/{name}" in names
    assert any(name.startswith("clusterdb/cache/data/") for name in names)
    assert "clusterdb/monitoring/data/grafana-dashboard.json" in names
    assert not [name for name in names if name.endswith((".c", ".h", ".pyc"))]
    assert "clusterdb/__init__.py" not in names
    assert not [name for name in names if ".data/" in name]
    assert f"-{version('clusterdb-cache')}-" in built.wheel.name


def is_pure(built: Built) -> None:
    holds_the_package(built)
    assert built.libraries == set()
    assert built.wheel.name.endswith("-py3-none-any.whl")
    assert used(built)[0] == "table.py"


@pytest.mark.skipif(COMPILER is None, reason="there is no C compiler")
def test_a_wheel_is_compiled(tmp_path: Path):
    built = build(tmp_path, CC=hasty_compiler(tmp_path))

    holds_the_package(built)
    modules = {f"clusterdb/cache/{name.replace('.', '/')}" for name in FEW}
    shared = {"clusterdb_cache__mypyc"}
    assert modules | shared <= built.libraries
    assert built.libraries - modules - shared <= {"clusterdb/cache/_boottime"}
    table, clock = used(built)
    assert table.startswith("table.")
    assert table.endswith(".so")
    assert ("clusterdb/cache/_boottime" in built.libraries) == hasattr(time, "CLOCK_BOOTTIME")
    assert clock == "builtin_function_or_method"  # never the slower partial of the pure build


def test_a_compiler_that_fails_leaves_a_pure_wheel(tmp_path: Path):
    built = build(tmp_path, CC="/bin/false")

    is_pure(built)
    assert "warning: the hot modules are not compiled: the C compiler failed" in built.output


@pytest.mark.skipif(COMPILER is None, reason="there is no C compiler")
def test_half_of_the_libraries_are_not_left_behind(tmp_path: Path):
    """A compiler that can make everything but one thin module: none may stay."""
    built = build(tmp_path, CC=hasty_compiler(tmp_path, fails_on="cache/claims"))

    assert built.libraries <= {"clusterdb/cache/_boottime"}
    assert used(built)[0] == "table.py"


def test_a_pure_wheel_can_be_asked_for(tmp_path: Path):
    built = build(tmp_path, CLUSTERDB_PURE="1")

    is_pure(built)
    assert "warning: the hot modules" not in built.output


def test_what_mypyc_refuses_is_left_pure(tmp_path: Path):
    source = tmp_path / "source"
    copy_of_the_sources(source)
    hot = source / "src/clusterdb/cache/guard.py"
    hot.write_text(hot.read_text(encoding="utf-8") + "\n\nwrong: int = 'text'\n", encoding="utf-8")
    output = pip(
        "wheel", "-v", "--no-deps", "--no-index", "--no-build-isolation",
        "-w", str(tmp_path / "wheels"), str(source),
    )  # fmt: skip

    assert "warning: the hot modules are not compiled: mypyc could not translate them" in output
    (wheel,) = (tmp_path / "wheels").iterdir()
    assert Built(wheel, tmp_path, output).libraries <= {"clusterdb/cache/_boottime"}
