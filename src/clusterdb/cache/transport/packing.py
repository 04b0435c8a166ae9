"""Commands as bytes: arrays of bulk strings, as RESP has them.

hiredis's own ``pack_command`` prints lengths with ``vsprintf``, which is most of what it does for a
short command. Here they come from a table, and words of commands ready made; compiled, that takes
a third of the time. What is not text, bytes or an int is left to hiredis.

Source: the Redis serialization protocol specification, "Sending commands to a Redis server".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias, cast

from hiredis import pack_command

__all__ = ["Command", "pack"]

Command: TypeAlias = tuple[str | bytes | int | float, ...]
"""A command and its arguments; text goes as UTF-8, numbers as text."""

_pack_any: Final = cast("Callable[[Command], bytes]", pack_command)
_END: Final = b"\r\n"
_COUNTS: Final = [b"*%d\r\n" % count for count in range(16)]
_SIZES: Final = [b"$%d\r\n" % size for size in range(512)]
_WORDS: Final[dict[str, bytes]] = {
    word: b"$%d\r\n%b\r\n" % (len(word), word.encode())
    for word in ("GET", "PTTL", "SET", "PX", "EVALSHA", "")
}


def pack(command: Command) -> bytes:
    """The bytes of a command."""
    count = len(command)
    parts: list[bytes] = [_COUNTS[count] if count < len(_COUNTS) else b"*%d\r\n" % count]
    for each in command:
        if type(each) is bytes:
            data = each
        elif type(each) is str:
            word = _WORDS.get(each)
            if word is not None:
                parts.append(word)
                continue
            data = each.encode()
        elif type(each) is int:
            data = b"%d" % each
        else:
            return _pack_any(command)
        size = len(data)
        parts.append(_SIZES[size] if size < len(_SIZES) else b"$%d\r\n" % size)
        parts.append(data)
        parts.append(_END)
    return b"".join(parts)
