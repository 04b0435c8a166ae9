"""Which keys a cache remembers from one run to the next."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from .quantities import FilePath
from .settings import Settings

__all__ = ["WarmStart"]


class WarmStart(Settings, frozen=True, kw_only=True):
    """Write the hottest keys of each region, at most `max_keys`, to the file `path` when the cache
    is closed in order; ``await cache.warm()`` reads them again in the next run.
    """

    path: FilePath
    max_keys: Annotated[int, Meta(ge=1)] = 10_000
