import importlib
import json
import platform
import time
import tomllib
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest
from tests.house.sources import ROOT
from typer.testing import CliRunner

from clusterdb.cache import Cache, CacheError
from clusterdb.cache.cli import doctor, installation
from clusterdb.cache.cli.app import app


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


def test_modules_are_called_what_their_files_are():
    for name, kind in installation.build().items():
        file = importlib.import_module(f"clusterdb.cache.{name}").__file__ or ""
        assert kind == ("pure" if file.endswith(".py") else "compiled")


def test_an_extension_module_is_compiled(monkeypatch: pytest.MonkeyPatch):
    table = importlib.import_module("clusterdb.cache.table")
    monkeypatch.setattr(table, "__file__", f"/lib/table{EXTENSION_SUFFIXES[0]}")

    built = installation.build()
    assert built["table"] == "compiled"
    assert {"table"} == {name for name, kind in built.items() if kind == "compiled"}


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

    assert installation.clock_source() == expected


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
