"""The JSON Schema of a configuration file, for editors and for checks in a pipeline.

Derived from the structs, then put into the layout of a file: the cache's own settings under
``cache``, regions by name. Wherever a number or a switch is expected, ``${VAR}`` is accepted too.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from .cache import CACHE_SECTION, CacheConfig

__all__ = ["file_schema"]

_VARIABLE: Final = {"type": "string", "pattern": r"\$\{"}
_REPLACEABLE: Final = ("integer", "number", "boolean")


def file_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of the file form."""
    whole = msgspec.json.schema(CacheConfig)
    definitions = whole["$defs"]
    own = definitions.pop("CacheConfig")["properties"]
    region = definitions["CacheRegion"]
    region["properties"].pop("name")
    region["required"].remove("name")
    by_name = {"type": ["object", "null"], "additionalProperties": {
        "anyOf": [{"$ref": "#/$defs/CacheRegion"}, {"type": "null"}]
    }}  # fmt: skip
    own["regions"] = {**by_name, "propertyNames": {"pattern": "^[A-Za-z0-9._-]{1,64}$"}}
    cache = {name: own.pop(name) for name in CACHE_SECTION}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "ClusterDB cache configuration",
        "type": "object",
        "properties": {"cache": _object(cache), **_open(own)},
        "additionalProperties": False,
        "$defs": _open(definitions),
    }


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": ["object", "null"],
        "properties": _open(properties),
        "additionalProperties": False,
    }


def _open(node: Any) -> Any:
    """Return a schema in which a number or a switch may also be a variable."""
    if isinstance(node, (list, tuple)):
        return [_open(item) for item in node]
    if not isinstance(node, dict):
        return node
    inner = {key: _open(value) for key, value in node.items() if key != "default"}
    if "default" in node:
        default = node["default"]
        inner["default"] = list(default) if isinstance(default, tuple) else default
    if inner.get("type") in _REPLACEABLE:
        default = {"default": inner.pop("default")} if "default" in inner else {}
        return {"anyOf": [inner, dict(_VARIABLE)], **default}
    return inner
