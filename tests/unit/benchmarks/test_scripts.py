"""Each benchmark runs end to end at a small size and writes the result it should."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.build

ROOT = Path(__file__).resolve().parents[3]


def run(name: str, *arguments: str) -> str:
    script = str(ROOT / "benchmarks" / f"{'redis_bench' if name == 'redis' else name}.py")
    done = subprocess.run(
        [sys.executable, script, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("hits", {"P1"}),
        ("memory", set()),
        ("scale", {"P9"}),
        ("codec", {"P10"}),
        ("disk", {"near"}),
        ("monitoring", {"monitoring"}),
        pytest.param("redis", set(), marks=pytest.mark.server),
        pytest.param("near", {"near"}, marks=pytest.mark.server),
        pytest.param("storage", {"P6"}, marks=pytest.mark.server),
        pytest.param("maintenance", {"maintenance"}, marks=pytest.mark.server),
        pytest.param("moving", {"export"}, marks=pytest.mark.server),
        pytest.param("coherence", set(), marks=pytest.mark.server),
        pytest.param("nearcache_peers", set(), marks=pytest.mark.server),
        pytest.param("faults", set(), marks=pytest.mark.server),
    ],
)
def test_quick_run(name, targets, tmp_path):
    path = tmp_path / "result.json"
    text = run(name, "--quick", "--output", str(path))
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found["bench"] == name
    assert targets <= {verdict["target"] for verdict in found["verdicts"]}
    for section in found["sections"]:
        assert section["title"] in text
        assert all(row["value"] >= 0 for row in section["rows"])


def test_a_quick_run_leaves_the_results_alone():
    results = ROOT / "benchmarks" / "results"
    before = {path: path.read_bytes() for path in results.glob("*.json")}
    run("hits", "--quick")
    assert {path: path.read_bytes() for path in results.glob("*.json")} == before
