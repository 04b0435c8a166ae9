"""The figures of the README and of the reference are those of the benchmarks' results."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAKER = runpy.run_path(str(ROOT / "benchmarks" / "_readme.py"))
BEGIN, END, BENCHES, PAGES = (MAKER[name] for name in ("BEGIN", "END", "BENCHES", "PAGES"))
ELSEWHERE = MAKER["ELSEWHERE"]
load, placed, tables, verdicts = (MAKER[name] for name in ("load", "placed", "tables", "verdicts"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_holds_what_the_results_give(page):
    text = page.read_text(encoding="utf-8")
    assert text == placed(text, PAGES[page](load())), "run: python benchmarks/_readme.py"


def test_each_result_has_its_machine_and_versions():
    results = load()
    there = {path.stem for path in (ROOT / "benchmarks" / "results").glob("*.json")}
    assert [result["bench"] for result in results] == [each for each in BENCHES if each in there]
    assert there <= {*BENCHES, *ELSEWHERE}, "a result that no page shows"
    for result in results:
        about = result["environment"]
        assert {"date", "machine", "python", "build", "commit"} <= set(about)
        assert about["build"] == "compiled"
        assert result["settings"].keys() & {"seed", "traces"}, "what was asked for is not told"
        assert result["verdicts"]


def test_missing_marks_are_an_error():
    with pytest.raises(ValueError, match="needs"):
        placed("no marks here", "text")


def test_what_is_between_the_marks_is_replaced():
    assert placed(f"a\n{BEGIN}\nold\n{END}\nb\n", "new") == f"a\n{BEGIN}\nnew\n{END}\nb\n"


def test_a_figure_is_shown_with_its_ratio_and_verdict():
    row = {
        "name": "peer",
        "version": "1.0",
        "value": 1234.5,
        "low": 1.0,
        "high": 2.0,
        "note": "",
        "compared": 2.0,
    }
    section = {
        "title": "T  a hit",
        "unit": "ns",
        "against": "x ours",
        "rows": [row],
        "control": "",
        "digits": 0,
    }
    verdict = {
        "target": "P0",
        "what": "a / b",
        "bound": "<= 2",
        "value": 3.0,
        "spread": 0.01,
        "verdict": "missed by 1.50 x",
    }
    about = {"build": "pure", "python": "P", "machine": "M", "date": "D", "commit": None}
    results = [{"bench": "b", "sections": [section], "verdicts": [verdict], "environment": about}]
    line = "`./dev bench b`: pure build, P, M, D"
    assert tables(results).startswith(f"## b\n\n{line}\n\n### T a hit\n")
    assert "| peer 1.0 | 1,234 | 2.00 |" in tables(results)
    assert "| P0 a / b | <= 2 | 3.00 | 1.0% | missed by 1.50 x |" in verdicts(results)
    assert verdicts(results).endswith(f"\n\n- {line}")
    results[0]["tables"] = [{"title": "Faults", "header": ["fault", "n"], "rows": [["a|b", "1"]]}]
    assert tables(results).endswith("### Faults\n\n| fault | n |\n| --- | ---: |\n| a\\|b | 1 |")
    assert "peer 1.0" not in verdicts(results)
