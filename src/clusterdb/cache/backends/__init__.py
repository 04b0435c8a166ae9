"""The Backend Store: one adapter a file, each an implementation of ``protocols.Backend``."""

from __future__ import annotations

__all__: list[str] = []
