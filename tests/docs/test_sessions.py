"""The shell sessions of the pages that show `cache` commands run, and show what the pages say.

Each command is a process of its own. The lines under it are its output, errors among it; `...` ends
a line of which only the beginning is fixed, and alone stands for any lines.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tests.docs.examples import blocks_of

pytestmark = pytest.mark.build  # each command is a process

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "docs/howto/command-line.md", "docs/reference/command-line.md")
MARK = "\x01"


def sessions(page: Path) -> list[str]:
    """The sessions of a page whose commands are ours."""
    return [
        block.text
        for block in blocks_of(page)
        if block.language == "console"
        and not block.skipped
        and re.search(r"^\$ .*\bcache ", block.text, re.MULTILINE)
    ]


def steps(session: str) -> list[tuple[str, list[str]]]:
    """Each command with the lines shown under it."""
    found: list[tuple[str, list[str]]] = []
    for line in session.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line)
    return found


def pattern(lines: list[str]) -> str:
    """A regular expression for what the page shows."""
    parts = []
    for line in lines:
        if line == "...":
            parts.append(r"(?:.*\n)*")
        elif line.endswith("..."):
            parts.append(re.escape(line[:-3]) + r".*\n")
        else:
            parts.append(re.escape(line) + r" *\n")
    return "".join(parts)


def shown(commands: list[str], cwd: Path) -> list[str]:
    """What a shell shows for each command, `cache` being this interpreter's."""
    script = [f'cache() {{ {shlex.quote(sys.executable)} -m clusterdb.cache.cli "$@"; }}']
    for command in commands:
        script += [command, f"printf '{MARK}'"]
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=cwd,
        env=os.environ | {"XDG_DATA_HOME": str(cwd / "data"), "HOSTNAME": "here"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=100,
    )
    return done.stdout.split(MARK)[:-1]


@pytest.mark.parametrize("name", PAGES)
def test_sessions(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CLUSTERDB_CACHE_CONFIG", raising=False)
    page = ROOT / name
    for block in blocks_of(page):
        if block.file:
            (tmp_path / block.file).write_text(block.text, encoding="utf-8")
    for session in sessions(page):
        expected = steps(session)
        seen = shown([command for command, _ in expected], tmp_path)
        assert len(seen) == len(expected)
        for (command, lines), output in zip(expected, seen, strict=True):
            assert re.fullmatch(pattern(lines), output), f"{command}\n{output}"


def test_there_is_a_session_on_the_first_page():
    [session] = sessions(ROOT / "README.md")

    assert [command.split()[1] for command, _ in steps(session)][:3] == ["set", "get", "status"]


@pytest.mark.parametrize(
    ("lines", "output", "right"),
    [
        (["a", "b"], "a\nb\n", True),
        (["a"], "a\nb\n", False),
        (["a", "..."], "a\nb\nc\n", True),
        (["a..."], "abc\n", True),
        (["a..."], "b\n", False),
        ([], "", True),
    ],
)
def test_what_a_page_shows_is_compared(lines: list[str], output: str, right: bool):
    assert (re.fullmatch(pattern(lines), output) is not None) == right
