"""YAML: the core schema, strictness, and bounds in time and memory."""

import time
import tracemalloc

import pytest

from clusterdb.cache.config.document import parse_yaml
from clusterdb.cache.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("null", None), ("~", None), ("true", True), ("FALSE", False), ("no", "no"), ("on", "on"),
        ("12", 12), ("-1", -1), ("1_000_000", 1_000_000), ("010", 10), ("1:30", "1:30"),
        ("0x10", "0x10"), ("1.5", 1.5), ("1e3", 1000.0), (".5", 0.5), ("-.inf", float("-inf")),
        ("2026-01-01", "2026-01-01"), ("1h", "1h"), ("'12'", "12"), ('"true"', "true"),
        ("!!str 12", "12"), ("9" * 5000, "9" * 5000), ("=", "="), ("0 * * * *", "0 * * * *"),
    ],
)  # fmt: skip
def test_scalars_follow_the_core_schema(text, value):
    found = parse_yaml(f"a: {text}")["a"]
    assert found == value
    assert type(found) is type(value)


def test_anchors_aliases_and_merge_keys():
    tree = parse_yaml("a: &a {x: 1, y: 2}\nb: *a\nc: {<<: *a, y: 3}\nd: {<<: [{x: 9}, *a]}\n")
    assert tree["b"] == {"x": 1, "y": 2}
    assert tree["c"] == {"x": 1, "y": 3}
    assert tree["d"] == {"x": 9, "y": 2}
    assert parse_yaml("a: {'<<': 1}") == {"a": {"<<": 1}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [b", "line 1, column 6: not valid YAML"),
        ("a: b: c", "line 1, column 5: not valid YAML"),
        ("a:\n\t- b", "line 2, column 1: not valid YAML"),
        ("a: 1\nb: 2\na: 3", "line 3, column 1: the key 'a' occurs twice"),
        ("a: {b: 1, b: 2}", "the key 'b' occurs twice"),
        ("a: 1\n---\nb: 1", "line 2, column 1: a second document"),
        ("1: a", "the key '1' is not text: quote it"),
        ("null: a", "the key 'null' is not text"),
        ("? [a]\n: b", "a key must be text"),
        ("{[a]: b}", "a key must be text"),
        ("a: *b", "line 1, column 4: an alias"),
        ("a: &a [*a]", "an alias"),
        ("a: !!python/object/apply:os.system [ls]", "tags"),
        ("a: !secret hunter2", "tags"),
        ("a: !x!hunter2 b", "tags"),
        ("a: {<<: 5}", "<< takes a mapping"),
        (
            "a: &a {" + "k: 1, l: 2, m: 3}\nb: {<<: [" + "*a, " * 4000 + "]}",
            "line 2, column 5: more than 10000 values",
        ),
        ("a: \x00", "not allowed"),
        ("a: \x1b", "not allowed"),
    ],
)
def test_what_is_refused_says_where(text, message):
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text)
    assert message in str(caught.value)
    assert "hunter" not in str(caught.value)


def laughs(levels=12, width=9):
    """Text of a document whose aliases expand to width ** levels values."""
    lines = ["l0: &l0 [" + "lol, " * width + "]"]
    lines += [
        f"l{level}: &l{level} [" + f"*l{level - 1}, " * width + "]" for level in range(1, levels)
    ]
    return "\n".join(lines)


MEBIBYTE = 1 << 20
HEAVY = {
    "aliases": laughs(),
    "merges": "a: &a {" + ", ".join(f"k{i}: 1" for i in range(4000)) + "}\n"
    "b: {<<: [" + ", ".join(["*a"] * 900) + "]}",
    "items": "- a\n" * (MEBIBYTE // 4),
    "keys": "\n".join(f"k{i}: 1" for i in range(80_000)),
    "brackets": "[" * (MEBIBYTE - 1),
    "dashes": "- " * (MEBIBYTE // 2),
    "braces": "{a: " * (MEBIBYTE // 4),
    "too long": "#" * (MEBIBYTE + 1),
    "surrogates": "\ud800" * (MEBIBYTE // 2),
}


@pytest.mark.parametrize("name", HEAVY)
def test_heavy_documents_cost_little(name):
    from clusterdb.cache.config import CacheConfig

    tracemalloc.start()
    began = time.process_time()
    try:
        with pytest.raises(ConfigError):
            CacheConfig.from_yaml_text(HEAVY[name])
        spent, peak = time.process_time() - began, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert spent < 10, "seconds, under the tracer that slows it fivefold"
    assert peak < 30 * MEBIBYTE


def test_limits_leave_room_for_real_files():
    regions = "\n".join(f"  region-{i}: {{size: 1MB, ttl: 1h}}" for i in range(1000))
    assert len(parse_yaml(f"regions:\n{regions}")["regions"]) == 1000
