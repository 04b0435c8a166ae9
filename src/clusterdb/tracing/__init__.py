"""Tracing for ClusterDB's components; a leaf that knows none of them."""

from .config import TracingConfig

__all__ = ["TracingConfig"]
