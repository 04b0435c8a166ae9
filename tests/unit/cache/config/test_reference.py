"""The reference page has a row for every setting, with its true default."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from clusterdb.cache import config
from clusterdb.cache.config.shapes import fields_of
from clusterdb.cache.config.tree import read

PAGE = Path(__file__).resolve().parents[4] / "docs" / "reference" / "configuration.md"
ROW = re.compile(
    r"^\| `(?P<field>\w+)` \| (?P<type>.+?) \| (?P<default>.+?) \| (?P<meaning>.+) \|$"
)

STRUCTS: dict[str, Any] = {
    each.__name__: each
    for name in config.__all__
    if isinstance(each := getattr(config, name), type) and issubclass(each, msgspec.Struct)
}


def sections():
    """Each class that the page documents, with its rows by field."""
    found: dict[str, dict[str, re.Match[str]]] = {}
    for section in re.split(r"^##+ ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE):
        heading, _, body = section.partition("\n")
        rows = {row["field"]: row for line in body.splitlines() if (row := ROW.match(line))}
        found |= dict.fromkeys(re.findall(r"`(\w+)`", heading), rows)
    return found


def default_of(field):
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return field.default


def test_every_class_is_documented():
    assert set(sections()) == set(STRUCTS)


@pytest.mark.parametrize("name", STRUCTS)
def test_every_setting_is_documented_with_its_default(name):
    rows, cls = sections()[name], STRUCTS[name]
    assert list(rows) == list(cls.__struct_fields__)
    for field in msgspec.structs.fields(cls):
        written, shape = rows[field.name]["default"], fields_of(cls)[field.name]
        default = default_of(field)
        if field.required:
            assert written == "required"
        elif default is msgspec.UNSET:
            assert written == "unset"
        elif written == "its defaults":
            assert default == type(default)()
        else:
            said = read(yaml.safe_load(written.strip("`")), shape, field.name)
            held = default if shape.read is None or default is None else shape.read(default)
            assert said == held, field.name


@pytest.mark.parametrize("name", STRUCTS)
def test_every_word_that_may_be_chosen_is_documented(name):
    for field, shape in fields_of(STRUCTS[name]).items():
        told = re.findall(r"`(\w+)`", sections()[name][field]["type"])
        if shape.choices:
            assert told == list(shape.choices)
        elif shape.structs and shape.tagged and len(shape.structs) > 1 and told:
            assert set(told) == {cls.__name__ for cls in shape.structs.values()}
