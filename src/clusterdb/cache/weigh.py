"""How much an entry weighs: a cheap estimate in bytes.

``weigh(key, value)`` adds the interpreter's own size of the key, of the value and of what the
value holds, and a fixed cost of the table's bookkeeping. It looks at most four levels deep, and at
32, 8, 4 and 2 members of a container at each level; the rest of a large container is taken to be
like the members seen. So it costs at most some 3,400 looks, is exact for flat values and an
estimate for large ones. An object that two values share is counted in both. A region's own
``weigher`` replaces it.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable
from itertools import chain, islice
from typing import Final, TypeAlias

from .attributes import attributes
from .errors import InvalidArgument

__all__ = ["MAX_WEIGHT", "OVERHEAD", "Weigher", "checked", "weigh"]

Weigher: TypeAlias = Callable[[str, object], int]
"""Gives the weight of a key and its value: an int from 1 to 2**62."""

OVERHEAD: Final = 240
"""Bytes of a resident entry beside its key and value: record, index slot, policy links."""

MAX_WEIGHT: Final = 2**62
_SAMPLES: Final = (2, 4, 8, 32)
"""How many members are looked at where so many levels are left."""

_FLAT: Final = frozenset({str, bytes, int, float, bool, complex, type(None), bytearray})
_HOLDERS: Final = (list, tuple, set, frozenset, deque)


def weigh(key: str, value: object) -> int:
    """Estimated bytes of an entry in this process."""
    return OVERHEAD + sys.getsizeof(key) + _size(value, len(_SAMPLES))


def _size(value: object, depth: int) -> int:
    size = sys.getsizeof(value)
    if type(value) in _FLAT or not depth:
        return size
    if isinstance(value, dict):
        members: Iterable[object] = chain.from_iterable(value.items())
        count = 2 * len(value)
    elif isinstance(value, _HOLDERS):
        members, count = value, len(value)
    else:
        fields = [field for _, field in attributes(value)]
        members, count = fields, len(fields)
    seen = [_size(member, depth - 1) for member in islice(members, _SAMPLES[depth - 1])]
    return size + sum(seen) * count // len(seen) if seen else size


def checked(weigher: Weigher, key: str, value: object) -> int:
    """The weight by a user's function, or :class:`InvalidArgument` naming what it gave."""
    try:
        weight = weigher(key, value)
    except Exception as error:
        raise InvalidArgument(f"the value of key {key!r} can't be weighed: {error}") from error
    if isinstance(weight, bool) or not isinstance(weight, int) or not 1 <= weight <= MAX_WEIGHT:
        raise InvalidArgument(
            f"the weigher gave {weight!r} for key {key!r}: a weight is an int from 1 to 2**62"
        )
    return weight
