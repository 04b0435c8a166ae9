"""Reading a configuration: file, text or mapping to `CacheConfig`.

The stages, each its own module: text to a tree (`document`), variables in the tree (`variables`),
tree to structs (`tree`). Here is the layout of the whole: ``cache:`` with the cache's own settings,
and beside it regions (a mapping of names), coherence, maintenance, backup and so on.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ..errors import ConfigError
from .cache import CACHE_SECTION, CacheConfig
from .document import MAX_FILE_BYTES, parse_yaml
from .region import CacheRegion
from .secrets import masked
from .shapes import accept, fields_of, join
from .tree import build, check_keys, read, read_struct, unknown_key
from .variables import Expansion

__all__ = ["load_file", "load_mapping", "load_text", "read_config"]

_BESIDE: Final = tuple(name for name in CacheConfig.__struct_fields__ if name not in CACHE_SECTION)
_NAME: Final = fields_of(CacheRegion)["name"]


def load_file(path: str | os.PathLike[str], environ: Mapping[str, str] | None) -> CacheConfig:
    """Read a YAML file; every error begins with its path."""
    try:
        return load_text(_file_text(path), environ)
    except ConfigError as error:
        raise type(error)(f"{os.fspath(path)}: {error}", path=error.path) from None


def load_text(text: str, environ: Mapping[str, str] | None) -> CacheConfig:
    """Read YAML text."""
    tree = parse_yaml(text)
    return load_mapping({} if tree is None else tree, environ)


def load_mapping(mapping: Any, environ: Mapping[str, str] | None) -> CacheConfig:
    """Read a mapping of the form a file has."""
    if not isinstance(mapping, Mapping):
        raise ConfigError("a configuration is a mapping with keys such as cache and regions")
    return read_config(Expansion(os.environ if environ is None else environ).expand(mapping))


def read_config(tree: Mapping[str, Any]) -> CacheConfig:
    """Return the configuration of a tree whose variables are replaced."""
    for key in tree:
        if key in CACHE_SECTION:
            raise ConfigError(f"{key}: belongs under 'cache': write cache.{key}", path=key)
    check_keys(tree, ("cache", *_BESIDE), "", about="")
    values = _cache_section(tree.get("cache"))
    values["regions"] = _regions(tree.get("regions"))
    fields = fields_of(CacheConfig)
    for name in tree:
        if name not in ("cache", "regions"):
            values[name] = read(tree[name], fields[name], name)
    return build(CacheConfig, values, "cache")


def _cache_section(node: Any) -> dict[str, Any]:
    """Return the settings under ``cache:``."""
    settings = _section(node, "cache")
    for key in settings:
        if key in _BESIDE:
            raise ConfigError(f"cache.{key}: stands beside 'cache', not in it", path=f"cache.{key}")
        if key not in CACHE_SECTION:
            raise unknown_key(key, CACHE_SECTION, "cache")
    fields = fields_of(CacheConfig)
    return {key: read(node, fields[key], join("cache", key)) for key, node in settings.items()}


def _regions(node: Any) -> tuple[CacheRegion, ...]:
    """Return the regions of a mapping of names to settings."""
    regions = []
    for name, settings in _section(node, "regions").items():
        path = join("regions", name)
        accept(name, _NAME, path)
        given = {"name": name}
        regions.append(read_struct(CacheRegion, _section(settings, path), path, given=given))
    return tuple(regions)


def _section(node: Any, path: str) -> Mapping[str, Any]:
    """Return a mapping; a key with nothing behind it is an empty one."""
    if node is None:
        return {}
    if not isinstance(node, Mapping):
        example = "names to settings" if path == "regions" else "settings"
        raise ConfigError(f"{path}: expected a mapping of {example}", path=path)
    return node


def _file_text(path: str | os.PathLike[str]) -> str:
    """Return the text of a file; refuse what is too large before reading it all."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"can't be read: {masked(reason)}") from None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        if len(content) > MAX_FILE_BYTES:
            raise ConfigError(f"larger than {MAX_FILE_BYTES} bytes") from None
        raise ConfigError(f"not UTF-8: byte {error.start} can't be decoded") from None
