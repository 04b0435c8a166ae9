"""``cache demo``: a tour of the cache on real data. Every number is measured in the run.

The slow origin is the standard library: reading and analysing one of its modules takes
milliseconds. Requests come in the order of a real trace. Each chapter is one file: what it
measures, and how it shows that.
"""

from __future__ import annotations

from .command import demo

__all__ = ["demo"]
