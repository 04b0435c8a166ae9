"""Which build of the package is under test, and the mark of tests that need the pure one."""

import pytest

from clusterdb.cache import table

__all__ = ["COMPILED", "needs_pure"]

COMPILED = not str(table.__file__).endswith(".py")

needs_pure = pytest.mark.skipif(
    COMPILED,
    reason="patches a method of a hot module, or hands it a stand-in: a compiled one takes neither",
)
