"""`cache storage pending` and `flush`, on journals and on servers."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.write_modes.processes import as_file
from tests.write_modes.world import World
from typer.testing import CliRunner

from clusterdb.cache.cli.app import app
from clusterdb.cache.errors import NoStorage
from clusterdb.cache.intents import PutAside


def run(*words: str) -> Any:
    done = CliRunner().invoke(app, ["storage", *words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


async def leave(world: World, **options: Any) -> None:
    """A process that ends with something pending, and something refused."""
    cache = world.make("behind", flush_interval=30, **options)
    await cache.set("k", 1)
    await cache.set("bad", 2)
    await cache.delete("gone")
    stored = cache.access.runtime.stored
    assert stored is not None
    [store] = stored.stores
    behind = store.behinds["default"]
    bad = behind.known("default", ["bad"])["bad"]
    refused = PutAside("default", "bad", bad.version, "23514", "a constraint", 1.0)
    await behind._intents.put_aside(bad, refused)
    await behind._intents.flushed([bad])
    behind._queue = type(behind._queue)()
    await cache.aclose()


@pytest.mark.parametrize(
    ("backend", "durability"),
    [("memory", "journal"), ("redis", "journal"), ("redis", "replicated")],
    indirect=["backend"],
)
async def test_what_is_pending_is_shown_and_flushed(world: World, durability: str, tmp_path: Path):
    file = tmp_path / "cache.yaml"
    file.write_text(yaml.safe_dump(as_file(world, "write_behind", durability=durability)))
    told = await asyncio.to_thread(run, "pending", "--config", str(file))
    assert told == "nothing is pending\n"
    await leave(world, durability=durability)

    text = await asyncio.to_thread(run, "pending", "--config", str(file))
    assert "write" in text
    assert "delete" in text
    assert "23514" in text
    found = json.loads(await asyncio.to_thread(run, "pending", "--config", str(file), "--json"))
    assert {each["key"]: each["deletes"] for each in found["pending"]} == {
        "k": False,
        "gone": True,
    }
    assert [each["key"] for each in found["refused"]] == ["bad"]

    flushed = await asyncio.to_thread(run, "flush", "--config", str(file))
    assert flushed == "2 written, 0 pending\n"
    assert await world.value("k") == 1
    again = json.loads(await asyncio.to_thread(run, "flush", "--config", str(file), "--json"))
    assert again == {"written": 0, "pending": 0}
    found = json.loads(await asyncio.to_thread(run, "pending", "--config", str(file), "--json"))
    assert [each["key"] for each in found["refused"]] == ["bad"]


async def test_without_write_behind_it_says_so(world: World, tmp_path: Path):
    file = tmp_path / "cache.yaml"
    file.write_text(yaml.safe_dump(as_file(world, "write_through")))
    with pytest.raises(NoStorage, match="write_behind"):
        await asyncio.to_thread(run, "pending", "--config", str(file))
