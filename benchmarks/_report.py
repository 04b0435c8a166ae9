"""What a benchmark leaves behind: a table for people, and a JSON file with all of it.

Section: one comparison, rows beside each other. Verdict: a measured value beside its target. A
bound means the bound plus the spread of the A/A control: what the machine can't tell apart is not
held against anyone, and not counted as a success beyond it either.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

__all__ = [
    "RESULTS",
    "ROOT",
    "Report",
    "Row",
    "Section",
    "Table",
    "Verdict",
    "build",
    "judge",
    "table",
]

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"

_NOISY = 0.1
_HOT = ("table", "residents", "hits", "wheel", "policy.lru")


@dataclass(frozen=True)
class Row:
    """One subject in one section; ``value`` is the median, in the section's unit."""

    name: str
    value: float
    low: float
    high: float
    version: str = ""
    note: str = ""
    compared: float | None = None


@dataclass(frozen=True)
class Section:
    """Rows with one unit; ``against`` says what the column of ratios is a ratio to."""

    title: str
    unit: str
    against: str
    rows: list[Row]
    control: str = ""
    digits: int = 0


@dataclass(frozen=True)
class Verdict:
    """One target, what was measured, and whether that is enough."""

    target: str
    what: str
    bound: str
    value: float
    spread: float
    verdict: str


@dataclass(frozen=True)
class Table:
    """Rows of text under a header, for what is not one figure a subject."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass
class Report:
    """All that one run of one benchmark found."""

    bench: str
    settings: dict[str, Any]
    sections: list[Section] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=lambda: environment())  # noqa: PLW0108
    tables: list[Table] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "bench": self.bench,
            "environment": self.about,
            "versions": self.versions,
            "settings": self.settings,
            "sections": [asdict(section) for section in self.sections],
            "verdicts": [asdict(verdict) for verdict in self.verdicts],
            **({"tables": [asdict(each) for each in self.tables]} if self.tables else {}),
        }

    def write(self, path: Path) -> None:
        """Write the JSON file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.as_json(), indent=1) + "\n", encoding="utf-8")

    def text(self) -> str:
        """The tables for people."""
        parts = [_section_text(section) for section in self.sections]
        parts += [f"{each.title}\n{table(each.header, each.rows)}" for each in self.tables]
        if self.verdicts:
            parts.append(_verdict_text(self.verdicts))
        return "\n\n".join([_heading(self), *parts])


def judge(
    target: str,
    what: str,
    value: float,
    sense: Literal["<=", ">="],
    bound: float,
    spread: float,
) -> Verdict:
    """Compare a ratio with its bound, give or take the control's spread. A wide spread (over a
    tenth) forgives nothing: what it makes uncertain is called so.
    """
    if sense == "<=":
        met, short = value <= bound * (1 + spread), value / bound
    else:
        met, short = value >= bound / (1 + spread), bound / value
    verdict = "met" if met else f"missed by {short:.2f} x"
    if spread > _NOISY and 1 / (1 + spread) < short < 1 + spread:
        verdict = "unclear: run again when the machine is quiet"
    return Verdict(target, what, f"{sense} {bound:g}", value, spread, verdict)


def build() -> str:
    """Whether the hot modules are compiled: ``compiled``, ``pure``, or ``partly compiled``."""
    compiled = 0
    for name in _HOT:
        module = importlib.import_module(f"clusterdb.cache.{name}")
        compiled += not (module.__file__ or "").endswith(".py")
    if compiled == len(_HOT):
        return "compiled"
    return "partly compiled" if compiled else "pure"


def environment() -> dict[str, Any]:
    """The machine, the interpreter and the code that was measured."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{_processor()}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "build": build(),
        "commit": commit(),
    }


def commit() -> str | None:
    """The commit that is checked out, with a plus where the sources differ from it."""
    head = _git("rev-parse", "--short=12", "HEAD")
    if head is None:
        return None
    return head + ("+" if _git("status", "--porcelain", "--", "src") else "")


def version(distribution: str) -> str:
    """The installed version of a peer, empty where it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Aligned columns: the first to the left, the others to the right."""
    lines = [list(header), *[list(row) for row in rows]]
    widths = [max(len(line[at]) for line in lines) for at in range(len(header))]
    laid = [
        "  ".join(
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([laid[0], "-" * max(len(line) for line in laid), *laid[1:]])


def figure(value: float, digits: int) -> str:
    """A number with thousands apart."""
    return f"{value:,.{digits}f}"


def _heading(report: Report) -> str:
    about = report.about
    lines = [
        f"{report.bench}: {about['build']} build, {about['python']}, {about['machine']}",
        f"{about['date']}, commit {about['commit'] or 'unknown'}, {_settings(report.settings)}",
    ]
    return "\n".join(lines)


def _settings(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())


def _section_text(section: Section) -> str:
    rows = [
        (
            f"{row.name} {row.version}".rstrip(),
            figure(row.value, section.digits),
            f"{figure(row.low, section.digits)}..{figure(row.high, section.digits)}",
            "" if row.compared is None else f"{row.compared:.2f}",
            row.note,
        )
        for row in section.rows
    ]
    laid = table(("", section.unit, "quartiles", section.against, "note"), rows)
    return "\n".join([section.title, laid, *([section.control] if section.control else [])])


def _verdict_text(verdicts: Sequence[Verdict]) -> str:
    rows = [
        (
            f"{verdict.target}  {verdict.what}",
            verdict.bound,
            f"{verdict.value:.2f}",
            f"{verdict.spread:.1%}",
            verdict.verdict,
        )
        for verdict in verdicts
    ]
    return "Targets\n" + table(("", "bound", "measured", "A/A spread", "verdict"), rows)


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(ROOT), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    for line in text.splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
