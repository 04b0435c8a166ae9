"""Tracing for ClusterDB's components; a leaf that knows none of them.

``Tracer`` is imported when it is asked for: a program that traces nothing imports no more than the
settings.
"""

from typing import TYPE_CHECKING, Any

from .config import TracingConfig

if TYPE_CHECKING:
    from .tracer import Tracer

__all__ = ["Tracer", "TracingConfig"]


def __getattr__(name: str) -> Any:
    if name == "Tracer":
        from .tracer import Tracer

        return Tracer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
