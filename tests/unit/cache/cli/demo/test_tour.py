"""The whole demo, as a user runs it."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from clusterdb.cache.cli.demo.tour import CHAPTERS

pytestmark = pytest.mark.build

DEMO = [sys.executable, "-m", "clusterdb.cache.cli", "demo"]


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What `cache demo --quick` writes into a pipe, in a directory it may not write to."""
    directory = tmp_path_factory.mktemp("readonly")
    directory.chmod(0o555)
    done = subprocess.run(
        [*DEMO, "--quick", "--seed", "7"],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        timeout=100,
        cwd=directory,
        env={**environment(), "PYTHONIOENCODING": "utf-8"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert list(directory.iterdir()) == []
    return done.stdout


def environment() -> dict[str, str]:
    """The environment without what would change how rich prints, or the demo's Redis."""
    sizes = ("COLUMNS", "LINES", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
    without = (*sizes, "CLUSTERDB_DEMO_REDIS")
    return {name: value for name, value in os.environ.items() if name not in without}


def row(text: str, start: str) -> list[str]:
    """The cells of the first line that starts so."""
    for line in text.splitlines():
        if line.strip().startswith(start):
            return re.split(r"\s{2,}", line.strip())
    raise AssertionError(f"no line starts with {start!r}")


def test_every_chapter_is_there_in_order(quick: str):
    titles = re.findall(r"^(\d)  (.+?) ─+$", quick, re.MULTILINE)

    assert titles == [(str(at), chapter.title) for at, chapter in enumerate(CHAPTERS, 1)]
    assert len(titles) == 9


def test_a_pipe_gets_plain_text_of_80_columns(quick: str):
    assert "\x1b" not in quick
    assert "\r" not in quick
    assert max(map(len, quick.splitlines())) <= 80


def test_the_mapping_and_the_trace_are_named(quick: str):
    said = " ".join(re.sub(r"[│╭╮╰╯─]", " ", quick).split())

    assert "of a list shuffled with seed 7" in said
    assert "200,000 requests, 22,024 keys" in said
    assert "headissue GmbH, Jens Wilke, CC BY 4.0" in said


def test_the_numbers_agree_with_each_other(quick: str):
    assert row(quick, "no cache")[1:3] == ["120", "120"]
    assert row(quick, "warm cache")[1:3] == ["120", "0"]
    assert row(quick, "clusterdb.cache")[1:3] == ["1,000", "1"]
    assert row(quick, "get, load, set")[1:3] == ["1,000", "1,000"]
    assert row(quick, "of these still answered")[1] == "0"
    right = row(quick, "right answer")[1:3]
    assert row(quick, "atomic()")[1:4] == row(quick, "increment()")[1:4] == [*right, "0"]
    assert row(quick, "4 the next reader gets")[3].endswith("(stale)")
    assert row(quick, "joined loads")[-1] == "999"
    assert row(quick, "lost fills")[-1] == "1"


def test_a_named_server_that_is_away_is_told_in_one_line():
    done = subprocess.run(
        [*DEMO, "--quick", "--redis", "redis://:secret@127.0.0.1:1"],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        env=environment(),
    )

    assert done.returncode == 3
    assert done.stderr.startswith("cache: ")
    assert "127.0.0.1:1" in done.stderr
    assert done.stderr.count("\n") == 1
    assert "secret" not in done.stderr + done.stdout


def test_an_interrupt_ends_it_cleanly():
    running = subprocess.Popen(
        DEMO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    )
    assert running.stdout is not None
    for line in running.stdout:
        if CHAPTERS[0].title in line:
            break
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=30)

    assert (running.returncode, errors) == (130, "cache: interrupted\n")


def test_a_library_without_sources_is_told_in_one_line(tmp_path: Path):
    script = (
        "import sys, sysconfig; sysconfig.get_path = lambda name: sys.argv[1]\n"
        "from clusterdb.cache.cli import main; sys.exit(main(['demo']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 1
    assert done.stderr.startswith("cache: the demo analyses the sources")
    assert done.stderr.count("\n") == 1
