"""Backups: when, where they go, for how long, how much each holds, and by which key."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Final, Literal, TypeAlias
from urllib.parse import urlsplit

from msgspec import Meta

from ..errors import InvalidArgument
from .management import Schedule
from .quantities import (
    Count,
    Duration,
    FilePath,
    Items,
    OptionalSecret,
    OptionalSize,
    Size,
    preset,
)
from .settings import Settings, require

__all__ = [
    "S3",
    "BackupConfig",
    "BackupEncryption",
    "BackupStorage",
    "Directory",
    "key_bytes",
]

_KEY_BYTES: Final = 32
_LEAST_PART: Final = 5 * 1024 * 1024


def key_bytes(text: str) -> bytes:
    """The key that a setting holds, as bytes: it was checked when the setting was."""
    return base64.b64decode(text)


def _encryption_key(value: object) -> str:
    """Refuse what is not 32 bytes in base64, without showing it."""
    try:
        right = isinstance(value, str) and len(base64.b64decode(value, validate=True)) == _KEY_BYTES
    except (binascii.Error, ValueError):
        right = False
    if not right:
        raise InvalidArgument(
            f"expected {_KEY_BYTES} random bytes in base64, as 'openssl rand -base64 {_KEY_BYTES}' "
            f"prints them"
        )
    return str(value)


EncryptionKey = Annotated[str, Meta(extra={"read": _encryption_key, "secret": True})]


class S3(Settings, frozen=True, kw_only=True, tag_field="type", tag="s3"):
    """A bucket of S3 or of a store that speaks its protocol (`endpoint`).

    Without `access_key` the credentials are those of the environment: ``AWS_ACCESS_KEY_ID`` and so
    on, a profile's web identity, or the machine's role. A request may take `timeout` and is tried
    again `retries` times; files go up and down in parts of `part_size`.
    """

    bucket: str
    prefix: str = ""
    region: str | None = None
    endpoint: str | None = None
    access_key: OptionalSecret = None
    secret_key: OptionalSecret = None
    session_token: OptionalSecret = None
    timeout: Duration = preset(30.0)
    retries: Annotated[int, Meta(ge=0, le=100)] = 5
    part_size: Size = preset("8MiB")

    def _check(self) -> None:
        """Check the bucket's name, the endpoint's form, and that credentials are whole."""
        require(bool(self.bucket) and "/" not in self.bucket, "bucket", "needs a name without '/'")
        web = self.endpoint is None or _is_web(self.endpoint)
        require(web, "endpoint", "expected http(s)://host[:port]")
        whole = (self.access_key is None) == (self.secret_key is None)
        require(whole, "secret_key", "access_key and secret_key go together: give both, or none")
        require(self.timeout > 0, "timeout", "must be above 0 seconds")
        require(self.part_size >= _LEAST_PART, "part_size", "S3 takes parts of 5 MiB and more")


class Directory(Settings, frozen=True, kw_only=True, tag_field="type", tag="directory"):
    """A directory of this machine."""

    path: FilePath


BackupStorage: TypeAlias = S3 | Directory


class BackupEncryption(Settings, frozen=True, kw_only=True):
    """Encrypt and authenticate what backups hold. The first of `keys` encrypts, all are known for
    reading: to change keys, put the new one in front.
    """

    keys: Items[EncryptionKey]
    cipher: Literal["aes_256_gcm", "chacha20_poly1305"] = "aes_256_gcm"

    def _check(self) -> None:
        """Check that there is a key."""
        require(bool(self.keys), "keys", 'needs a key: keys: ["${BACKUP_KEY}"]')


class BackupConfig(Settings, frozen=True, kw_only=True):
    """A backup on a schedule, of five fields in `timezone`, up to `jitter` later; those older than
    `retention` are removed, but for the last.

    One in `full_every` holds everything; the others only what changed since the one before. Up to
    `parallel` nodes are read side by side, in all no faster than the two limits allow (``None``: no
    limit). A file of a backup ends at about `file_size`.
    """

    schedule: Schedule
    retention: Duration
    storage: BackupStorage
    timezone: str = "UTC"
    jitter: Duration = preset(0.0)
    full_every: Count = 1
    encryption: BackupEncryption | None = None
    parallel: Annotated[int, Meta(ge=1, le=64)] = 4
    entries_per_second: Count | None = 20_000
    bytes_per_second: OptionalSize = preset("32MiB")
    file_size: Size = preset("64MiB")

    def _check(self) -> None:
        """Check that backups are kept for a while, and files are not tiny."""
        require(self.retention > 0, "retention", "must be above 0 seconds")
        require(self.jitter >= 0, "jitter", "must be 0 seconds or more")
        require(self.file_size >= 1024, "file_size", "must be at least 1 KiB")


def _is_web(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
