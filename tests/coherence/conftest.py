"""Runs start servers and processes: without the servers they are skipped."""

from __future__ import annotations

import pytest
from tests.redis.servers import missing


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    absent = missing()
    for item in items:
        if absent and item.path.name == "test_runs.py":
            item.add_marker(pytest.mark.skip(reason=f"not installed: {', '.join(absent)}"))
