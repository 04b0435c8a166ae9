"""The names of keys on a server, and back.

An entry is ``{name}:{region}:{key}``, the nonce of a tag ``{name}:#tag:{tag}``, that of a region
``{name}:#region:{region}``. Names of caches and regions have no ``:``, ``#`` or ``{``, so no two of
these are equal, and a ``{tag}`` in a user's key decides alone on the slot.
``docs/reference/redis-keys.md`` says the same for other languages.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ...keys import escape_glob

__all__ = ["REGION", "TAG", "Names"]

TAG: Final = "#tag"
REGION: Final = "#region"
_GLOB: Final = frozenset("*?[\\")
_TRIES: Final = 50_000
_OF_A_MOVE: Final = frozenset({b"#wishes", b"#taken", b"#taking"})
_OF_A_SERVER: Final = _OF_A_MOVE | {b"#placement", b"#wait", b"#maintenance"}


class Names:
    """The names of one cache, which is called ``cache``."""

    def __init__(self, name: str) -> None:
        self._name = self.cache = name
        self._prefixes: dict[str, str] = {}

    def prefix(self, region: str) -> str:
        """What every entry of a region begins with."""
        prefix = self._prefixes.get(region)
        if prefix is None:
            prefix = self._prefixes[region] = f"{self._name}:{region}:"
        return prefix

    def entry(self, region: str, key: str) -> bytes:
        """The name of an entry."""
        return (self.prefix(region) + key).encode()

    def tag(self, tag: str) -> bytes:
        """The name of a tag's nonce."""
        return f"{self._name}:{TAG}:{tag}".encode()

    def region(self, region: str) -> bytes:
        """The name of a region's nonce."""
        return f"{self._name}:{REGION}:{region}".encode()

    def index(self, region: str, shard: int) -> list[bytes]:
        """The names of one shard of a region's index, in one slot."""
        prefix = f"{self._name}:#index:{{{region}:{shard}}}:"
        return [(prefix + part).encode() for part in ("order", "weight", "ends")]

    def pending(self, shard: int) -> bytes:
        """The name of one shard of what is to be written behind."""
        return f"{self._name}:#pending:{shard}".encode()

    @property
    def aside(self) -> bytes:
        """The name of what was to be written behind, and was refused."""
        return f"{self._name}:#aside".encode()

    @property
    def sweeper(self) -> bytes:
        """The name of the lock of who keeps regions within their limits."""
        return f"{self._name}:#sweeper".encode()

    @property
    def members(self) -> bytes:
        """The name of what the processes of the cache say of themselves."""
        return f"{self._name}:#members".encode()

    @property
    def placement(self) -> bytes:
        """The name under which each server of a ring keeps what places the keys."""
        return f"{self._name}:#placement".encode()

    @property
    def wishes(self) -> bytes:
        """The name of the list of keys that are wanted on another server of a ring."""
        return f"{self._name}:#wishes".encode()

    def taken(self, name: bytes) -> bytes:
        """The name of the mark in the place of a key that another server has taken over."""
        return f"{self._name}:#taken:".encode() + name

    def taking(self, name: bytes) -> bytes:
        """The name of the copy of a key before it is taken over."""
        return f"{self._name}:#taking:".encode() + name

    def moves(self, name: bytes) -> bool:
        """Whether a name that this cache may have given moves with the weights of a ring: all but
        what is about one server, and what those agree by who move keys.
        """
        kind, _, rest = name[len(self._name) + 1 :].partition(b":")
        return kind not in _OF_A_SERVER and (kind.startswith(b"#") or bool(rest))

    def is_entry(self, name: bytes) -> bool:
        """Whether a name of this cache is that of an entry, if a value of ours is there."""
        return not name[len(self._name) + 1 :].startswith(b"#")

    def of_a_move(self, name: bytes) -> bool:
        """Whether only a move of keys has given a name of this cache."""
        return name[len(self._name) + 1 :].partition(b":")[0] in _OF_A_MOVE

    def marked(self, name: bytes) -> bytes | None:
        """The key that a mark stands for; ``None`` for any other name."""
        mark = self.taken(b"")
        return name[len(mark) :] if name.startswith(mark) else None

    @property
    def everything(self) -> str:
        """A server's glob that matches all names of this cache."""
        return escape_glob(f"{self._name}:") + "*"

    def parts(self, name: bytes) -> tuple[str, str] | None:
        """Region and key of an entry's name; ``None`` for another name."""
        try:
            _, region, key = name.decode().split(":", 2)
        except ValueError:
            return None
        return None if region.startswith("#") or not key else (region, key)

    def meaning(self, name: bytes) -> tuple[str, str] | None:
        """What a name of this cache stands for: ``("#tag", tag)``, ``("#region", region)``, or a
        region and a key of it; ``None`` for any other name.
        """
        try:
            mine, kind, rest = name.decode().split(":", 2)
        except ValueError:
            return None
        if mine != self._name or (kind.startswith("#") and kind not in (TAG, REGION)):
            return None
        return kind, rest

    def marker(self, fits: Callable[[bytes], bool]) -> bytes | None:
        """A name of ours that ``fits``: one that a certain server holds; ``None`` if none does."""
        for number in range(_TRIES):
            name = f"{self._name}:#wait:{number}".encode()
            if fits(name):
                return name
        return None

    def pattern(self, region: str, glob: str = "*") -> str:
        """A server's glob that matches at least the entries whose keys match ``glob``.

        Only the literal beginning of ``glob`` is used: a server counts bytes where we count
        characters.
        """
        literal = ""
        for char in glob:
            if char in _GLOB:
                return escape_glob(self.prefix(region) + literal) + "*"
            literal += char
        return escape_glob(self.prefix(region) + literal)

    def key(self, region: str, name: bytes) -> str | None:
        """The key of an entry's name; ``None`` for a name that is none of ours."""
        prefix = self.prefix(region).encode()
        if not name.startswith(prefix) or len(name) == len(prefix):
            return None
        try:
            return name[len(prefix) :].decode()
        except UnicodeDecodeError:
            return None
