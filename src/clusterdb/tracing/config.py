"""Settings of tracing. A leaf: it knows no cache. A wrong value raises `ValueError`."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

__all__ = ["TracingConfig"]


class TracingConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How spans are made.

    `sampling_rate`: the share of operations that get a span, 0 to 1, where no caller's span has
    decided. `context_propagation`: spans join the caller's trace.
    """

    service_name: str = "cache"
    sampling_rate: Annotated[float, Meta(ge=0, le=1)] = 1.0
    context_propagation: bool = True

    def __post_init__(self) -> None:
        """Check the settings, also those given in code."""
        name: Any = self.service_name
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"service_name: expected a name, got {name!r}")
        rate: Any = self.sampling_rate
        if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 <= rate <= 1:
            raise ValueError(f"sampling_rate: expected 0 to 1, got {rate!r}")
        switch: Any = self.context_propagation
        if not isinstance(switch, bool):
            raise ValueError(f"context_propagation: expected True or False, got {switch!r}")
