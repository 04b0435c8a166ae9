"""A data folder of its own for each test of a command."""

from pathlib import Path

import pytest
from tests.unit.cache.cli.commands import Run, runner


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder under which the cache without configuration lives, for children too."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("CLUSTERDB_CACHE_CONFIG", raising=False)
    return tmp_path / "data"


@pytest.fixture
def cli(home: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run one command in this process: exit code, stdout, stderr."""
    return runner(capsys)
