"""Commands that watch a cache: `top`, `health`, `keys hot`, and the filters of `events tail`."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cache.cli.commands import Run, on_terminal, program
from tests.unit.cache.cli.test_shared import following, opened

from clusterdb.cache.cli.top import changes_since
from clusterdb.cache.members import Member
from clusterdb.cache.protocols import BackendInfo, RegionInfo, ServerInfo
from clusterdb.cache.stats import Counters, NearFigures
from clusterdb.cache.tally import Tally


def info(counters: Counters, evictions: int = 0, near: int = 0) -> BackendInfo:
    server = ServerInfo(name="s", role="master", memory=5, evictions=evictions)
    figures = NearFigures(near_hits=near, near_misses=near)
    member = Member(host="h", pid=1, program="p", started=0, silent=0, figures=figures)
    regions = {"r": RegionInfo(7, 1, Counters(), counters)}
    return BackendInfo("redis", 0, regions, servers=(server,), members=(member,))


def test_rates_are_of_what_happened_between_two_looks():
    before = info(Counters(hits=100, misses=100, sets=10), evictions=50, near=10)
    after = info(Counters(hits=130, misses=110, stale_hits=10, sets=14), evictions=60, near=20)
    look = changes_since(before, after, 2.0, 99.0)

    [region], [server], [process] = look.regions, look.servers, look.processes
    assert (region.items, region.reads, region.hit_ratio, region.sets) == (7, 25.0, 0.8, 2.0)
    assert server.evictions == 5.0
    assert (process.reads, process.near_ratio) == (10.0, 0.5)
    assert (look.time, look.over) == (99.0, 2.0)


def test_what_is_new_or_began_anew_has_no_rate():
    """A process that was started again, a server that was: their counters are smaller."""
    look = changes_since(info(Counters(hits=100), 50, 10), info(Counters(hits=1), 1, 1), 2.0, 0.0)
    assert (look.regions[0].reads, look.regions[0].hit_ratio) == (0.0, None)
    assert (look.servers[0].evictions, look.processes[0].reads) == (0.0, 0.0)

    look = changes_since(None, info(Counters(hits=100), 50, 10), 0.0, 0.0)
    assert (look.regions[0].reads, look.servers[0].evictions) == (0.0, 0.0)


def test_hot_keys_are_counted_in_bounded_memory():
    tally = Tally(most=100)
    for number in range(5000):
        tally.heard(b"hot")
        tally.heard(b"cold %d" % number)

    assert tally.reads == 10_000
    assert not tally.exact
    assert len(tally._counts) <= 100
    assert tally.hottest(1) == [("hot", 5000, 0.5)]


def test_keys_are_shown_as_programs_have_them():
    tally = Tally()
    for key in (rb"caf\xc3\xa9 \"1\" \\ \n", rb"\xff"):
        tally.heard(key)

    assert tally.exact
    assert {key for key, _, _ in tally.hottest(5)} == {'café "1" \\ \n', "\\xff"}


@pytest.mark.build
async def test_top_shows_what_a_program_does(home: Path):
    async with opened(home) as cache:
        await cache.set("k", 1)
        with program("top", "--once", "--json", "--interval", "3s") as top:
            while top.poll() is None:
                await cache.get("k")
                await cache.get("none")
                await asyncio.sleep(0.005)
            out, err = top.communicate()

    assert top.returncode == 0, err
    said: dict[str, Any] = json.loads(out)
    [region] = said["regions"]
    assert region["name"] == "default"
    assert region["reads"] > 1
    assert 0.3 < region["hit_ratio"] < 0.7
    assert said["over"] >= 3
    [process] = said["processes"]  # and not the command
    assert process["process"].endswith(f":{os.getpid()}")


@pytest.mark.build
def test_top_is_live_on_a_terminal_and_a_table_elsewhere(cli: Run):
    assert cli("set", "k", "1")[0] == 0
    code, out, _ = cli("top", "--once", "--interval", "100ms")
    assert code == 0
    assert [line.split()[:3] for line in out.splitlines()][2] == ["region", "items", "reads"]
    code, shown = on_terminal("top", "--once", "--interval", "100ms")
    assert code == 0
    assert "default" in shown
    code, shown = on_terminal("top", "--interval", "100ms", "--for", "500ms")
    assert code == 0
    assert shown.count("reads") >= 3
    assert "\x1b[" in shown, "it is drawn in its place"


@pytest.mark.parametrize("interval", ["0", "50ms", "soon"])
def test_top_refuses_an_interval_that_is_none(cli: Run, interval: str):
    code, _, err = cli("top", "--interval", interval)
    assert code == 2
    assert interval in err


def test_health_of_a_sound_cache(cli: Run):
    assert cli("set", "k", "1")[0] == 0
    code, out, _ = cli("health", "--json")
    said = json.loads(out)
    assert (code, said["status"], said["live"], said["ready"]) == (0, "ok", True, True)
    assert [each["name"] for each in said["checks"]] == ["cache", "backend"]
    assert cli("health")[1].splitlines()[0] == "ok"


def test_health_of_a_cache_that_cant_work(cli: Run, home: Path):
    path = home / "clusterdb" / "cache.db"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no database at all" * 100)
    code, out, _ = cli("health", "--json")
    said = json.loads(out)
    assert (code, said["status"], said["ready"]) == (1, "failing", False)
    [failed] = [each for each in said["checks"] if each["status"] == "failing"]
    assert str(path) in failed["detail"]
    assert failed["remedy"]
    code, text, _ = cli("health")
    assert code == 1
    assert failed["remedy"] in text


def test_keys_hot_says_who_knows_where_no_command_can_look(cli: Run):
    code, _, err = cli("keys", "hot")
    assert code == 2
    assert "cache.advise('default')" in err


@pytest.mark.build
async def test_tail_shows_what_was_asked_for(home: Path):
    filters = ("--kind", "set", "--kind", "delete", "--key", "user:*", "--region", "default")
    async with opened(home) as cache:
        with following("--count", "2", "--json", *filters) as tail:
            await cache.set("order:1", 1)
            await cache.set("user:1", 1)
            await cache.invalidate("user:1")
            await cache.set("user:2", 1)
            await cache.delete("user:2")
            out, _ = tail.communicate(timeout=60)

    told = [json.loads(line) for line in out.splitlines()]
    assert [(each["kind"], each["key"]) for each in told] == [("set", "user:1"), ("set", "user:2")]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("--kind", "sett"), "did you mean 'set'"),
        (("--region", "defautl"), "did you mean 'default'"),
        (("--key", "[a"), "[a"),
    ],
)
def test_tail_refuses_a_filter_that_fits_nothing(cli: Run, argv: tuple[str, ...], said: str):
    code, _, err = cli("events", "tail", "--for", "10ms", *argv)
    assert code == 2
    assert said in err
