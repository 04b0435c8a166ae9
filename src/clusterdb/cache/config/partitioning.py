"""How keys are spread over several servers."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from .settings import Settings

__all__ = ["Consistent", "PartitioningConfig"]


class Consistent(Settings, frozen=True, kw_only=True, tag_field="type", tag="consistent"):
    """Consistent hashing: `replicas` copies of each key, `virtual_nodes` points a server."""

    replicas: Annotated[int, Meta(ge=1, le=16)] = 1
    virtual_nodes: Annotated[int, Meta(ge=1, le=65536)] = 256


class PartitioningConfig(Settings, frozen=True, kw_only=True):
    """Which server holds which key."""

    strategy: Consistent = Consistent()
