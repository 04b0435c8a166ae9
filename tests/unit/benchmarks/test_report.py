import json

import pytest
from tests.unit.benchmarks.scripts import script

report_ = script("_report")
Report, Row, Section = report_.Report, report_.Row, report_.Section
build, judge, table = report_.build, report_.judge, report_.table


def test_a_bound_means_the_bound_and_the_spread_of_the_control():
    assert judge("P", "x", 2.1, "<=", 2, 0.05).verdict == "met"
    assert judge("P", "x", 2.2, "<=", 2, 0.05).verdict == "missed by 1.10 x"
    assert judge("P", "x", 14.5, ">=", 15, 0.05).verdict == "met"
    assert judge("P", "x", 7.5, ">=", 15, 0.05).verdict == "missed by 2.00 x"


def test_a_miss_says_by_how_much_of_the_bound_itself():
    missed = judge("P", "x", 0.75, "<=", 0.5, 0.1)
    assert (missed.bound, missed.verdict) == ("<= 0.5", "missed by 1.50 x")


def test_noise_forgives_nothing():
    for value in (1.9, 2.1):
        assert judge("P", "x", value, "<=", 2, 0.3).verdict.startswith("unclear")
    assert judge("P", "x", 1, "<=", 2, 0.3).verdict == "met"
    assert judge("P", "x", 4, "<=", 2, 0.3).verdict == "missed by 2.00 x"


def test_table_aligns_its_columns():
    lines = table(("", "ns"), [("a", "1"), ("longer", "1,000")]).splitlines()
    assert lines == ["           ns", "-------------", "a           1", "longer  1,000"]


@pytest.fixture
def report():
    row = Row("clusterdb", 100.4, 99.0, 102.0, compared=1.0)
    section = Section("A hit", "ns", "x ours", [row], "A/A control: 1.0")
    verdict = judge("P1", "a / b", 5, "<=", 3, 0.01)
    return Report("hits", {"seed": 1}, [section], [verdict], versions={"peer": "1.2"})


def test_the_json_has_all_there_is_to_know_about_a_run(report, tmp_path):
    path = tmp_path / "deep" / "hits.json"
    report.write(path)
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found["versions"] == {"peer": "1.2"}
    assert found["settings"] == {"seed": 1}
    assert set(found["environment"]) == {
        "date",
        "machine",
        "system",
        "python",
        "build",
        "commit",
    }
    assert found["sections"][0]["rows"][0]["value"] == 100.4
    assert found["verdicts"][0]["verdict"] == "missed by 1.67 x"


def test_the_text_shows_figures_control_and_verdict(report):
    text = report.text()
    for part in ("clusterdb", "100", "99..102", "A/A control", "missed by 1.67 x", "seed 1"):
        assert part in text


def test_the_build_is_named():
    assert build() in {"pure", "compiled", "partly compiled"}
