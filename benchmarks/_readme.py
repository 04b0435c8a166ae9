"""The figures in the README and in the reference, made from the results of the benchmarks.

``python benchmarks/_readme.py`` writes them between the two marks of each page: the verdicts into
the README, all tables into ``docs/reference/figures.md``. A test says when a page is not what the
results give. Nobody writes a figure by hand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

__all__ = ["BEGIN", "END", "PAGES", "load", "placed", "tables", "verdicts"]

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- figures -->", "<!-- /figures -->"
BENCHES = (
    "hits",
    "memory",
    "scale",
    "hitratio",
    "policy_costs",
    "codec",
    "disk",
    "redis",
    "near",
    "storage",
    "monitoring",
    "maintenance",
    "coherence",
    "backup",
)
ELSEWHERE = ("nearcache_peers",)
"""Those that write their table into a page of their own."""

Result = dict[str, Any]


def load(folder: Path = RESULTS) -> list[Result]:
    """The results there are, in the order of the pages."""
    paths = [folder / f"{bench}.json" for bench in BENCHES]
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.exists()]


def verdicts(results: Sequence[Result]) -> str:
    """What stands between the marks of the README: each target, and what was measured on what."""
    about = "\n".join(f"- {_about(result)}" for result in results)
    return f"{_verdicts(results)}\n\n{about}"


def tables(results: Sequence[Result]) -> str:
    """What stands between the marks of the reference: the tables of each bench."""
    return "\n\n".join([_tables(result) for result in results])


def placed(page: str, text: str) -> str:
    """The page with ``text`` between its marks. Raises ValueError where a mark is missing."""
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise ValueError(f"the page needs {BEGIN} and {END}, once each")
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


PAGES: Final[Mapping[Path, Callable[[Sequence[Result]], str]]] = {
    ROOT / "README.md": verdicts,
    ROOT / "docs" / "reference" / "figures.md": tables,
}
"""The pages with figures, each with what is between its marks."""


def _tables(result: Result) -> str:
    sections = [_section(section) for section in result["sections"]]
    sections += [
        f"### {each['title']}\n\n{_markdown(each['header'], each['rows'])}"
        for each in result.get("tables", ())
    ]
    return "\n\n".join([f"## {result['bench']}", _about(result), *sections])


def _section(section: dict[str, Any]) -> str:
    digits = section["digits"]
    compared = any(row["compared"] is not None for row in section["rows"])
    noted = any(row["note"] for row in section["rows"])
    header = ["", section["unit"], *([section["against"]] if compared else [])]
    lines = []
    for row in section["rows"]:
        name = f"{row['name']} {row['version']}".rstrip()
        shown = f"**{name}**" if name.startswith("clusterdb") else name
        cells = [shown, f"{row['value']:,.{digits}f}"]
        cells += [f"{row['compared']:.2f}"] if compared else []
        lines.append([*cells, *([row["note"]] if noted else [])])
    title = re.sub(r"\s+", " ", section["title"])
    laid = _markdown([*header, *([""] if noted else [])], lines)
    control = f"\n\n{section['control']}" if section["control"] else ""
    return f"### {title}\n\n{laid}{control}"


def _verdicts(results: Iterable[Result]) -> str:
    lines = [
        [
            f"{verdict['target']} {verdict['what']}",
            verdict["bound"],
            f"{verdict['value']:.2f}",
            f"{verdict['spread']:.1%}",
            verdict["verdict"],
        ]
        for result in results
        for verdict in result["verdicts"]
    ]
    return _markdown(["Target", "bound", "measured", "A/A spread", ""], lines)


def _about(result: Result) -> str:
    about = result["environment"]
    commit = f", commit {about['commit']}" if about["commit"] else ""
    return (
        f"`./dev bench {result['bench']}`: {about['build']} build, {about['python']}, "
        f"{about['machine']}, {about['date']}{commit}"
    )


def _markdown(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(header) - 1)]
    rows = [list(header), rule, *[[cell.replace("|", r"\|") for cell in line] for line in lines]]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main() -> None:
    results = load()
    for page, text in PAGES.items():
        page.write_text(placed(page.read_text(encoding="utf-8"), text(results)), encoding="utf-8")


if __name__ == "__main__":
    main()
