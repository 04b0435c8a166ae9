"""Where several processes run the tests, those that start servers or build keep to one of them."""

import pytest


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("server") or item.get_closest_marker("build"):
            item.add_marker(pytest.mark.xdist_group("servers"))
