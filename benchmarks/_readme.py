"""The table of figures in the README, made from the results of the benchmarks.

``python benchmarks/_readme.py`` writes it between the two marks; a test says when it is not what
the results give. Nobody writes a figure by hand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["BEGIN", "END", "figures", "load", "placed"]

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- figures -->", "<!-- /figures -->"
BENCHES = ("hits", "memory", "scale", "codec", "disk")

Result = dict[str, Any]


def load(folder: Path = RESULTS) -> list[Result]:
    """The results there are, in the order of the README."""
    paths = [folder / f"{bench}.json" for bench in BENCHES]
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.exists()]


def figures(results: Sequence[Result]) -> str:
    """All that stands between the marks."""
    about = "\n".join(f"- {_about(result)}" for result in results)
    sections = [_section(section) for result in results for section in result["sections"]]
    return "\n\n".join([_verdicts(results), about, *sections])


def placed(readme: str, text: str) -> str:
    """The README with ``text`` between its marks. Raises ValueError where a mark is missing."""
    if readme.count(BEGIN) != 1 or readme.count(END) != 1:
        raise ValueError(f"the README needs {BEGIN} and {END}, once each")
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


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
    return f"**{title}**\n\n{laid}{control}"


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
    readme = README.read_text(encoding="utf-8")
    README.write_text(placed(readme, figures(load())), encoding="utf-8")


if __name__ == "__main__":
    main()
