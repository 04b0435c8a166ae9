"""The JSON Schema of the file form: complete, and of one mind with the loader."""

import json
import re
from typing import Any

import pytest
import yaml
from tests.unit.cache.config.samples import BACKUP, CACHE, FULL, REGIONS

from clusterdb.cache.config import CacheConfig
from clusterdb.cache.config.shapes import fields_of

SCHEMA: dict[str, Any] = json.loads(json.dumps(CacheConfig.json_schema()))

TYPES: dict[str, Any] = {
    "object": dict, "array": list, "string": str, "boolean": bool, "null": type(None),
    "integer": int, "number": (int, float),
}  # fmt: skip


def fits(value: Any, schema: dict[str, Any]) -> bool:
    """Whether a value is valid: the part of JSON Schema that the export uses."""
    if "$ref" in schema:
        return fits(value, SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")])
    if "anyOf" in schema:
        return any(fits(value, option) for option in schema["anyOf"])
    if "enum" in schema:
        return value in schema["enum"]
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if not any(_is(value, kind) for kind in kinds):
        return False
    if isinstance(value, dict):
        return _fits_object(value, schema)
    if isinstance(value, list):
        return all(fits(item, schema["items"]) for item in value)
    if isinstance(value, str):
        return re.search(schema.get("pattern", ""), value) is not None
    return value is None or (
        schema.get("minimum", value) <= value <= schema.get("maximum", value)
        and schema.get("exclusiveMinimum", value - 1) < value
    )


def _is(value: Any, kind: str) -> bool:
    return isinstance(value, TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))


def _fits_object(value: dict[str, Any], schema: dict[str, Any]) -> bool:
    properties, others = schema.get("properties", {}), schema.get("additionalProperties")
    names = re.compile(schema.get("propertyNames", {}).get("pattern", ""))
    if not all(name in value for name in schema.get("required", [])):
        return False
    for name, item in value.items():
        expected = properties.get(name, others)
        if not expected or not names.search(name) or not fits(item, expected):
            return False
    return True


def test_the_schema_has_the_layout_of_a_file():
    beside = set(fields_of(CacheConfig)) - set(SCHEMA["properties"]["cache"]["properties"])
    assert set(SCHEMA["properties"]) == {"cache"} | beside
    assert "regions" in beside
    assert "name" not in SCHEMA["$defs"]["CacheRegion"]["properties"]


def test_every_reference_leads_somewhere():
    found = re.findall(r'"\$ref": "#/\$defs/(\w+)"', json.dumps(SCHEMA))
    assert set(found) == set(SCHEMA["$defs"])


@pytest.mark.parametrize("text", [CACHE, REGIONS, BACKUP, f"{CACHE}\n{REGIONS}\n{BACKUP}"])
def test_the_blocks_of_the_specification_are_valid(text):
    assert fits(yaml.safe_load(text), SCHEMA)


def test_a_whole_file_in_canonical_spelling_is_valid():
    canonical = (
        FULL.replace("write-behind", "write_behind")
        .replace("Strong", "strong").replace("Avro", "avro").replace("Redis", "redis")
        .replace("LRU", "lru").replace("LZ4", "lz4").replace("MessagePack", "messagepack")
        .replace("\n  no:", "\n  'no':")
    )  # fmt: skip
    assert fits(yaml.safe_load(canonical), SCHEMA)


@pytest.mark.parametrize(
    "text",
    [
        "chace: {}",
        "cache: {backend: {type: reds}}",
        "cache: {backend: {type: disk}}",
        "cache: {backend: {type: memory, size: 1}}",
        "cache: {policy: {eviction: {type: lru, max_items: 0}}}",
        "cache: {policy: {eviction: {type: lru, max_items: many}}}",
        "regions: {a b: {}}",
        "regions: {a: {ttl_jitter: 2}}",
        "regions: {a: {isolation: deep}}",
        "backup: {schedule: '0 0 * * *'}",
        "tracing: {sampling_rate: 3}",
    ],
)
def test_what_the_loader_refuses_is_not_valid(text):
    with pytest.raises(ValueError):
        CacheConfig.from_yaml_text(text)
    assert not fits(yaml.safe_load(text), SCHEMA)


def test_variables_are_valid_where_numbers_are_expected():
    text = "cache: {policy: {eviction: {type: lru, max_items: '${N}'}}}"
    assert CacheConfig.from_yaml_text(text, environ={"N": "5"}) != CacheConfig()
    assert fits(yaml.safe_load(text), SCHEMA)
