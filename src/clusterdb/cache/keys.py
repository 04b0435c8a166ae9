r"""Keys and patterns: which strings are keys, and which keys a glob matches.

A key is any non-empty Unicode string whose UTF-8 form has at most 65,536 bytes. Nothing in it is
special: control characters, globs and braces are plain characters. Lone surrogates have no UTF-8
form and are refused.

A glob is Redis's: ``*`` any run, ``?`` one character, ``[abc]`` ``[a-z]`` ``[^a]`` a class, ``\``
takes the next character literally. It is compiled into a regular expression whose runs are atomic
groups, so that matching is O(len(key) * len(glob)) for any input.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final

from .errors import InvalidArgument, InvalidKey, InvalidPattern

__all__ = ["MAX_KEY_BYTES", "check_key", "check_keys", "escape_glob", "matcher", "shown"]

MAX_KEY_BYTES: Final = 65_536
_MAX_GLOB: Final = 4_096
_SHOWN: Final = 60
_SHOWN_BITS: Final = 1_024


def check_key(key: object) -> str:
    """Return ``key`` as an exact ``str``, or raise :class:`InvalidKey` with the rule it breaks."""
    if not isinstance(key, str):
        raise InvalidKey(f"a key is a str, not {type(key).__name__} {shown(key)}")
    text = key if type(key) is str else str.__str__(key)
    if not text:
        raise InvalidKey("a key can't be empty")
    if text.isascii():
        size = len(text)
    else:
        try:
            size = len(text.encode())
        except UnicodeEncodeError as error:
            raise InvalidKey(
                f"key {shown(text)} holds a lone surrogate at {error.start}: it has no UTF-8 form"
            ) from None
    if size > MAX_KEY_BYTES:
        raise InvalidKey(
            f"key {shown(text)} is {size} bytes of UTF-8, over the limit of {MAX_KEY_BYTES}; "
            f"store a digest of it instead"
        )
    return text


def check_keys(keys: Iterable[object]) -> list[str]:
    """The keys, each checked and each once, in order."""
    if isinstance(keys, str):
        raise InvalidArgument(f"keys is a collection of str: write [{shown(keys)}]")
    if not isinstance(keys, Iterable):
        raise InvalidArgument(f"keys is a collection of str, not {shown(keys)}")
    return list(dict.fromkeys([check_key(key) for key in keys]))


def shown(value: object) -> str:
    """A value for a message: short, and whatever its own ``__repr__`` does."""
    if isinstance(value, int) and value.bit_length() > _SHOWN_BITS:
        return f"an int of {value.bit_length()} bits"
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a message must not fail because of what it is about
        return f"a {type(value).__name__}"
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def escape_glob(text: str) -> str:
    """``text`` as a glob that matches only itself."""
    return re.sub(r"([*?\[\]\\^])", r"\\\1", text)


def matcher(glob: object) -> Callable[[str], bool]:
    """A function that says whether a key matches ``glob``."""
    if not isinstance(glob, str):
        raise InvalidPattern(f"a pattern is a str, not {type(glob).__name__}")
    return _matcher(str.__str__(glob))


@lru_cache(maxsize=256)
def _matcher(glob: str) -> Callable[[str], bool]:
    if not glob:
        raise InvalidPattern("a pattern can't be empty; '*' matches every key")
    if len(glob) > _MAX_GLOB:
        raise InvalidPattern(f"a pattern has at most {_MAX_GLOB} characters, not {len(glob)}")
    if glob.strip("*") == "":
        return _anything
    full = re.compile(_regex(glob), re.DOTALL).fullmatch
    return lambda key: full(key) is not None


def _anything(key: str) -> bool:
    del key
    return True


def _regex(glob: str) -> str:
    """Pieces between runs; each run before the last is taken as short as possible, for good."""
    pieces: list[str] = [""]
    at = 0
    while at < len(glob):
        char = glob[at]
        at += 1
        if char == "*":
            if len(pieces) == 1 or pieces[-1]:
                pieces.append("")
        elif char == "?":
            pieces[-1] += "."
        elif char == "[":
            piece, at = _char_class(glob, at)
            pieces[-1] += piece
        elif char == "\\":
            if at == len(glob):
                raise InvalidPattern(f"pattern {glob!r} ends in a backslash: double it")
            pieces[-1] += re.escape(glob[at])
            at += 1
        else:
            pieces[-1] += re.escape(char)
    if len(pieces) == 1:
        return pieces[0]
    first, *middle, last = pieces
    return first + "".join(f"(?>.*?{piece})" for piece in middle if piece) + ".*" + last


def _char_class(glob: str, start: int) -> tuple[str, int]:
    """The regular expression of the class that opens before ``start``, and where it ends."""
    at, negated, items = start, False, ""
    if glob[at : at + 1] == "^":
        at, negated = at + 1, True
    while at < len(glob) and glob[at] != "]":
        low, at = _class_char(glob, at)
        if glob[at : at + 1] == "-" and glob[at + 1 : at + 2] not in ("", "]"):
            high, at = _class_char(glob, at + 1)
            low, high = min(low, high), max(low, high)
            items += f"{re.escape(low)}-{re.escape(high)}"
        else:
            items += re.escape(low)
    if at >= len(glob):
        raise InvalidPattern(
            f"pattern {glob!r} opens a class at {start - 1} and never closes it; "
            f"write \\[ for the character"
        )
    if not items:
        return ("." if negated else r"(?!)"), at + 1
    return f"[{'^' if negated else ''}{items}]", at + 1


def _class_char(glob: str, at: int) -> tuple[str, int]:
    if glob[at] == "\\" and at + 1 < len(glob):
        at += 1
    return glob[at], at + 1
