"""Where the state of maintenance is: an entry of the backend itself, changed by compare-and-set.

It lies in a region of its own that no user can name, so every backend that commits by version keeps
it, with no code of its own. Whoever changes it reads it, decides, and stores the outcome if the
version is still the one that was read; else it begins again. A ring that keeps several copies
commits nothing, and so has no maintenance.

A lost cache loses the state with its entries: the next leader begins anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from ..codec import CodecId, Encoded, RegionCodec, region_codec
from ..config import SerializationConfig
from ..errors import BackendUnavailable, CacheError
from ..protocols import Backend, Put
from ..settings import MAINTENANCE, plain_region
from ..types import Version
from .state import MaintenanceState

__all__ = ["StateStore"]

_KEY: Final = "state"
_TRIES: Final = 30


class StateStore:
    """The state in ``backend``, which is configured for it by :meth:`configure`."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._encodes = "objects" not in backend.capabilities
        self._known: tuple[Version | None, MaintenanceState] | None = None

    def configure(self) -> None:
        """Make the region. Does no I/O."""
        codec: RegionCodec | None = None
        if self._encodes or "persistent" in self._backend.capabilities:
            codec = region_codec(MAINTENANCE, SerializationConfig(compression=False), None)
        self._backend.configure({MAINTENANCE: plain_region(MAINTENANCE, codec)})

    async def read(self) -> MaintenanceState:
        """The state as it is. One round trip. Raises :class:`BackendUnavailable`, and
        :class:`CacheError` for what another release made.
        """
        [record] = await self._backend.peek(MAINTENANCE, [_KEY])
        if record is None:
            self._known = None, MaintenanceState()
        else:
            self._known = record.version, _decoded(record.value)
        return self._known[1]

    async def update(
        self, change: Callable[[MaintenanceState], MaintenanceState]
    ) -> MaintenanceState:
        """Store what ``change`` makes of the state; what it raises goes on. One round trip, two
        more each time that somebody was faster. Raises as :meth:`read` does.
        """
        for _ in range(_TRIES):
            if self._known is None:
                await self.read()
            assert self._known is not None
            (version, state), self._known = self._known, None
            new = change(state)
            if new == state:
                self._known = version, state
                return state
            text = msgspec.json.encode(new)
            value = Encoded(text, CodecId.JSON) if self._encodes else text
            done = await self._backend.commit(MAINTENANCE, [(_KEY, version)], [Put(_KEY, value)])
            if done is not None:
                self._known = done.outcomes[0].version, new
                return new
        raise BackendUnavailable(
            f"the state of maintenance was changed by others {_TRIES} times while it was to be "
            f"changed here: try again"
        )


def _decoded(value: object) -> MaintenanceState:
    text = value.payload if isinstance(value, Encoded) else value
    if isinstance(value, CacheError):
        raise value
    try:
        assert isinstance(text, bytes)
        return msgspec.json.decode(text, type=MaintenanceState)
    except (AssertionError, msgspec.MsgspecError) as error:
        raise CacheError(
            f"the state of maintenance can't be read ({error}): another release of this library "
            f"uses the same cache; give all programs the same"
        ) from error
