import io

import pytest
from rich.console import Console

from clusterdb.cache.cli.demo.plot import Bars, bar


@pytest.mark.parametrize(
    ("share", "drawn"),
    [
        (0.0, ""),
        (0.5, "██"),
        (1.0, "████"),
        (1 / 32, "▏"),
        (0.25 + 4 / 32, "█▌"),
        (1.5, "████"),
        (-1.0, ""),
    ],
)
def test_a_bar_is_exact_to_an_eighth(share: float, drawn: str):
    assert bar(share, 4) == drawn


@pytest.mark.parametrize(("share", "drawn"), [(0.0, ""), (0.5, "##"), (0.6, "##"), (0.63, "###")])
def test_a_bar_can_do_without_block_characters(share: float, drawn: str):
    assert bar(share, 4, ascii_only=True) == drawn


def printed(width: int, encoding: str) -> list[str]:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=file, width=width, color_system=None)
    console.print(Bars([("64", [("lru", 1.0), ("fifo", 0.5)]), ("1,024", [("lru", 0.0)])]))
    file.seek(0)
    return file.read().splitlines()


@pytest.mark.parametrize("width", [40, 80])
def test_bars_fit_the_width(width: int):
    lines = printed(width, "utf-8")

    assert max(map(len, lines)) <= width
    assert [line.split()[-1] if line.strip() else "" for line in lines] == [
        "100.0%",
        "50.0%",
        "",
        "0.0%",
    ]
    assert abs(lines[0].count("█") - 2 * lines[1].count("█")) <= 1


def test_an_ascii_terminal_gets_ascii():
    lines = printed(80, "ascii")

    assert "#" in lines[0]
    assert all(line.isascii() for line in lines)


def test_the_group_is_named_once():
    assert [line[:5] for line in printed(80, "utf-8")] == ["   64", "     ", "", "1,024"]
