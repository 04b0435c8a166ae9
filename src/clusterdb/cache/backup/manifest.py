"""The manifest of a backup: what it holds, and by what each file is known.

It is JSON, written last, and created on the condition that there is none: a backup with a manifest
is complete, one without does not exist. It ends with a checksum of itself, and where the backup is
encrypted with a MAC by its key, so that counts, names and order can't be changed either.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any, Final, Literal

import msgspec

from ..errors import BackupCorrupt, BackupError, NotSupported, WrongKey
from .objects import check_name
from .sealing import Keyring, SecretKey

__all__ = [
    "FORMAT",
    "MANIFEST",
    "MOST_MANIFEST",
    "BackupFile",
    "Manifest",
    "RegionCounts",
    "dump_manifest",
    "load_manifest",
]

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
MOST_MANIFEST: Final = 64 * 1024 * 1024


class BackupFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file of a backup: entries of a region, or the index. ``sha256`` is of the file as it is
    stored, ``size`` its bytes, ``records`` how many entries or index rows it holds.
    """

    name: str
    kind: Literal["entries", "index"]
    region: str = ""
    records: int
    size: int
    sha256: str


class RegionCounts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of one region: ``present`` entries at the time of the backup, ``stored`` of them in this
    backup (the others are in those before it), ``unreadable`` left out, each with a problem.
    """

    present: int = 0
    stored: int = 0
    unreadable: int = 0


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a backup holds. ``sequence`` grows by one with each backup of a cache; ``chain`` are the
    backups it needs, from the full one to itself; ``gone`` is how many entries of the backup before
    were not there any more, ``repeated`` how many were given twice. ``release`` wrote it. Times are
    seconds since the Unix epoch.
    """

    format: int = FORMAT
    release: str = ""
    id: str
    cache: str
    backend: str
    sequence: int
    kind: Literal["full", "incremental"]
    chain: tuple[str, ...]
    started: float
    finished: float
    regions: dict[str, RegionCounts]
    gone: int = 0
    repeated: int = 0
    problems: tuple[str, ...] = ()
    files: tuple[BackupFile, ...]
    cipher: str = ""
    key_id: str = ""
    checksum: str = ""
    mac: str = ""

    @property
    def entries(self) -> int:
        """How many entries were there."""
        return sum(counts.present for counts in self.regions.values())

    @property
    def stored(self) -> int:
        """How many of them this backup holds itself."""
        return sum(counts.stored for counts in self.regions.values())

    @property
    def size(self) -> int:
        """The bytes of its files."""
        return sum(file.size for file in self.files)

    @property
    def parent(self) -> str | None:
        """The backup that it builds on."""
        return self.chain[-2] if len(self.chain) > 1 else None


def dump_manifest(manifest: Manifest, key: SecretKey | None) -> bytes:
    """The bytes of a manifest, with its checksum and its MAC."""
    body = _body(manifest)
    sealed = msgspec.structs.replace(
        manifest,
        checksum=hashlib.sha256(body).hexdigest(),
        mac="" if key is None else key.authenticate(body),
    )
    return msgspec.json.format(msgspec.json.encode(sealed), indent=1) + b"\n"


def load_manifest(name: str, content: bytes, keys: Keyring) -> Manifest:
    """Read the manifest of the file ``name``. Raises :class:`BackupCorrupt`, :class:`NotSupported`
    for one of a newer release, :class:`WrongKey`.
    """
    try:
        raw: Any = msgspec.json.decode(content)
        written = raw.get("format") if isinstance(raw, dict) else None
        if isinstance(written, int) and written > FORMAT:
            raise NotSupported(
                f"backup file {name!r} has format {written}, and this release reads {FORMAT}: "
                f"restore it with the release that wrote it, or a newer one"
            )
        manifest = msgspec.convert(raw, Manifest)
    except msgspec.MsgspecError as error:
        raise BackupCorrupt(name, f"is no manifest: {error}") from error
    _check(name, manifest, keys)
    return manifest


def _check(name: str, manifest: Manifest, keys: Keyring) -> None:
    body = _body(manifest)
    if manifest.format != FORMAT:
        raise BackupCorrupt(name, f"is of the unknown format {manifest.format}")
    if not hmac.compare_digest(hashlib.sha256(body).hexdigest(), manifest.checksum):
        raise BackupCorrupt(name, "is damaged: its checksum is wrong")
    if manifest.key_id:
        key = keys.find(manifest.key_id)
        if key is None:
            raise WrongKey(manifest.id, manifest.key_id, keys.ids)
        if not hmac.compare_digest(key.authenticate(body), manifest.mac):
            raise BackupCorrupt(name, "was changed by somebody without the key: its MAC is wrong")
    try:
        for part in (*manifest.chain, *[file.name for file in manifest.files]):
            check_name(part)
    except BackupError as error:
        raise BackupCorrupt(name, f"is no manifest: {error}") from error
    if not manifest.chain or manifest.chain[-1] != manifest.id:
        raise BackupCorrupt(name, "is no manifest: its chain does not end with itself")


def _body(manifest: Manifest) -> bytes:
    """What checksum and MAC are of: the manifest without them, its keys in order."""
    bare = msgspec.structs.replace(manifest, checksum="", mac="")
    return msgspec.json.encode(bare, order="sorted")
