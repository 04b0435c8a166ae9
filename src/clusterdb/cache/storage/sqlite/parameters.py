"""Parameters of statements that have as many as there are keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["padded"]


def padded(values: Sequence[Any]) -> list[Any]:
    """Values with the last repeated until they are a power of two, so that statements with as many
    parameters are of a few lengths, which the connection remembers.
    """
    return [*values, *[values[-1]] * ((1 << (len(values) - 1).bit_length()) - len(values))]
