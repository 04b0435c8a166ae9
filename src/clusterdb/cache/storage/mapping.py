"""A table of the user's own: keys and values as its columns have them. For either database.

A key is the mapping's prefix and the text of a column, in the one form that the database itself
gives it: ``user:42`` is a row, ``user:042`` is none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias
from uuid import UUID

import msgspec

from ..config import RowMapping
from ..errors import CacheError, NotSupported, RowRefused, TypeMismatch
from ..rows import RowChange, StorageCapability
from ..types import MISSING

__all__ = ["KeyKind", "Mapped"]

KeyKind: TypeAlias = Literal["text", "integer", "uuid"]
"""What a key column holds."""

_INTEGER: Final = re.compile(r"0|-?[1-9][0-9]{0,18}")
_WIDEST: Final = 2**63


class Mapped:
    """One mapping. ``kind`` is known once the table was looked at."""

    def __init__(self, config: RowMapping) -> None:
        self.config = config
        self.columns = tuple(name for name in config.columns if name != config.key_column)
        self.kind: KeyKind = "text"

    @property
    def capabilities(self) -> frozenset[StorageCapability]:
        """What a storage of this mapping can do."""
        found: set[StorageCapability] = {"objects", "conditions", "atomic"}
        if self.config.version_column is not None:
            found |= {"versions", "changes"}
        if self.config.expires_column is not None:
            found.add("expiry")
        return frozenset(found)

    # -- keys

    def stored(self, key: str) -> Any:
        """What the key column has for a key; ``None`` where no row can have it."""
        prefix = self.config.prefix
        if not key.startswith(prefix):
            return None
        text = key[len(prefix) :]
        if self.kind == "integer":
            number = int(text) if _INTEGER.fullmatch(text) else _WIDEST
            return number if -_WIDEST <= number < _WIDEST else None
        if self.kind == "uuid":
            return _uuid(text)
        return text

    def key(self, stored: object) -> str:
        """The key of what the key column has."""
        return f"{self.config.prefix}{stored}"

    def check_region(self, region: str) -> None:
        """Raise :class:`NotSupported` for another region than the mapping's."""
        if region != self.config.region:
            raise self._other(region)

    def _other(self, region: str) -> NotSupported:
        return NotSupported(
            f"table {self.config.table!r} has the rows of region {self.config.region!r}, not of "
            f"{region!r}: give the storage to that region, or name the other in rows.region"
        )

    def refusal(self, change: RowChange) -> CacheError | None:
        """Why a change can't be made, whatever the table has."""
        if change.region != self.config.region:
            return self._other(change.region)
        if self.stored(change.key) is None:
            reason = (
                f"a key here is {self.config.prefix!r} and then the {self.kind} of "
                f"{self.config.key_column!r}, as the column writes it"
            )
            return RowRefused(change.key, "mapping", reason)
        unversioned = self.config.version_column is None
        if unversioned and (change.expect is not None or change.version is not None):
            return NotSupported(
                f"table {self.config.table!r} keeps no versions: name its rows.version_column"
            )
        return None

    # -- values

    def value(self, found: Sequence[Any]) -> Any:
        """The value of the key column's and the columns' contents. Raises :class:`TypeMismatch`."""
        contents = dict(zip((self.config.key_column, *self.columns), found, strict=True))
        value = {name: contents[name] for name in self.config.columns}
        wanted = self.config.type
        if wanted is None:
            return value
        try:
            return msgspec.convert(value, wanted, strict=False, dec_hook=_model)
        except Exception as error:
            raise TypeMismatch(
                f"row {self.key(found[0])!r} of table {self.config.table!r} is no "
                f"{getattr(wanted, '__qualname__', wanted)}: {error}"
            ) from error

    def contents(self, change: RowChange) -> list[Any]:
        """What goes into :attr:`columns`. Raises :class:`RowRefused`."""
        if change.value is MISSING:
            return []
        try:
            parts = {name: _part(change.value, name) for name in self.config.columns}
        except (KeyError, AttributeError) as error:
            named = error.args[0] if isinstance(error, KeyError) else error.name
            reason = f"the value has no {named!r} for the column of that name; None is null"
            raise RowRefused(change.key, "mapping", reason) from error
        if isinstance(change.value, Mapping) and len(change.value) > len(parts):
            others = sorted(map(str, change.value.keys() - parts.keys()))
            reason = f"the value has {others[0]!r}, which is in no column that rows.columns names"
            raise RowRefused(change.key, "mapping", reason)
        own = parts.pop(self.config.key_column, MISSING)
        if own is not MISSING and self.key(own) != change.key:
            reason = f"the value says {self.config.key_column} {own!r}, which is another key's"
            raise RowRefused(change.key, "mapping", reason)
        return list(parts.values())


def _part(value: Any, name: str) -> Any:
    return value[name] if isinstance(value, Mapping) else getattr(value, name)


def _uuid(text: str) -> UUID | None:
    try:
        found = UUID(text)
    except ValueError:
        return None
    return found if str(found) == text else None


def _model(kind: Any, given: Any) -> Any:
    """An object of a class that msgspec does not know, by the class's own method."""
    if hasattr(kind, "model_validate"):
        return kind.model_validate(given)
    if isinstance(given, kind):
        return given
    raise NotImplementedError(f"no way to make {kind!r} of a {type(given).__qualname__}")
