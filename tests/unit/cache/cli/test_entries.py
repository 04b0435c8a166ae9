"""The commands that read and write entries."""

import asyncio
import io
import json
import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.effort import times
from tests.unit.cache.cli.commands import Run, on_terminal

from clusterdb.cache import FIFO, LFU, Cache, CacheConfig, CachePolicy, CacheRegion, Disk
from clusterdb.cache.backends.disk.stored import stored_regions
from clusterdb.cache.cli.values import guessed


@dataclass
class User:
    name: str
    born: date


def opened(home: Path) -> Cache:
    """The cache of the commands, as a program has it."""
    return Cache(CacheConfig(backend=Disk(path=home / "clusterdb" / "cache.db")))


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ('{"name": "Ada"}', '{"name": "Ada"}'),
        ("[1, 2]", "[1, 2]"),
        ("12", "12"),
        ("null", "null"),
        ("true", "true"),
        ("hello", "hello"),
        ('"hello"', "hello"),
        ("1.10", "1.10"),
        ("1e5", "1e5"),
        ("007", "007"),
        ("NaN", "NaN"),
        ("", ""),
        ("{not json", "{not json"),
        ("grüße 👋", "grüße 👋"),
    ],
)
def test_what_is_set_is_shown(given: str, shown: str, cli: Run):
    assert cli("set", "k", given) == (0, "stored\n", "")
    assert cli("get", "k") == (0, f"{shown}\n", "")


@settings(max_examples=times(200))
@given(st.one_of(st.text(), st.integers().map(str), st.floats().map(str), st.from_regex("[0-9.]+")))
def test_a_number_is_one_only_where_it_is_shown_as_it_was_written(text: str):
    found = guessed(text)

    assert isinstance(found, str) or json.loads(text) == found
    if isinstance(found, (int, float)) and not isinstance(found, bool):
        assert json.dumps(found) == text


@pytest.mark.parametrize(
    ("argv", "kind", "value"),
    [
        (["12"], "json", 12),
        (["12", "--text"], "text", "12"),
        (["1.10"], "text", "1.10"),
        (["1.10", "--json-value"], "json", 1.1),
        (['"a"'], "text", "a"),
        (["--file", "{file}"], "bytes", "eyJhIjogMX0="),
        (["--file", "{file}", "--text"], "text", '{"a": 1}'),
        (["--file", "{file}", "--json-value"], "json", {"a": 1}),
    ],
)
def test_a_value_is_what_is_said(argv: list[str], kind: str, value: object, cli: Run, home: Path):
    file = home.parent / "value.json"
    file.write_text('{"a": 1}', encoding="utf-8")
    assert cli("set", "k", *[each.format(file=file) for each in argv])[0] == 0

    said = json.loads(cli("get", "k", "--json")[1])
    assert (said["type"], said["value"]) == (kind, value)


def test_json_says_all_of_an_entry(cli: Run):
    stored = cli("set", "k", "1", "--ttl", "1h", "--tag", "a", "--tag", "b", "--json")
    code, out, _ = cli("get", "k", "--json")

    assert (stored[0], json.loads(stored[1])) == (
        0,
        {"key": "k", "region": "default", "stored": True},
    )
    said = json.loads(out)
    assert code == 0
    assert 3590 < said.pop("expires_in") <= 3600
    assert said.pop("version") > 0
    assert said == {
        "key": "k", "region": "default", "found": True, "type": "json", "value": 1,
        "tags": ["a", "b"], "tier": "disk",
    }  # fmt: skip


def test_an_absent_key_is_exit_1(cli: Run):
    assert cli("get", "k") == (1, "", "cache: no entry 'k'\n")
    assert cli("exists", "k") == (1, "no\n", "")
    assert cli("touch", "k", "5m") == (1, "", "cache: no entry 'k'\n")
    assert cli("delete", "k", "l") == (1, "0 deleted\n", "")
    code, out, err = cli("get", "k", "--json")
    assert (code, json.loads(out)["found"], err) == (1, False, "")


def test_conditions(cli: Run):
    assert cli("set", "k", "1", "--xx") == (1, "", "cache: not stored: 'k' has no entry (--xx)\n")
    assert cli("set", "k", "1", "--nx")[0] == 0
    assert cli("set", "k", "2", "--nx") == (1, "", "cache: not stored: 'k' has an entry (--nx)\n")
    assert cli("set", "k", "2", "--xx")[0] == 0
    assert cli("get", "k")[1] == "2\n"


