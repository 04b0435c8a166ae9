import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from clusterdb.cache.cli import main
from clusterdb.cache.cli.app import app

MODULE = [sys.executable, "-m", "clusterdb.cache.cli"]
SCRIPT = Path(sys.executable).with_name("cache")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("command", [MODULE, [str(SCRIPT)]], ids=["module", "script"])
def test_both_entrances_show_the_version(command: list[str]):
    if command[0] == str(SCRIPT) and not SCRIPT.exists():
        pytest.skip("the package is not installed in this environment")
    done = run(*command, "--version")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"clusterdb-cache {version('clusterdb-cache')}\n"


def test_the_exit_code_reaches_the_shell(tmp_path: Path):
    done = run(*MODULE, "config", "check", str(tmp_path / "absent.yaml"))

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_a_missing_extra_is_named(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setitem(sys.modules, missing, None)

    assert main(["--version"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (f"cache: the command line needs {missing}: pip install 'clusterdb-cache[cli]'\n")


def test_importing_the_entrance_imports_neither_typer_nor_rich():
    script = "import sys, clusterdb.cache.cli; print({'typer', 'rich'} & set(sys.modules))"

    assert run(sys.executable, "-c", script).stdout == "set()\n"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["frobnicate"], "No such command 'frobnicate' (see 'cache --help')"),
        (["config", "chek"], "Did you mean 'check'"),
        (["config", "check"], "(see 'cache config check --help')"),
        (["demo", "--seed", "soon"], "--seed"),
        (["doctor", "--frobnicate"], "No such option"),
    ],
)
def test_wrong_usage_is_one_line_and_exits_2(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
):
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("cache: ")
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("argv", [[], ["config"]])
def test_no_command_shows_the_help(argv: list[str], capfd: pytest.CaptureFixture[str]):
    assert main(argv) == 2
    assert "Usage" in "".join(capfd.readouterr())


def test_an_interrupt_exits_130_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("clusterdb.cache.cli.doctor.examine", interrupted)

    assert main(["doctor"]) == 130
    assert capsys.readouterr() == ("", "cache: interrupted\n")


def test_the_help_names_every_command():
    done = CliRunner().invoke(app, ["--help"])

    assert done.exit_code == 0
    assert [name for name in ("demo", "config", "doctor") if name not in done.output] == []
