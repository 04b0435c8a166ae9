"""How values become bytes, on backends that encode."""

from __future__ import annotations

from typing import Literal

from .quantities import OptionalPath, preset
from .settings import Settings, require

__all__ = ["SchemaConfig", "SerializationConfig"]


class SchemaConfig(Settings, frozen=True, kw_only=True):
    """The schema of the values: a file (`path`) or its text (`inline`), one of both."""

    type: Literal["avro"] = "avro"
    path: OptionalPath = preset(None)
    inline: str | None = None

    def _check(self) -> None:
        """Check that there is exactly one schema."""
        one = (self.path is None) != (self.inline is None)
        require(one, "path", "give either path or inline, and not both")


class SerializationConfig(Settings, frozen=True, kw_only=True):
    """The format of encoded values.

    `compression`: True or False switches it for encoded values; None follows
    ``policy.compression``. `pickle` values are signed; nothing else can run code when read.
    """

    format: Literal["messagepack", "json", "raw", "avro", "pickle"] = "messagepack"
    compression: bool | None = None
    schema: SchemaConfig | None = None
