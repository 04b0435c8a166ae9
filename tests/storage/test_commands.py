"""`cache storage init` and `status`, on both databases."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from clusterdb.cache import PostgreSQL, SQLite, StorageBackend
from clusterdb.cache.cli import app as commands
from clusterdb.cache.cli.app import app
from clusterdb.cache.clock import SystemClock
from clusterdb.cache.codec import Encoded
from clusterdb.cache.errors import ConfigError, NoStorage, StorageUnavailable
from clusterdb.cache.factory import make_storage
from clusterdb.cache.rows import RowChange
from clusterdb.cache.types import MISSING

CONFIG = """
coherence:
  mode:
    type: write_through
    backend: {backend}
"""


def written(folder: Path, backend: str) -> Path:
    file = folder / "cache.yaml"
    file.write_text(CONFIG.format(backend=backend), encoding="utf-8")
    return file


def run(*words: str) -> Any:
    done = CliRunner().invoke(app, ["storage", *words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


def fill(config: StorageBackend) -> None:
    async def work() -> None:
        storage = make_storage(config, SystemClock())
        await storage.open()
        rows = [RowChange("default", key, Encoded(b"1", 1)) for key in "abc"]
        await storage.write(rows)
        await storage.write([RowChange("default", "a", MISSING)])
        await storage.aclose()

    asyncio.run(work())


def shows_and_makes(file: Path, config: StorageBackend) -> None:
    """Printed, made, and counted."""
    with pytest.raises(ConfigError, match="'cache storage init' makes"):
        run("status", "--config", str(file))
    printed = run("init", "--config", str(file), "--dry-run", "--triggers")
    assert printed.startswith("-- coherence.mode\n")
    assert "CREATE TABLE IF NOT EXISTS" in printed
    assert "CREATE TRIGGER" in printed
    with pytest.raises(ConfigError):
        run("status", "--config", str(file))

    said = json.loads(run("init", "--config", str(file), "--json"))
    assert [(each["storage"], each["made"]) for each in said["storages"]] == [
        ("coherence.mode", True)
    ]
    assert not any("TRIGGER" in each for each in said["storages"][0]["statements"])
    assert "the tables are there" in run("init", "--config", str(file), "--triggers")
    fill(config)
    said = json.loads(run("status", "--config", str(file), "--json"))
    figures = said["storages"]["coherence.mode"]
    assert (figures["rows"], figures["deleted"], figures["outbox"]) == (2, 1, 4)
    shown = run("status", "--config", str(file))
    assert figures["kind"] in shown


def test_sqlite(tmp_path: Path):
    path = tmp_path / "storage.db"
    path.touch()
    backend = f"{{type: sqlite, path: {path}, create: false}}"
    shows_and_makes(written(tmp_path, backend), SQLite(path=path))


def test_init_makes_the_file(tmp_path: Path):
    path = tmp_path / "new" / "storage.db"
    file = written(tmp_path, f"{{type: sqlite, path: {path}, create: false}}")
    with pytest.raises(ConfigError, match="is not there and may not be made"):
        run("status", "--config", str(file))
    run("init", "--config", str(file))
    assert path.stat().st_mode & 0o777 == 0o600
    assert "sqlite" in run("status", "--config", str(file))


def test_postgres(tmp_path: Path, database: str):
    backend = f"{{type: postgresql, url: '{database}', create: false}}"
    shows_and_makes(written(tmp_path, backend), PostgreSQL(url=database))


def test_the_printed_sql_makes_the_tables(tmp_path: Path):
    import sqlite3

    path = tmp_path / "storage.db"
    file = written(tmp_path, f"{{type: sqlite, path: {path}}}")
    connection = sqlite3.connect(path)
    connection.executescript(run("init", "--config", str(file), "--dry-run", "--triggers"))
    connection.close()
    assert "sqlite" in run("status", "--config", str(file))


def test_a_cache_without_storage_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "cache.yaml"
    file.write_text("cache: {name: plain}\n", encoding="utf-8")
    with pytest.raises(NoStorage, match=r"coherence\.mode names one"):
        run("status", "--config", str(file))
    monkeypatch.setenv("CLUSTERDB_CACHE_CONFIG", str(file))
    with pytest.raises(NoStorage, match=str(file)):
        run("init")
    monkeypatch.delenv("CLUSTERDB_CACHE_CONFIG")
    with pytest.raises(ValueError, match="--config FILE"):
        run("init")


def test_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = written(tmp_path, "{type: postgresql, url: 'postgresql://127.0.0.1:1/none'}")
    assert commands.run(["storage", "status", "--config", str(file)]) == 3
    assert "127.0.0.1:1" in capsys.readouterr().err
    file.write_text("cache: {name: plain}\n", encoding="utf-8")
    assert commands.run(["storage", "init", "--config", str(file)]) == 2


async def test_a_closed_storage_says_so(tmp_path: Path):
    storage = make_storage(SQLite(path=tmp_path / "a.db"), SystemClock())
    with pytest.raises(StorageUnavailable, match="is closed"):
        await storage.read("default", ["k"])
