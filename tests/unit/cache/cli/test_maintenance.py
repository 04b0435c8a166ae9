"""`cache maintenance`: what it runs, shows, stops and refuses."""

import json
from pathlib import Path

import pytest
from tests.unit.cache.cli.commands import Run

from clusterdb.cache import Cache, CacheConfig, Disk, MaintenanceRun, MaintenanceState
from clusterdb.cache.cli.maintenance_bars import follow
from clusterdb.cache.maintenance import Progress

CONFIG = """
cache:
  backend: {{type: disk, path: {path}}}
maintenance:
  schedule: "0 * * * *"
  lease: 1
  tasks:
    - {{type: cleanup, older_than: 7d}}
    - {{type: compact}}
    - {{type: cleanup, older_than: 30d}}
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "cache.yaml"
    path.write_text(CONFIG.format(path=tmp_path / "cache.db"), encoding="utf-8")
    disk = Disk(path=tmp_path / "cache.db")
    with Cache(CacheConfig(backend=disk)).sync:  # there is a cache file now
        return str(path)


def test_a_run_shows_what_its_jobs_did_and_is_in_the_history(cli: Run, file: str):
    code, out, _ = cli("maintenance", "run", "--config", file)
    assert code == 0
    jobs = [line.split(":")[0] for line in out.splitlines()]
    assert jobs == ["cleanup", "compact", "cleanup-2"]

    history = json.loads(cli("maintenance", "history", "--config", file, "--json")[1])
    [run] = history["runs"]
    assert [job["outcome"] for job in run["jobs"]] == ["done"] * 3
    assert "compact" in cli("maintenance", "history", "--config", file)[1]
    assert "last run: " in cli("maintenance", "status", "--config", file)[1]


def test_jobs_may_be_named(cli: Run, file: str):
    run = json.loads(cli("maintenance", "run", "cleanup-2", "--config", file, "--json")[1])
    assert ([job["job"] for job in run["jobs"]], run["outcome"]) == (["cleanup-2"], "done")

    code, _, error = cli("maintenance", "run", "polish", "--config", file)
    assert code == 2
    assert "no task 'polish'" in error
    assert "cleanup, compact, cleanup-2" in error


def test_what_is_paused_does_not_run_until_it_is_resumed(cli: Run, file: str):
    assert cli("maintenance", "pause", "--config", file)[1] == "paused\n"
    assert "paused: by " in cli("maintenance", "status", "--config", file)[1]
    code, _, error = cli("maintenance", "run", "--config", file)
    assert code == 4
    assert "resume it first" in error

    assert json.loads(cli("maintenance", "resume", "--config", file, "--json")[1]) == {
        "paused": False
    }
    assert cli("maintenance", "run", "--config", file)[0] == 0


def test_a_look_leads_nobody(cli: Run, file: str):
    state = json.loads(cli("maintenance", "status", "--config", file, "--json")[1])

    assert (state["leader"], state["runs"], state["covered"]) == (None, {}, {})
    assert "nothing runs" in cli("maintenance", "status", "--config", file)[1]
    assert cli("maintenance", "history", "--config", file)[1] == "there were no runs\n"


def test_other_commands_maintain_nothing(cli: Run, file: str):
    """A program's settings are for the program: a command that ends at once starts no tasks."""
    assert cli("set", "k", "1", "--config", file)[0] == 0

    state = json.loads(cli("maintenance", "status", "--config", file, "--json")[1])
    assert state["covered"] == {}


def test_what_is_not_configured_or_has_no_slots_is_refused(cli: Run, file: str, tmp_path: Path):
    code, _, error = cli("maintenance", "run", "--url", f"disk://{tmp_path / 'cache.db'}")
    assert code == 2
    assert "no maintenance is configured" in error

    code, _, error = cli("maintenance", "rebalance", "--plan", "--config", file)
    assert code == 2
    assert "nothing to move" in error
    assert "nothing to rebalance" in cli("maintenance", "rebalance", "--config", file)[1]


def test_a_schedule_that_never_comes_due_is_refused_where_it_stands(tmp_path: Path):
    config = CacheConfig.from_dict({"maintenance": {"schedule": "0 0 31 2 *", "tasks": []}})

    with pytest.raises(ValueError, match=r"maintenance\.schedule: .* never comes due"):
        Cache(config)


def test_bars_show_how_far_the_jobs_of_the_run_are(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    jobs = (
        Progress(job="cleanup", outcome="running", looked=250, total=1_000),
        Progress(job="compact"),
    )
    run = MaintenanceRun(plan="maintenance", due=None, began=0, by="x", jobs=jobs, request="7")

    with follow("7", shown=True) as look:
        assert look is not None
        look(MaintenanceState(runs={"maintenance": run}))
    with follow("another", shown=True) as look:
        assert look is not None
        look(MaintenanceState(runs={"maintenance": run}))
    with follow("7", shown=False) as look:
        assert look is None

    shown = capsys.readouterr().err
    assert "cleanup" in shown
    assert "250/1000" in shown
    assert "compact" not in shown, "it waits"
