"""YAML text to a tree of mappings, lists and scalars, within bounds and without surprises.

Reads the parser's events and builds the tree itself, for four reasons: the number of nodes and the
depth are bounded while reading; a key that occurs twice is refused (PyYAML keeps the last); tags
build nothing, so no file can create objects; and scalars follow the YAML 1.2 core schema,
where ``no``, ``on``, ``1:30`` and ``2026-01-01`` are text (a region may be named ``no``). Whole
numbers may have underscores, and merge keys (``<<``) work, as configuration files use them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import yaml

from ..errors import ConfigError
from .variables import MAX_DEPTH, MAX_NODES

__all__ = ["MAX_FILE_BYTES", "parse_yaml"]

MAX_FILE_BYTES: Final = 1 << 20

_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLS: Final = {
    "true": True, "True": True, "TRUE": True,
    "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_INT: Final = re.compile(r"[-+]?[0-9][0-9_]{0,40}")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_SPECIAL: Final = re.compile(r"([-+]?)\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_TEXT_TAGS: Final = (None, "!", "tag:yaml.org,2002:str")
_MERGE: Final = "<<"


def parse_yaml(text: str) -> Any:
    """Return the tree of one YAML document, None if it is empty; raise `ConfigError`."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_FILE_BYTES:
        raise ConfigError(f"the configuration is larger than {MAX_FILE_BYTES} bytes")
    try:
        return _Tree(text).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        if "tag" in (error.problem or ""):
            raise _wrong("tags (!) are not used here: quote the text", mark) from None
        raise _wrong(f"not valid YAML: {error.problem or error.context}", mark) from None
    except yaml.YAMLError as error:  # a character that YAML does not allow
        where = getattr(error, "position", "unknown")
        raise ConfigError(f"not valid YAML: character {where} is not allowed") from None


def _wrong(message: str, mark: Any) -> ConfigError:
    """Return an error that says where, without quoting the text: it may hold secrets."""
    at = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
    return ConfigError(f"{at}{message}")


class _Tree:
    """Builds the tree from the parser's events, counting nodes."""

    def __init__(self, text: str) -> None:
        self._events: Iterator[Any] = yaml.parse(text, Loader=yaml.SafeLoader)
        self._left = MAX_NODES
        self._anchors: dict[str, Any] = {}

    def document(self) -> Any:
        """Return the only document of the stream."""
        tree, documents = None, 0
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise _wrong("a second document: a file holds one", event.start_mark)
                tree = self._node(next(self._events), 0)
        return tree

    def _node(self, event: Any, depth: int) -> Any:
        """Return the node that begins with `event`."""
        self._spend(1, event)
        if depth > MAX_DEPTH:
            raise _wrong(f"nested deeper than {MAX_DEPTH} levels", event.start_mark)
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise _wrong("an alias (*) without its anchor (&) before it", event.start_mark)
            return self._anchors[event.anchor]
        node = self._value(event, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _value(self, event: Any, depth: int) -> Any:
        if isinstance(event, yaml.ScalarEvent):
            if event.tag not in _TEXT_TAGS:
                raise _wrong("tags (!) are not used here: quote the text", event.start_mark)
            return _scalar(event.value) if event.implicit[0] else event.value
        if event.tag is not None:
            raise _wrong("tags (!) are not used here", event.start_mark)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(depth)
        return self._mapping(depth)

    def _sequence(self, depth: int) -> list[Any]:
        items = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, depth + 1))
        return items

    def _mapping(self, depth: int) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._key(event, depth)
            value = self._node(next(self._events), depth + 1)
            if key == _MERGE and event.implicit[0]:
                self._merge(merged, value, event)
            elif key in own:
                raise _wrong(f"the key {key[:80]!r} occurs twice", event.start_mark)
            else:
                own[key] = value
        return merged | own

    def _key(self, event: Any, depth: int) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            raise _wrong("a key must be text", event.start_mark)
        key = self._node(event, depth + 1)
        if not isinstance(key, str):
            raise _wrong(f"the key {event.value[:80]!r} is not text: quote it", event.start_mark)
        return key

    def _merge(self, into: dict[str, Any], value: Any, event: Any) -> None:
        """Add the keys of a mapping, or of a list of mappings; the earlier ones win."""
        for each in value if isinstance(value, list) else [value]:
            if not isinstance(each, dict):
                raise _wrong("<< takes a mapping or a list of mappings", event.start_mark)
            self._spend(len(each), event)
            for key, item in each.items():
                into.setdefault(key, item)

    def _spend(self, nodes: int, event: Any) -> None:
        self._left -= nodes
        if self._left < 0:
            raise _wrong(f"more than {MAX_NODES} values", event.start_mark)


def _scalar(text: str) -> Any:
    """Return a plain scalar by the YAML 1.2 core schema."""
    if text in _NULLS:
        return None
    if text in _BOOLS:
        return _BOOLS[text]
    if _INT.fullmatch(text):
        return int(text.replace("_", ""))
    if len(text) <= 64 and _FLOAT.fullmatch(text):
        return float(text)
    special = _SPECIAL.fullmatch(text)
    return float(special[0].replace(".", "")) if special else text
