"""Assertions of the suite are rewritten by pytest, so that a failure shows the values."""

import pytest

pytest.register_assert_rewrite("clusterdb.cache.testing.storage")
