"""How values become bytes, on backends that encode."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta

from ..errors import InvalidArgument
from .quantities import Items, OptionalPath, preset
from .settings import Settings, require

__all__ = ["SchemaConfig", "SerializationConfig"]

_LEAST_KEY_BYTES: Final = 16


def _signing_key(value: object) -> str:
    """Return the text of a key that is long enough; no message shows it."""
    if not isinstance(value, str):
        raise InvalidArgument(f"expected a key as text, got a {type(value).__name__}")
    size = len(value.encode(errors="surrogatepass"))
    if size < _LEAST_KEY_BYTES:
        raise InvalidArgument(
            f"a signing key has at least {_LEAST_KEY_BYTES} bytes, and this one {size}; "
            f"make one with: openssl rand -hex 32"
        )
    return str(value)


SigningKey = Annotated[str, Meta(extra={"read": _signing_key, "secret": True})]


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
    ``policy.compression``. `schema` checks each value before it is stored; the bytes follow it in
    `format` avro, which needs one. `keys` sign what leaves the process (HMAC-SHA256): the first
    signs, all are accepted, and what is not signed by one is not read. `pickle` needs a key;
    nothing else can run code when read.
    """

    format: Literal["messagepack", "json", "raw", "avro", "pickle"] = "messagepack"
    compression: bool | None = None
    schema: SchemaConfig | None = None
    keys: Items[SigningKey] = preset(())

    def _check(self) -> None:
        """Check that the format has what it needs."""
        signs = self.format != "pickle" or bool(self.keys)
        example = 'a key of at least 16 bytes, such as keys: ["${CACHE_KEY}"]'
        require(signs, "keys", f"format pickle can run code, so it is signed: give {example}")
        described = self.format != "avro" or self.schema is not None
        require(described, "schema", "format avro needs a schema: give its path, or inline")
