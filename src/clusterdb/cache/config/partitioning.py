"""How keys are spread over several servers."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from .quantities import Items, preset
from .settings import Settings

__all__ = ["Consistent", "PartitioningConfig"]

Weight = Annotated[float, Meta(gt=0, le=16)]


class Consistent(Settings, frozen=True, kw_only=True, tag_field="type", tag="consistent"):
    """Consistent hashing: `replicas` copies of each key, `virtual_nodes` points a server.

    `weights` gives one number for each of the backend's URLs, in their order: a server of weight 2
    has twice the points, and so holds about twice the keys. None: all servers are alike.
    """

    replicas: Annotated[int, Meta(ge=1, le=16)] = 1
    virtual_nodes: Annotated[int, Meta(ge=1, le=65536)] = 256
    weights: Items[Weight] = preset(())


class PartitioningConfig(Settings, frozen=True, kw_only=True):
    """Which server holds which key."""

    strategy: Consistent = Consistent()