def test_times_to_live(cli: Run):
    def left() -> float | None:
        found: float | None = json.loads(cli("get", "k", "--json")[1])["expires_in"]
        return found

    cli("set", "k", "1", "--ttl", "1h")
    assert 3500 < (left() or 0) <= 3600
    cli("set", "k", "2", "--keep-ttl")
    assert 3500 < (left() or 0) <= 3600
    assert cli("touch", "k", "2m") == (0, "touched\n", "")
    assert 60 < (left() or 0) <= 120
    cli("touch", "k", "none")
    assert left() is None
    cli("set", "k", "2", "--ttl", "none")
    assert left() is None


def test_counting(cli: Run):
    assert cli("increment", "n") == (0, "1\n", "")
    assert cli("increment", "n", "5") == (0, "6\n", "")
    assert cli("increment", "n", "-2") == (0, "4\n", "")
    assert cli("increment", "new", "1", "--initial", "10") == (0, "11\n", "")
    assert json.loads(cli("increment", "n", "--json")[1])["value"] == 5
    cli("set", "text", "hello")
    code, out, err = cli("increment", "text")
    assert (code, out, err.count("\n")) == (4, "", 1)
    assert "'text'" in err


def test_deleting_and_scanning(cli: Run):
    for key in ("user:1", "user:2", "page"):
        cli("set", key, "x")

    assert sorted(cli("scan")[1].split()) == ["page", "user:1", "user:2"]
    lines = cli("scan", "user:*", "--json")[1].splitlines()
    assert sorted([json.loads(line)["key"] for line in lines]) == ["user:1", "user:2"]
    assert len(cli("scan", "--limit", "2")[1].split()) == 2
    assert cli("delete", "user:1", "user:9") == (0, "1 deleted\n", "")
    assert cli("exists", "user:2") == (0, "yes\n", "")
    assert cli("scan", "[")[0] == 2


def test_invalidating(cli: Run):
    cli("set", "a", "1", "--tag", "t")
    cli("set", "b", "1", "--tag", "u")
    cli("set", "c", "1")

    assert cli("invalidate", "--tag", "t", "--tag", "u") == (0, "invalidated\n", "")
    assert cli("invalidate", "c", "nothing") == (0, "1 invalidated\n", "")
    cli("set", "user:1", "1")
    cli("set", "user:2", "1")
    assert cli("invalidate", "--matching", "user:*") == (0, "2 invalidated\n", "")
    assert cli("scan")[1] == ""
    code, _, err = cli("invalidate")
    assert (code, err) == (2, "cache: name keys, globs by --matching, or tags by --tag\n")


def test_clearing_all_or_one_region(cli: Run, tmp_path: Path):
    config = tmp_path / "cache.yaml"
    config.write_text(
        f"cache:\n  backend: {{type: disk, path: {tmp_path / 'own.db'}}}\n"
        "regions:\n  session: {ttl: 5m}\n  page: {}\n",
        encoding="utf-8",
    )
    at = ("--config", str(config))
    for region in ("default", "session", "page"):
        assert cli("set", "k", "1", "--region", region, *at)[0] == 0

    assert cli("clear", "--region", "default", *at) == (0, "1 removed\n", "")
    assert [cli("exists", "k", "--region", each, *at)[0] for each in ("default", "page")] == [1, 0]
    assert json.loads(cli("clear", "--json", *at)[1]) == {"region": None, "removed": 2}


@pytest.mark.process
def test_bytes_are_kept_and_never_shown_on_a_terminal(
    cli: Run, home: Path, monkeypatch: pytest.MonkeyPatch
):
    content = bytes(range(256)) * 20_000
    stdin = io.TextIOWrapper(io.BytesIO(content))
    monkeypatch.setattr(sys, "stdin", stdin)
    saved = home.parent / "saved"

    assert cli("set", "blob", "--file", "-")[0] == 0
    assert cli("get", "blob", "--output", str(saved)) == (0, "", "")
    assert saved.read_bytes() == content
    code, shown = on_terminal("get", "blob")
    assert (code, shown.count("\n")) == (2, 1)
    assert "5,120,000 bytes" in shown


def test_a_file_gets_the_value_itself(cli: Run, tmp_path: Path):
    file = tmp_path / "out"
    for value, content in (("text", b"text"), ("[1,2]", b"[1, 2]\n")):
        cli("set", "k", value)
        cli("get", "k", "--output", str(file))
        assert file.read_bytes() == content
    code, _, err = cli("get", "k", "--output", str(tmp_path / "no" / "such"))
    assert (code, err.count("\n")) == (4, 1)


