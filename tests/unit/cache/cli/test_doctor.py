import importlib
import json
import platform
import subprocess
import sys
import time
import tomllib
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.builds import COMPILED
from tests.house.sources import ROOT
from typer.testing import CliRunner

from clusterdb.cache import Cache, CacheError, clock
from clusterdb.cache.cli import doctor, installation
from clusterdb.cache.cli.app import app
from clusterdb.cache.hot import HOT_MODULES


def report(*argv: str) -> tuple[int, dict]:
    done = CliRunner().invoke(app, ["doctor", "--json", *argv])
    return done.exit_code, json.loads(done.output)


def test_a_sound_installation_passes():
    code, said = report()

    assert (code, said["ok"]) == (0, True)
    assert platform.python_version() in said["python"]
    assert [check["name"] for check in said["checks"]] == ["embedded cache"]


def test_the_text_says_the_same():
    done = CliRunner().invoke(app, ["doctor"])

    assert done.exit_code == 0
    lines = [line.split() for line in done.output.splitlines()]
    assert ["clusterdb-cache", installation.version()] in lines
    assert ["cli", "yes", "typer,", "rich"] in lines
    assert any(line[:2] == ["ok", "embedded"] for line in lines)


def library_of(name: str) -> bool:
    """Whether Python finds a library for this module, by looking into its directory."""
    spec = find_spec(f"clusterdb.cache.{name}")
    return spec is not None and spec.loader.__class__ is ExtensionFileLoader


def test_modules_are_called_what_their_files_are():
    kinds = {name: "compiled" if library_of(name) else "pure" for name in HOT_MODULES}

    assert installation.build() == kinds
    assert report()[1]["modules"] == kinds
    assert report()[1]["build"] == ("compiled" if COMPILED else "pure")
    assert len(set(kinds.values())) == 1


def test_a_mixed_build_is_told_module_by_module(monkeypatch: pytest.MonkeyPatch):
    kinds = dict.fromkeys(HOT_MODULES, "compiled") | {"table": "pure"}
    monkeypatch.setattr(doctor, "build", lambda: kinds)

    assert report()[1]["build"] == "mixed"
    lines = CliRunner().invoke(app, ["doctor"]).output.splitlines()
    assert [line.split(maxsplit=2)[2] for line in lines if line.startswith("hot modules")] == [
        f"mixed ({len(kinds)} looked at)"
    ]
    told = [line.strip() for line in lines]
    assert all(f"{name}: {kind}" in told for name, kind in kinds.items())


def test_a_module_is_judged_by_the_file_it_was_loaded_from(monkeypatch: pytest.MonkeyPatch):
    table = importlib.import_module("clusterdb.cache.table")
    ends = {".py": "pure", **dict.fromkeys(EXTENSION_SUFFIXES, "compiled")}
    for end, kind in ends.items():
        monkeypatch.setattr(table, "__file__", f"/lib/table{end}")
        assert installation.build()["table"] == kind


def test_modules_whose_driver_is_missing_are_not_looked_at():
    code = (
        "import sys; sys.modules['hiredis'] = None\n"
        "from clusterdb.cache.cli.installation import build\n"
        "print(*build())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert {"table", "codec.envelope"} <= set(done.stdout.split())
    assert "transport.connection" not in done.stdout


@pytest.mark.parametrize("value", [None, "1", "0"])
def test_what_the_builds_were_asked_for_is_shown(monkeypatch: pytest.MonkeyPatch, value):
    monkeypatch.delenv("CLUSTERDB_PURE", raising=False)
    if value is not None:
        monkeypatch.setenv("CLUSTERDB_PURE", value)

    assert report()[1]["asked_pure"] == value
    shown = "not set" if value is None else f"'{value}' (builds obey it)"
    assert f"CLUSTERDB_PURE   {shown}" in CliRunner().invoke(app, ["doctor"]).output


def test_every_extra_of_the_package_is_looked_for():
    tables = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    declared = tables["project"]["optional-dependencies"]

    assert set(installation.EXTRAS) == set(declared) - {"all"}
    assert {extra: len(names) for extra, names in installation.EXTRAS.items()} == {
        extra: len(wanted) for extra, wanted in declared.items() if extra != "all"
    }


def test_an_extra_that_is_not_there_is_said_to_be_missing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(installation, "EXTRAS", {"here": ("json",), "half": ("json", "no_such")})

    assert installation.extras() == {"here": True, "half": False}


def test_the_clock_is_the_one_the_cache_uses():
    expected = "CLOCK_BOOTTIME" if hasattr(time, "CLOCK_BOOTTIME") else "time.monotonic"
    _, said = report()

    assert said["clock"] == installation.clock_source() == expected
    assert said["clock_compiled"] == library_of("_boottime")
    reader = "this package's C function" if library_of("_boottime") else "the time module"
    assert f"{expected}, read by {reader}" in CliRunner().invoke(app, ["doctor"]).output


def test_both_readers_of_the_clock_are_told_apart(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(clock, "_steady", time.monotonic)

    assert not installation.clock_is_compiled()
    assert installation.clock_source() == "time.monotonic"


def test_a_wrong_file_fails_the_examination(tmp_path: Path):
    path = tmp_path / "cache.yaml"
    path.write_text("cache:\n  tll: 5\n", encoding="utf-8")
    code, said = report(str(path))

    assert (code, said["ok"]) == (1, False)
    assert [check["ok"] for check in said["checks"]] == [True, False]
    assert "cache.tll" in said["checks"][1]["detail"]


def test_a_right_file_passes(tmp_path: Path):
    path = tmp_path / "cache.yaml"
    path.write_text("regions:\n  session: {ttl: 5m}\n", encoding="utf-8")
    code, said = report(str(path))

    assert code == 0
    assert "2 regions" in said["checks"][1]["detail"]


async def test_a_cache_that_forgets_is_found(monkeypatch: pytest.MonkeyPatch):
    async def forget(*_: object, **__: object) -> bool:
        return True

    monkeypatch.setattr(Cache, "set", forget)
    check = await doctor.round_trip()

    assert not check.ok
    assert "read None" in check.detail


async def test_a_cache_that_fails_is_reported(monkeypatch: pytest.MonkeyPatch):
    async def fail(*_: object, **__: object) -> bool:
        raise CacheError("out of order")

    monkeypatch.setattr(Cache, "set", fail)

    assert await doctor.round_trip() == doctor.Check("embedded cache", False, "out of order")
