"""What must not be shown: passwords in settings, in URLs and in the text of errors.

Every message and every ``repr`` of the configuration passes through here. When in doubt more is
hidden than needed: up to the last ``@`` after ``://`` everything counts as credentials.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

__all__ = ["MASK", "masked", "shown"]

MASK: Final = "***"

_CREDENTIALS: Final = re.compile(r"(?<=://).*@", re.DOTALL)
_QUERY_SECRET: Final = re.compile(r"((?:password|passwd|secret|token)=)[^&\s'\"]*", re.IGNORECASE)


def masked(text: str) -> str:
    """Return `text` without the credentials of the URL it holds, if it holds one."""
    if "://" in text:
        text = _CREDENTIALS.sub(f"{MASK}@", text)
    return _QUERY_SECRET.sub(rf"\g<1>{MASK}", text)


def shown(value: object, *, secret: bool = False) -> str:
    """Return `value` as an error message may show it: masked, short, containers by kind only."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, (list, tuple, set, frozenset)):
        return f"a list of {len(value)}"
    if secret:
        return MASK
    if isinstance(value, (str, int, float, bytes)):
        text = masked(repr(value)) if not _huge(value) else "a very large int"
        return text if len(text) <= 80 else f"{text[:77]}..."
    return f"a {type(value).__name__}"


def _huge(value: object) -> bool:
    """Return whether repr would refuse: Python limits the digits of an int turned into text."""
    return isinstance(value, int) and value.bit_length() > 4096