@pytest.mark.process
async def test_values_of_a_programs_own_types_are_shown_by_their_parts(home: Path):
    """A command does not know the program's classes, and needs none."""
    async with opened(home) as cache:
        await cache.set("user", User("Ada", date(1815, 12, 10)))
        await cache.set("users", [User("Ada" * 1000, date(1815, 12, 10))] * 2)
        await cache.set("odd", {(1, 2): 3})
        await cache.set("nan", [float("nan"), {1}, b"x"])

    shown = {key: on_terminal("get", key) for key in ("user", "odd", "nan")}
    assert shown["user"] == (0, '{"name": "Ada", "born": "1815-12-10"}\r\n')
    assert shown["odd"] == (0, '"{(1, 2): 3}"\r\n')
    assert shown["nan"] == (0, '[null, [1], "eA=="]\r\n')


@pytest.mark.process
async def test_what_a_command_cannot_read_stays_where_it_is(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A command without the program's configuration can't open its signed pickles; it says so, and
    the program goes on with them.
    """
    config = tmp_path / "cache.yaml"
    config.write_text(
        f"cache:\n  backend: {{type: disk, path: {tmp_path / 'own.db'}}}\n"
        "  serialization: {format: pickle, keys: [0123456789abcdef0123456789abcdef]}\n",
        encoding="utf-8",
    )
    async with Cache.from_file(config) as cache:
        await cache.set("k", "secret")
        code, shown = on_terminal("get", "k", "--url", f"disk://{tmp_path / 'own.db'}")
        assert (code, shown.count("\n")) == (4, 1)
        assert "can't be read" in shown
        assert await cache.get("k") == "secret"
    assert on_terminal("get", "k", "--config", str(config)) == (0, "secret\r\n")


@pytest.mark.process
@pytest.mark.parametrize("key", ["a\x1b[31mred", "two\nlines", "bell\x07", "\x9b31m", "a\u202eb"])
def test_no_key_or_value_commands_the_terminal(key: str, cli: Run):
    assert cli("set", key, key, "--text")[0] == 0
    assert cli("get", key) == (0, f"{key}\n", "")
    assert cli("scan") == (0, f"{key}\n", "")

    escaped = key.encode("unicode_escape").decode()
    assert on_terminal("scan") == (0, f"{escaped}\r\n")
    lines = key.split("\n")
    shown = "".join([line.encode("unicode_escape").decode() + "\r\n" for line in lines])
    assert on_terminal("get", key) == (0, shown)
    code, shown = on_terminal("get", key + "?")
    assert (code, shown.count("\n")) == (1, 1)
    assert not set(shown) & {"\x1b", "\x07", "\x9b", "\u202e"}


@pytest.mark.process
def test_a_terminal_is_asked_before_all_is_lost(cli: Run):
    cli("set", "k", "1")

    code, shown = on_terminal("clear", answer=b"n\n")
    assert (code, cli("exists", "k")[0]) == (1, 0)
    assert "Remove every entry of all regions?" in shown
    code, shown = on_terminal("clear", answer=b"y\n")
    assert (code, cli("exists", "k")[0]) == (0, 1)
    assert "1 removed" in shown
    assert on_terminal("clear", "--yes")[0] == 0


async def test_a_look_changes_nothing_of_how_a_program_set_up_its_file(cli: Run, home: Path):
    config = CacheConfig(
        backend=Disk(path=home / "clusterdb" / "cache.db"),
        policy=CachePolicy(eviction=LFU(max_memory="1MB")),
        regions=(CacheRegion("sessions", policy=FIFO(max_items=7)),),
    )
    async with Cache(config) as cache:
        await cache.region("sessions").set("s", 1)

    told = {
        region["name"]: (region["policy"], region["max_items"], region["max_memory"])
        for region in json.loads((await asyncio.to_thread(cli, "regions", "--json"))[1])["regions"]
    }
    assert told == {"default": ("lfu", None, 10**6), "sessions": ("fifo", 7, None)}
    assert await asyncio.to_thread(cli, "get", "s", "--region", "sessions") == (0, "1\n", "")
    other = home.parent / "other.yaml"
    path = home / "clusterdb" / "cache.db"
    other.write_text(
        f"cache: {{backend: {{type: disk, path: {path}}}, policy: {{eviction: {{type: lru}}}}}}\n"
        f"regions: {{sessions: {{policy: {{type: lru, max_items: 1}}}}}}\n",
        encoding="utf-8",
    )
    assert (await asyncio.to_thread(cli, "status", "--config", str(other)))[0] == 0
    assert stored_regions(home / "clusterdb" / "cache.db") == {
        "default": CacheRegion("default", policy=LFU(max_memory="1MB")),
        "sessions": CacheRegion("sessions", policy=FIFO(max_items=7)),
    }
