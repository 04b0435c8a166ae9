"""Processes that end with their test."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.disk.processes import Process, Spawn


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache.db"


@pytest.fixture
def spawn(path: Path) -> Iterator[Spawn]:
    started: list[Process] = []

    def start(**options: Any) -> Process:
        process = Process(options.pop("path", path), **options)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
