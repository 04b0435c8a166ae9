"""Caches with backups: a directory or a bucket for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.backup.s3 import Bucket, S3Server

from clusterdb.cache import (
    BackupConfig,
    BackupStorage,
    Cache,
    CacheConfig,
    CacheRegion,
    Directory,
)

KEY = "A" * 43 + "="
OTHER_KEY = "B" * 43 + "="


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "bucket" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.server)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    server = S3Server()
    yield server
    server.close()


@pytest.fixture
def bucket(s3_server: S3Server) -> Iterator[Bucket]:
    yield s3_server.bucket()
    s3_server.fault = None


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "backups"


def backup_config(storage: BackupStorage, **settings: Any) -> BackupConfig:
    """No limits of speed: a test has no time."""
    given: dict[str, Any] = {"entries_per_second": None, "bytes_per_second": None}
    return BackupConfig(schedule="0 0 * * *", retention="7d", storage=storage, **given | settings)


@pytest.fixture
def make(place: Path) -> Callable[..., Cache]:
    """Makes a cache, each time an empty one, whose backups are in the same place."""

    def make(storage: BackupStorage | None = None, **settings: Any) -> Cache:
        backend = settings.pop("backend", None)
        clock = settings.pop("clock", None)
        regions = [CacheRegion(name=name) for name in settings.pop("regions", ("other",))]
        config = backup_config(storage or Directory(path=place), **settings)
        fields: dict[str, Any] = {} if backend is None else {"backend": backend}
        return Cache(CacheConfig(backup=config, regions=regions, **fields), clock=clock)

    return make
