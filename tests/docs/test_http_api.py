"""The reference of the HTTP API names what there is, and nothing that is not."""

import re
from pathlib import Path

from clusterdb.cache.server import ServerSettings
from clusterdb.cache.server.operations import OPERATIONS
from clusterdb.cache.server.problems import PROBLEMS

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reference" / "http-api.md"
TEXT = PAGE.read_text(encoding="utf-8")


def rows(title: str) -> list[list[str]]:
    section = TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines[1:]]


def test_every_operation_has_its_row():
    assert rows("Operations") == [
        [f"`{each.method}`", f"`{each.path}`", each.text] for each in OPERATIONS
    ]


def test_every_problem_has_its_row():
    assert rows("Problems") == [
        [f"`{name}`", str(status), title] for name, (status, title) in PROBLEMS.items()
    ]


def test_every_setting_has_its_row_with_its_default():
    named: dict[str, str] = {}
    for fields, default, _ in rows("Settings"):
        named |= dict.fromkeys(re.findall(r"`(\w+)`", fields), default)
    assert set(named) == set(ServerSettings.__struct_fields__)
    for name in set(named) - {"max_body"}:
        value = getattr(ServerSettings(), name)
        shown = f"{value:g}" if isinstance(value, float) else repr(value).replace("'", '"')
        assert named[name].strip("`") == shown, name
    assert (ServerSettings().max_body, named["max_body"]) == (8 * 2**20, "8 MiB")


def test_the_pictures_of_the_guide_are_there_and_small():
    guide = ROOT / "docs" / "howto" / "admin-server.md"
    pictures = re.findall(r"!\[[^\]]+\]\((\S+\.png)\)", guide.read_text(encoding="utf-8"))
    assert len(pictures) == 2
    for picture in pictures:
        content = (guide.parent / picture).read_bytes()
        assert content.startswith(b"\x89PNG")
        assert len(content) < 150_000
