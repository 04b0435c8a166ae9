"""Options of a cache that stand before the command."""

from pathlib import Path
from typing import Any

import pytest
import typer
from tests.unit.cache.cli.commands import Run

from clusterdb.cache.cli.ahead import behind_command
from clusterdb.cache.cli.app import app

URL = "redis://h"


def leaves(command: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """Every command with its path."""
    below = getattr(command, "commands", None)
    if below is None:
        return [(path, command)]
    return [leaf for name, each in below.items() for leaf in leaves(each, (*path, name))]


def commands_with(option: str) -> list[tuple[str, ...]]:
    found = leaves(typer.main.get_command(app))
    return [path for path, each in found if any(option in param.opts for param in each.params)]


@pytest.mark.parametrize("option", ["--url", "--config"])
def test_every_command_that_takes_them_takes_them_first(option: str):
    paths = commands_with(option)
    assert len(paths) > 20
    for path in paths:
        moved = behind_command(typer.main.get_command(app), [f"{option}={URL}", *path, "x"])
        assert moved == [*path, option, URL, "x"]


def test_values_are_read_by_the_url_before_the_command(cli: Run, tmp_path: Path):
    url = f"disk://{tmp_path}/c.db"
    assert cli("--url", url, "set", "k", "5")[:2] == (0, "stored\n")
    assert cli(f"--url={url}", "get", "k")[:2] == (0, "5\n")
    assert cli("--url", "redis://127.0.0.1:1", "get", "k", "--url", url)[:2] == (0, "5\n")


def test_values_are_read_by_the_file_before_the_command(cli: Run, tmp_path: Path):
    file = tmp_path / "cache.yaml"
    file.write_text(f"cache: {{name: a, backend: {{type: disk, path: {tmp_path}/c.db}}}}\n")
    assert cli("--config", str(file), "set", "k", "5")[0] == 0
    assert cli("--config", str(file), "get", "k")[1] == "5\n"
    assert "configuration: " in cli("--config", str(file), "doctor")[1]
    assert cli("--config", str(file), "maintenance", "status")[0] == 0


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--url", URL, "storage", "status"], "'cache storage status' takes no --url: name its"),
        (["--url", URL, "storage", "status"], "by --config"),
        (["--url", URL, "simulate", "t.csv"], "takes no --url: leave it out"),
        (["--config", "c.yaml", "config", "check"], "'cache config check' takes no --config"),
        (["--config", "c.yaml", "--url", URL, "status"], "--config and --url exclude each other"),
        (["--config", "c.yaml", "doctor", "c.yaml"], "FILE and --config name the same"),
        (["--url", "http://h:1", "backup", "list"], "does not work over HTTP (http://h:1)"),
        (["--url", "http://h:1", "maintenance", "status"], "does not work over HTTP"),
        (["--url", "http://h:1", "warm", "k"], "does not work over HTTP"),
        (["--url", "http://h:1", "serve"], "does not work over HTTP"),
        (["--url"], "requires an argument"),
        (["--url", URL], "Missing command"),
        (["--url", URL, "stats"], "No such command 'stats'"),
        (["--url", URL, "storage", "frobnicate"], "No such command 'frobnicate'"),
    ],
)
def test_what_can_not_be_is_one_line_and_exits_2(cli: Run, argv: list[str], said: str):
    code, out, err = cli(*argv)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err


def test_the_help_tells_of_them(cli: Run):
    code, shown, _ = cli("--help")
    assert code == 0
    assert "--url" in shown
    assert "--config" in shown
