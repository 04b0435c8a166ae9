"""A tree of mappings, lists and scalars to the structs of the configuration.

Each struct is built from the innermost outwards, so its own checks run, and every error names the
path of the setting: ``cache.backend.pool.max_connections``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from ..errors import ConfigError
from .secrets import shown
from .shapes import Shape, StructClass, accept, fields_of, folded, join, kind_of, nearest, refusal

__all__ = ["build", "check_keys", "read", "read_struct", "unknown_key"]

S = TypeVar("S", bound=msgspec.Struct)

_KIND: Final = "type"


def read(node: Any, shape: Shape, path: str) -> Any:
    """Return what `node` says for a setting of this shape."""
    if node is None and shape.optional:
        return None
    if shape.structs:
        return _read_kind(node, shape, path)
    if shape.items is not None:
        if not isinstance(node, list):
            raise refusal(path, "a list", node)
        return tuple(read(item, shape.items, f"{path}[{at}]") for at, item in enumerate(node))
    return accept(node, shape, path)


def read_struct(cls: type[S], node: Any, path: str, *, given: Mapping[str, Any] | None = None) -> S:
    """Return the struct that a mapping describes; `given` fields are not looked for in it."""
    given = given or {}
    settings = _mapping(node, path)
    fields = fields_of(cls)
    known = [name for name in fields if name not in given]
    check_keys(settings, known, path, about=kind_of(cls))
    found = {name: read(settings[name], fields[name], join(path, name)) for name in settings}
    missing = [name for name in _required(cls) if name not in found and name not in given]
    if missing:
        where = join(path, missing[0])
        raise ConfigError(f"{where}: missing; it has no default", path=where)
    return build(cls, {**given, **found}, path)


def build(cls: type[S], values: Mapping[str, Any], path: str) -> S:
    """Return ``cls(**values)``; what it refuses is reported under `path`."""
    try:
        return cls(**values)
    except ValueError as error:
        field = getattr(error, "path", "") or str(error).partition(":")[0]
        if field.partition("[")[0].partition(".")[0] not in cls.__struct_fields__:
            raise ConfigError(f"{path}: {error}", path=path) from None
        raise ConfigError(f"{join(path, '')}{error}", path=join(path, field)) from None


def check_keys(settings: Mapping[str, Any], known: Iterable[str], path: str, *, about: str) -> None:
    """Refuse the first key that is not known."""
    known = list(known)
    for key in settings:
        if key not in known:
            raise unknown_key(key, known, path, about=about)


def unknown_key(key: str, known: Iterable[str], path: str, *, about: str = "") -> ConfigError:
    """Return the error for a key that is not known, with the nearest that is."""
    where = join(path, key)
    of = f" of type {about!r}" if about else ""
    hint = nearest(key, known) if known else "it has no settings"
    return ConfigError(f"{where}: unknown key{of} - {hint}", path=where)


def _read_kind(node: Any, shape: Shape, path: str) -> Any:
    """Return a struct; where there are kinds, the one that the ``type`` key names."""
    if not shape.tagged:
        return read_struct(shape.structs[""], node, path)
    settings = dict(_mapping(node, path))
    where = join(path, _KIND)
    kinds = {folded(kind): kind for kind in shape.structs}
    choices = ", ".join(sorted(shape.structs))
    if _KIND not in settings:
        raise ConfigError(f"{where}: missing; known: {choices}", path=where)
    kind = settings.pop(_KIND)
    if not isinstance(kind, str):
        raise refusal(where, f"one of {choices}", kind)
    if folded(kind) not in kinds:
        raise ConfigError(
            f"{where}: unknown type {shown(kind)} - {nearest(kind, shape.structs)}", path=where
        )
    return read_struct(shape.structs[kinds[folded(kind)]], settings, path)


def _mapping(node: Any, path: str) -> Mapping[str, Any]:
    if not isinstance(node, Mapping):
        raise refusal(path, "a mapping of settings", node)
    return node


def _required(cls: StructClass) -> list[str]:
    return [field.name for field in msgspec.structs.fields(cls) if field.required]
