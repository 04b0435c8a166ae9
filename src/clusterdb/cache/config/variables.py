"""``${VAR}`` in the texts of a configuration, and the bounds of a configuration's size.

Runs on the tree of mappings, lists and scalars after the file was parsed, so that a value of the
environment is only ever text: it can't add keys or change the structure. ``${VAR}`` is the
variable, ``${VAR:-text}`` has a default for one that is unset or empty, ``$$`` is a dollar sign.

The walk counts every node it meets. Aliases of YAML share a subtree, which counts each time it
appears, so an exponential document stops at the limit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from ..errors import ConfigError, MissingVariable
from .secrets import shown
from .shapes import FromVariable, join

__all__ = ["MAX_DEPTH", "MAX_NODES", "Expansion"]

MAX_NODES: Final = 10_000
MAX_DEPTH: Final = 32

_TOKEN: Final = re.compile(r"\$(?:\$|\{(?P<body>[^{}]*)\}|\{)")
_BODY: Final = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>.*))?", re.DOTALL)


class Expansion:
    """One pass over one tree: `expand` returns the tree with the variables replaced."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._left = MAX_NODES

    def expand(self, node: Any, path: str = "", depth: int = 0) -> Any:
        """Return a copy of `node`; raise `ConfigError` past the limits, or for a wrong key."""
        self._left -= 1
        if self._left < 0:
            raise ConfigError(
                f"the configuration has more than {MAX_NODES} values once its aliases are expanded"
            )
        if depth > MAX_DEPTH:
            raise ConfigError(f"{path[:200]}: nested deeper than {MAX_DEPTH} levels", path=path)
        if isinstance(node, str):
            return self._text(str(node), path) if "$" in node else str(node)
        if isinstance(node, Mapping):
            return self._mapping(node, path, depth)
        if isinstance(node, (list, tuple)):
            return [self.expand(item, f"{path}[{at}]", depth + 1) for at, item in enumerate(node)]
        return node

    def _mapping(self, node: Mapping[Any, Any], path: str, depth: int) -> dict[str, Any]:
        found = {}
        for key, value in node.items():
            if not isinstance(key, str):
                where = path or "the top level"
                raise ConfigError(
                    f"{where}: the key {shown(key)} is not text: put it in quotes", path=path
                )
            found[str(key)] = self.expand(value, join(path, key), depth + 1)
        return found

    def _text(self, text: str, path: str) -> str:
        return FromVariable(_TOKEN.sub(lambda token: self._token(token, path), text), text)

    def _token(self, token: re.Match[str], path: str) -> str:
        """Return what one ``${...}`` or ``$$`` stands for."""
        if token[0] == "$$":
            return "$"
        body = _BODY.fullmatch(token["body"] or "")
        if body is None:
            raise ConfigError(
                f"{path}: a variable is written ${{NAME}} or ${{NAME:-default}}, "
                "and a dollar sign before a brace $$",
                path=path,
            )
        name, default = body["name"], body["default"]
        value = self._environ.get(name)
        if default is not None:
            value = value or default
        if value is None:
            raise MissingVariable(
                f"{path}: the variable {name} is not set; set it, "
                f"or give a default as in ${{{name}:-default}}",
                path=path,
            )
        return value
