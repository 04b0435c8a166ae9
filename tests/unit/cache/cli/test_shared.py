"""Commands beside each other, and beside the programs that use the same cache."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.cache.cli.commands import Run, program

from clusterdb.cache import Cache, CacheConfig, Disk

pytestmark = pytest.mark.build  # each command is a process


def opened(home: Path) -> Cache:
    """The cache of the commands, as a program has it."""
    return Cache(CacheConfig(backend=Disk(path=home / "clusterdb" / "cache.db")))


def finished(*argv: str) -> tuple[int, str, str]:
    with program(*argv) as running:
        out, err = running.communicate(timeout=60)
        return running.returncode, out, err


def following(*argv: str) -> "subprocess.Popen[str]":
    """`cache events tail`, once it follows."""
    tail = program("events", "tail", *argv)
    assert tail.stderr is not None
    assert tail.stderr.readline() == "cache: following; Ctrl-C ends it\n"
    return tail


@pytest.mark.usefixtures("home")
def test_what_one_process_sets_another_gets():
    assert finished("set", "user:123", '{"name": "Ada"}', "--ttl", "1h", "--tag", "user")[0] == 0
    assert finished("get", "user:123") == (0, '{"name": "Ada"}\n', "")
    assert finished("invalidate", "--tag", "user")[0] == 0
    assert finished("get", "user:123") == (1, "", "cache: no entry 'user:123'\n")


async def test_status_shows_sizes_ratios_and_who_is_there(home: Path):
    async with opened(home) as cache:
        await cache.set("a", "x")
        for key in ("a", "a", "b", "a"):
            await cache.get(key)
        await cache.get_statistics()  # writes its figures down, as it does by itself every second
        before = json.loads(finished("status", "--json")[1])
        said = json.loads(finished("status", "--json")[1])
        text = finished("status")[1]

    [default] = said["regions"]
    assert said["backend"] == "disk"
    assert said["at"] == [str(home / "clusterdb" / "cache.db")]
    assert said["size"] > 10_000
    assert (default["name"], default["items"]) == ("default", 1)
    assert 1 < default["weight"] < 20
    assert (default["max_items"], default["max_memory"]) == (1_000_000, None)
    totals = default["totals"]
    assert (totals["sets"], totals["hits"], totals["misses"], said["hit_ratio"]) == (1, 3, 1, 0.75)
    assert said["regions"] == before["regions"]  # to look is no read
    [process] = said["processes"]  # and who looks is not among those who are there
    assert (process["host"], process["pid"]) == (socket.gethostname(), os.getpid())
    assert process["silent"] < 60
    assert process["version"]
    assert process["figures"]["near_hits"] + process["figures"]["near_misses"] == 4
    assert process["figures"]["lag"] < 60
    assert f"{socket.gethostname()}:{os.getpid()}" in text


def test_hit_ratios_are_those_of_all_processes(cli: Run):
    assert json.loads(cli("status", "--json")[1])["hit_ratio"] is None
    assert "no reads" in cli("status")[1]
    cli("set", "k", "1")
    for key in ("k", "k", "k", "absent"):
        cli("get", key)
        cli("exists", key)

    said = json.loads(cli("status", "--json")[1])
    assert said["hit_ratio"] == said["regions"][0]["hit_ratio"] == 0.75
    assert "hits     75.0%" in cli("status")[1]
    metrics = json.loads(cli("metrics", "show", "--json")[1])["metrics"]
    values = {metric["name"]: metric["value"] for metric in metrics}
    assert (values["cache_hits"], values["cache_misses"], values["cache_size"]) == (3, 1, 1)
    assert "cache_loads" not in values  # which a program counts for itself
    assert ["cache_hits", "default", "3"] in [
        line.split() for line in cli("metrics", "show")[1].splitlines()
    ]


def test_metrics_are_watched(cli: Run):
    cli("set", "k", "1")
    code, out, _ = cli("metrics", "show", "--watch", "--every", "0.1", "--count", "2")
    rows = [line.split() for line in out.splitlines()]
    first, second = [row for row in rows if row[:1] == ["cache_sets"]]
    assert code == 0
    assert first == ["cache_sets", "default", "1"]
    assert second == ["cache_sets", "default", "1", "0.0"], "a counter has its rate from then on"

    lines = cli("metrics", "show", "--watch", "--every", "0.1", "--count", "2", "--json")[1]
    looks = [json.loads(line) for line in lines.splitlines()]
    assert [{each["name"] for each in look["metrics"]} >= {"cache_up"} for look in looks] == [
        True,
        True,
    ]
    assert looks[0]["time"] < looks[1]["time"]


@pytest.mark.parametrize("wrong", [("--every", "0"), ("--every", "nan"), ("--count", "0")])
def test_a_watch_that_never_rests_is_refused(cli: Run, wrong: tuple[str, str]):
    code, _, err = cli("metrics", "show", "--watch", *wrong)

    assert code != 0
    assert "--every is 0.1 seconds or more" in err


def test_the_dashboard_and_the_rules_are_written(cli: Run):
    assert json.loads(cli("metrics", "dashboard")[1])["title"] == "ClusterDB Cache"
    assert yaml.safe_load(cli("metrics", "rules")[1])["groups"]


def test_regions_with_their_limits(cli: Run, tmp_path: Path):
    config = tmp_path / "cache.yaml"
    config.write_text(
        f"cache:\n  backend: {{type: disk, path: {tmp_path / 'own.db'}}}\n"
        "regions:\n  session: {ttl: 30m, size: 64MiB, policy: {type: lfu}}\n",
        encoding="utf-8",
    )
    cli("set", "k", "1", "--region", "session", "--config", str(config))
    _, out, _ = cli("regions", "--config", str(config))
    said = json.loads(cli("regions", "--config", str(config), "--json")[1])["regions"]

    assert [region["name"] for region in said] == ["default", "session"]
    session = said[1]
    assert (session["policy"], session["ttl"], session["items"]) == ("lfu", 1800.0, 1)
    assert (session["max_items"], session["max_memory"]) == (None, 64 * 2**20)
    assert session["totals"]["sets"] == 1
    assert "session lfu 30m" in " ".join(out.split())


async def test_tail_shows_what_another_process_does(home: Path):
    async with opened(home) as cache:
        await cache.set("before", 1)
        with following("--count", "6", "--json") as tail:
            await cache.set("k", 1, tags=("t",))
            await cache.delete("k")
            await cache.invalidate("k")
            await cache.invalidate_tag("t")
            await cache.clear()
            await cache.set("last\x1b", 1)
            out, _ = tail.communicate(timeout=60)

    told: list[dict[str, Any]] = [json.loads(line) for line in out.splitlines()]
    assert [(each["kind"], each.get("key", each.get("tag"))) for each in told] == [
        ("set", "k"),
        ("delete", "k"),
        ("invalidate", "k"),
        ("invalidate_tag", "t"),
        ("clear", None),
        ("set", "last\x1b"),
    ]
    assert {each["origin"] for each in told} == {f"{socket.gethostname()}:{os.getpid()}"}
    assert [each["time"] for each in told] == sorted([each["time"] for each in told])
    assert tail.returncode == 0


async def test_tail_in_words(home: Path):
    async with opened(home) as cache:
        with following("--count", "2") as tail:
            await cache.set("two\nlines\x1b[0m", 1)
            await cache.invalidate_tag("t")
            out, _ = tail.communicate(timeout=60)

    origin = f"{socket.gethostname()}:{os.getpid()}"
    rows = [line.split() for line in out.splitlines()]
    assert [row[1:] for row in rows] == [
        ["set", "default", r"two\nlines\x1b[0m", origin],
        ["invalidate_tag", "-", "t", origin],
    ]


@pytest.mark.usefixtures("home")
def test_tail_ends_by_itself_or_by_an_interrupt():
    assert finished("events", "tail", "--for", "10ms")[:2] == (0, "")
    with following() as tail:
        tail.send_signal(signal.SIGINT)
        out, err = tail.communicate(timeout=60)

    assert (tail.returncode, out, err) == (130, "", "cache: interrupted\n")


async def test_tail_into_a_pipe_that_is_closed_ends_without_a_word(home: Path):
    async with opened(home) as cache:
        with following() as tail:
            assert tail.stdout is not None
            tail.stdout.close()
            await cache.set("k", 1)
            assert tail.wait(timeout=60) == 141
            assert tail.stderr is not None
            assert tail.stderr.read() == ""


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("command", "redirection", "code", "err"),
    [
        ("get big", "| true", "141", ""),
        ("get big", "| head -c 5 >/dev/null", "141", ""),
        ("scan", "| true", "141", ""),
        ("status", "| true", "141", ""),
        ("get big", ">&-", "0", ""),
        ("status", ">&- <&- 2>&-", "0", ""),
        ("scan", ">/dev/full", "4", "cache: can't write: [Errno 28] No space left on device\n"),
        ("status", ">/dev/full", "4", "cache: can't write: [Errno 28] No space left on device\n"),
    ],
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_outputs_that_take_nothing(
    command: str, redirection: str, code: str, err: str, unbuffered: str, tmp_path: Path
):
    file = tmp_path / "big"
    file.write_bytes(b"x" * 1_000_000)
    assert finished("set", "big", "--file", str(file))[0] == 0

    line = f'"{sys.executable}" -m clusterdb.cache.cli {command} {redirection}'
    done = subprocess.run(
        ["bash", "-c", f"{line}; echo ${{PIPESTATUS[0]}} >{tmp_path}/code"],
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )

    assert ((tmp_path / "code").read_text().strip(), done.stderr) == (code, err)


# --- which cache --------------------------------------------------------------------------------


def test_a_cache_by_url_or_variable(cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = tmp_path / "cache.yaml"
    config.write_text(
        f"cache: {{name: shop, backend: {{type: disk, path: {tmp_path / 'own.db'}}}}}\n",
        encoding="utf-8",
    )
    assert cli("set", "k", "1", "--url", f"disk://{tmp_path / 'own.db'}")[0] == 0
    assert cli("exists", "k")[0] == 1
    monkeypatch.setenv("CLUSTERDB_CACHE_CONFIG", str(config))
    assert cli("exists", "k")[0] == 0
    assert json.loads(cli("status", "--json")[1])["cache"] == "shop"
    code, _, said = cli("exists", "k", "--url", f"disk://{tmp_path / 'other.db'}")
    assert (code, "there is no cache file" in said) == (3, True)
    assert not (tmp_path / "other.db").exists()


def foreign(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["get", "k", "--config", "{tmp}/absent.yaml"], 2, "can't be read"),
        (["get", "k", "--config", "{tmp}/memory.yaml"], 2, "configure backend 'disk'"),
        (["get", "k", "--config", "{tmp}/disk.yaml", "--url", "disk:///x"], 2, "choose one"),
        (["set", "k", "1", "--config", "{tmp}/disk.yaml", "--region", "sesion"], 2, "'session'?"),
        (["get", "k", "--region", "session"], 2, "known: default"),
        (["get", "k", "--url", "dsk:///x"], 2, "did you mean 'disk'?"),
        (["get", "k", "--url", "redis://user:hunter2@127.0.0.1:1/0"], 3, "127.0.0.1:1"),
        (["get", "k", "--url", "disk://{tmp}/theirs.db"], 2, "another program"),
        (["get", "k", "--url", "disk://{tmp}/text.db"], 2, "not a cache file"),
        (["set", "k", "1", "--url", "disk://{tmp}/text.db/x.db"], 3, "can't be opened"),
        (["set", "k", "1", "--ttl", "5x"], 2, "'5x' is not a duration"),
        (["set", "k", "1", "--ttl", "0"], 2, "greater than 0"),
        (["set", "k", "1", "--ttl", "1h", "--keep-ttl"], 2, "exclude each other"),
        (["set", "k", "1", "--nx", "--xx"], 2, "exclude each other"),
        (["set", "k", "1", "--text", "--json-value"], 2, "choose one"),
        (["set", "k", "1", "--file", "x"], 2, "one of the two"),
        (["set", "k"], 2, "one of the two"),
        (["set", "k", "{{", "--json-value"], 2, "not JSON"),
        (["set", "k", "--file", "{tmp}/absent"], 2, "can't be read"),
        (["set", "k", "--file", "{tmp}"], 2, "can't be read"),
        (["set", "k", "--file", "{tmp}/theirs.db", "--text"], 2, "is not UTF-8 text"),
        (["set", "", "1"], 2, "a key can't be empty"),
        (["set", "\udcff", "1"], 2, "lone surrogate"),
        (["set", "k" * 70_000, "1"], 2, "over the limit"),
        (["set", "k", "1", "--tag", ""], 2, "a tag is a non-empty str"),
        (["set", "k", "[" * 500 + "]" * 500], 2, "nested too deep"),
        (["set", "k", '"\\ud800"'], 2, "can't store"),
        (["increment", "k", "--intial", "5"], 2, "Invalid value"),
        (["scan", "--timeout", "soon"], 2, "not a duration"),
        (["scan", "--limit", "0"], 2, "Invalid value"),
        (["events", "tail", "--for", "0"], 2, "above 0 seconds"),
        (["completion", "tcsh"], 2, "'tcsh'"),
    ],
)
def test_what_is_wrong_is_one_line(argv: list[str], code: int, said: str, cli: Run, tmp_path: Path):
    disk = f"{{type: disk, path: {tmp_path / 'own.db'}}}"
    text = f"cache: {{backend: {disk}}}\nregions: {{session: {{}}}}\n"
    (tmp_path / "disk.yaml").write_text(text, encoding="utf-8")
    (tmp_path / "memory.yaml").write_text("cache: {}\n", encoding="utf-8")
    (tmp_path / "text.db").write_text("no database at all\n" * 100, encoding="utf-8")
    foreign(tmp_path / "theirs.db")
    argv = [each.replace("{tmp}", str(tmp_path)).replace("{{", "{") for each in argv]
    found, out, err = cli(*argv)

    assert (found, out, err.count("\n")) == (code, "", 1)
    assert err.startswith("cache: ")
    assert said in err
    assert "hunter2" not in err


def test_a_file_that_another_process_keeps_locked_is_exit_3(cli: Run, tmp_path: Path):
    config = tmp_path / "cache.yaml"
    config.write_text(
        f"cache:\n  backend: {{type: disk, path: {tmp_path / 'own.db'}, timeout: 100ms}}\n",
        encoding="utf-8",
    )
    assert cli("set", "k", "1", "--config", str(config))[0] == 0
    holder = sqlite3.connect(tmp_path / "own.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        code, out, err = cli("set", "k", "2", "--config", str(config))
    finally:
        holder.close()

    assert (code, out, err.count("\n")) == (3, "", 1)
    assert "held the write lock" in err
    assert cli("get", "k", "--config", str(config)) == (0, "1\n", "")
