"""Encryption of a backup's files: nobody without the key reads one, or changes one, moves a block,
cuts it short or puts another in its place without being found out.

::

    offset  bytes
         0      4  magic CDBE
         4      1  format: 1
         5      1  cipher: 1 AES-256-GCM, 2 ChaCha20-Poly1305
         6      8  key id: says which key, and nothing about it
        14     32  salt: random
        46         frames: length (4, big-endian) of what follows; ciphertext with its tag (16)

The idea is the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár: "Online Authenticated-
Encryption and its Nonce-Reuse Misuse-Resistance", CRYPTO 2015). Each file has a key of its own, by
HKDF-SHA256 from the configured key, the salt and the file's identity (backup and name); within it
the nonce is the number of the frame (11 bytes) and a byte that is 1 in the last one. So no nonce is
used twice under a key whatever the clock or the random numbers of other files do, and order, end
and identity are part of what is authenticated. Rejected: one key and random nonces of 96 bits,
which authenticate no order and are safe for 2^32 frames only.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable, Sequence
from typing import Any, Final

from ..config import BackupEncryption
from ..config.backup import key_bytes
from ..errors import MissingExtra
from .container import MalformedFile

__all__ = ["Keyring", "Opener", "Sealer", "SecretKey"]

_MAGIC: Final = b"CDBE"
_FORMAT: Final = 1
_CIPHERS: Final = {"aes_256_gcm": 1, "chacha20_poly1305": 2}
_HEADER_BYTES: Final = 46
_SALT_BYTES: Final = 32
_TAG_BYTES: Final = 16
_MOST_FRAME: Final = 1024 * 1024 * 1024
_CONTEXT: Final = b"clusterdb.cache backup 1\0"


class SecretKey:
    """A configured key. Its id is derived from it one way."""

    def __init__(self, material: bytes) -> None:
        self._material = material
        self.id = self._derive(b"", b"key id", 8).hex()

    def file_key(self, salt: bytes, identity: str) -> bytes:
        """The key of one file."""
        return self._derive(salt, b"file\0" + identity.encode(), 32)

    def authenticate(self, data: bytes) -> str:
        """What shows that a manifest was written with this key."""
        return hmac.new(self._derive(b"", b"manifest", 32), data, "sha256").hexdigest()

    def _derive(self, salt: bytes, purpose: bytes, size: int) -> bytes:
        """HKDF-SHA256 (RFC 5869) for at most one block of output."""
        extracted = hmac.digest(salt or bytes(32), self._material, "sha256")
        return hmac.digest(extracted, _CONTEXT + purpose + b"\x01", "sha256")[:size]


class Keyring:
    """The keys of a configuration: the first encrypts, all are known."""

    def __init__(self, config: BackupEncryption | None) -> None:
        self.cipher = "" if config is None else config.cipher
        self._keys = [SecretKey(key_bytes(key)) for key in (() if config is None else config.keys)]

    @property
    def first(self) -> SecretKey | None:
        """What new backups are encrypted with."""
        return self._keys[0] if self._keys else None

    @property
    def ids(self) -> Sequence[str]:
        """The names of the keys."""
        return [key.id for key in self._keys]

    def find(self, key_id: str) -> SecretKey | None:
        """The key of that name."""
        return next((key for key in self._keys if key.id == key_id), None)


class Sealer:
    """Encrypts one file, a frame at a time."""

    def __init__(self, key: SecretKey, cipher: str, identity: str) -> None:
        salt = secrets.token_bytes(_SALT_BYTES)
        number = _CIPHERS[cipher]
        self._aead = _aead(number, key.file_key(salt, identity))
        self._frames = 0
        self.header = b"".join([_MAGIC, bytes([_FORMAT, number]), bytes.fromhex(key.id), salt])

    def seal(self, data: bytes, *, last: bool = False) -> bytes:
        """The next frame; ``last`` ends the file."""
        sealed: bytes = self._aead.encrypt(_nonce(self._frames, last), data, self.header)
        self._frames += 1
        return len(sealed).to_bytes(4, "big") + sealed


class Opener:
    """Decrypts one file that comes in pieces. Gives nothing that was not authenticated."""

    def __init__(self, key: SecretKey, identity: str) -> None:
        self._key, self._identity = key, identity
        self._aead: Any = None
        self._header = b""
        self._frames = 0
        self._ended = False
        self._waiting = bytearray()

    def feed(self, data: bytes) -> Iterable[bytes]:
        """The content of each frame that is whole with this piece. Raises
        :class:`MalformedFile`.
        """
        self._waiting += data
        if self._aead is None and not self._read_header():
            return
        while (frame := self._next()) is not None:
            yield self._open(frame)

    def end(self) -> None:
        """Nothing more comes: raises :class:`MalformedFile` where something should."""
        if self._waiting or not self._ended:
            raise MalformedFile("is truncated")

    def _read_header(self) -> bool:
        if len(self._waiting) < _HEADER_BYTES:
            return False
        header = bytes(self._waiting[:_HEADER_BYTES])
        if header[:4] != _MAGIC or header[4] != _FORMAT or header[5] not in _CIPHERS.values():
            raise MalformedFile("is not encrypted as this release does it")
        if header[6:14].hex() != self._key.id:
            raise MalformedFile("is encrypted with another key than its manifest says")
        self._aead = _aead(header[5], self._key.file_key(header[14:], self._identity))
        self._header = header
        del self._waiting[:_HEADER_BYTES]
        return True

    def _next(self) -> bytes | None:
        if len(self._waiting) < 4:
            return None
        size = int.from_bytes(self._waiting[:4], "big")
        if self._ended or not _TAG_BYTES <= size <= _MOST_FRAME:
            raise MalformedFile("has a damaged block")
        if len(self._waiting) < 4 + size:
            return None
        frame = bytes(self._waiting[4 : 4 + size])
        del self._waiting[: 4 + size]
        return frame

    def _open(self, frame: bytes) -> bytes:
        from cryptography.exceptions import InvalidTag

        for last in (False, True):
            try:
                data: bytes = self._aead.decrypt(_nonce(self._frames, last), frame, self._header)
            except InvalidTag:
                continue
            self._frames += 1
            self._ended = last
            return data
        raise MalformedFile("has a block that was damaged, moved or exchanged")


def _nonce(frame: int, last: bool) -> bytes:
    return frame.to_bytes(11, "big") + bytes([last])


def _aead(cipher: int, key: bytes) -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers import aead
    except ImportError as error:
        raise MissingExtra("an encrypted backup", "encryption") from error
    return aead.AESGCM(key) if cipher == 1 else aead.ChaCha20Poly1305(key)
