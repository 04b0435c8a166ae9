"""Values between a command line and the cache.

What is written ``{"name": "Ada"}`` is meant as JSON, and what is written ``hello`` as text. A
number is one only if JSON would write it back the same: ``12`` is, and ``1.10``, ``1e5`` and
``007`` stay the text they are, so that ``get`` shows what ``set`` was given.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from clusterdb.cache import InvalidArgument

__all__ = ["given_value", "guessed"]


def given_value(argument: str | None, file: Path | None, *, as_text: bool, as_json: bool) -> Any:
    """The value of a command line: an argument, or the content of a file (``-``: stdin), which is
    bytes unless it is said to be text or JSON.
    """
    if (argument is None) == (file is None):
        raise InvalidArgument("give a value, or --file with one: one of the two")
    if as_text and as_json:
        raise InvalidArgument("--text and --json-value exclude each other: choose one")
    if argument is not None:
        return argument if as_text else _parsed(argument) if as_json else guessed(argument)
    content = _content(file or Path("-"))
    if not (as_text or as_json):
        return content
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidArgument(
            f"{file} is not UTF-8 text: byte {error.start} can't be decoded; "
            f"without --text and --json-value it is stored as bytes"
        ) from None
    return text if as_text else _parsed(text)


def _content(file: Path) -> bytes:
    try:
        return sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise InvalidArgument(f"{file} can't be read: {error.strerror}") from None


def guessed(text: str) -> Any:
    """What a person who wrote this means: JSON where it is some, else text."""
    try:
        found = _parsed(text)
    except InvalidArgument:
        return text
    number = isinstance(found, (int, float)) and not isinstance(found, bool)
    return text if number and json.dumps(found) != text else found


def _parsed(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refused)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"the value is not JSON: {error}") from None


def _refused(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")
