"""Names in statements: they are quoted, so that they are taken as they are written."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["Names", "literal", "quoted"]

_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def quoted(name: str) -> str:
    """``name`` as an identifier. It was checked where it was configured, and is again."""
    if _PLAIN.fullmatch(name) is None:
        raise ValueError(f"{name!r} is not a plain SQL name")
    return f'"{name}"'


def literal(text: str) -> str:
    """``text`` as a constant in a statement that can't have parameters, as that of a trigger."""
    return "'" + text.replace("'", "''") + "'"


class Names:
    """The names of one storage: its table, and what is named after it. ``schema`` is empty where
    the connection's default is meant.
    """

    def __init__(self, table: str) -> None:
        self.schema, _, self.bare = table.rpartition(".")
        self._prefix = f"{quoted(self.schema)}." if self.schema else ""
        self.text = table
        self.table = self.of("")
        self.outbox = self.of("_outbox")
        self.meta = self.of("_meta")

    def of(self, end: str) -> str:
        """What is named after the table, with its schema."""
        return f"{self._prefix}{self.local(end)}"

    def local(self, end: str) -> str:
        """The same without the schema."""
        return quoted(self.bare + end)
