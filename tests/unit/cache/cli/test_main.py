import os
import shutil
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from clusterdb.cache.cli import main
from clusterdb.cache.cli.app import app
from clusterdb.cache.cli.target import data_file

MODULE = [sys.executable, "-m", "clusterdb.cache.cli"]
COMMANDS = (
    "get", "set", "delete", "exists", "touch", "scan", "clear", "invalidate", "increment", "status",
    "warm",
    "regions", "metrics", "events", "config", "doctor", "demo", "completion",
)  # fmt: skip
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


def test_a_plain_command_starts_without_what_draws_tables_and_plays_the_demo(tmp_path: Path):
    script = (
        "import sys\nfrom clusterdb.cache.cli import main\n"
        f"main(['get', 'k', '--url', 'disk://{tmp_path}/cache.db'])\n"
        "demo = 'clusterdb.cache.cli.demo.tour'\n"
        "print({'rich', demo} & set(sys.modules) or 'none')"
    )

    assert run(sys.executable, "-c", script).stdout == "none\n"


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


def test_a_server_that_says_nothing_is_told_with_what_may_be_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """As one without TLS does when it is asked for it."""
    file = tmp_path / "cache.yaml"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"rediss://127.0.0.1:{silent.getsockname()[1]}"
        pool = "{timeout: 0.2, connect_timeout: 5}"
        backend = f"{{type: redis, urls: [{url}], pool: {pool}}}"
        file.write_text(f"cache: {{name: a, backend: {backend}}}\n", encoding="utf-8")
        assert main(["--config", str(file), "get", "k"]) == 3
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "rediss://" in err


def test_the_help_names_every_command():
    done = CliRunner().invoke(app, ["--help"])

    assert done.exit_code == 0
    assert [name for name in COMMANDS if name not in done.output] == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_given_its_completion_script(shell: str, capsys: pytest.CaptureFixture[str]):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert f"_CACHE_COMPLETE=complete_{shell}" in script
    if shutil.which(shell):
        checked = subprocess.run([shell, "-n"], input=script, text=True, check=False, timeout=60)
        assert checked.returncode == 0


@pytest.mark.process
def test_a_shell_completes_commands_and_options():
    def completed(words: str) -> set[str]:
        env = os.environ | {
            "_CACHE_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1),
        }
        done = subprocess.run(MODULE, env=env, capture_output=True, text=True, check=True)
        return set(done.stdout.split())

    assert completed("cache in") == {"invalidate", "increment"}
    assert completed("cache set --t") == {"--text", "--ttl", "--tag"}
    assert completed("cache events t") == {"tail"}


@pytest.mark.parametrize(
    ("platform", "environ", "path"),
    [
        ("linux", {}, "/home/ada/.local/share/clusterdb/cache.db"),
        ("linux", {"XDG_DATA_HOME": "/data"}, "/data/clusterdb/cache.db"),
        ("linux", {"XDG_DATA_HOME": "data"}, "/home/ada/.local/share/clusterdb/cache.db"),
        ("freebsd14", {"XDG_DATA_HOME": ""}, "/home/ada/.local/share/clusterdb/cache.db"),
        ("darwin", {}, "/home/ada/Library/Application Support/clusterdb/cache.db"),
        ("darwin", {"XDG_DATA_HOME": "/data"}, "/data/clusterdb/cache.db"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/clusterdb/cache.db"),
        ("win32", {"XDG_DATA_HOME": "/data"}, "/home/ada/AppData/Local/clusterdb/cache.db"),
    ],
)
def test_the_data_folder_is_that_of_the_platform(platform: str, environ: dict, path: str):
    assert data_file(platform, environ, Path("/home/ada")) == Path(path)
