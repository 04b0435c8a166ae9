"""Users' type checkers see the signatures that are there, and find calls that don't fit.

The files beside this one say what is expected: by ``assert_type``, and by comments that ignore an
error, which are errors themselves where there is none to ignore.
"""

from pathlib import Path

import pytest
from mypy import api

pytestmark = pytest.mark.process  # no less work than one

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def checked(path: Path, cache: Path) -> str:
    """What mypy says of a file under the settings of this repository."""
    settings = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(cache)]
    extra = ["--strict", "--warn-unused-ignores", "--no-error-summary", "--follow-imports=silent"]
    out, problems, _ = api.run([*settings, *extra, str(path)])
    return out + problems


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("mypy")


@pytest.mark.parametrize("name", ["faces.py", "decorated.py"])
def test_the_expectations_hold(name, cache, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert checked(HERE / name, cache) == ""


def test_a_wrong_expectation_is_found(tmp_path, cache, monkeypatch):
    monkeypatch.chdir(ROOT)
    path = tmp_path / "wrong.py"
    path.write_text(
        "from typing import assert_type\n"
        "from clusterdb.cache import Cache\n"
        "cache = Cache()\n"
        "@cache.cached\n"
        "def read(number: int) -> str: return ''\n"
        "assert_type(read(5), int)\n"
        "read(5)  # type: ignore[arg-type]\n"
        "assert_type(cache.sync.region('r', type=int).get('a'), str | None)\n",
        encoding="utf-8",
    )
    found = checked(path, cache)
    assert [line.split(":")[1] for line in found.splitlines() if ": error:" in line] == [
        "6",
        "7",
        "8",
    ]
