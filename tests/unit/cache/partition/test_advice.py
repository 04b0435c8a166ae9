"""What a Redis Cluster makes of settings that are a ring's."""

from __future__ import annotations

import pytest

from clusterdb.cache.config import Consistent
from clusterdb.cache.partition import cluster_problems


def test_nothing_to_say_where_nothing_was_configured():
    assert cluster_problems(Consistent(), 1) == ()


def test_too_few_copies_and_unused_settings_are_said():
    strategy = Consistent(replicas=3, virtual_nodes=512, weights=[1, 2])
    copies, points, weights = cluster_problems(strategy, 2)

    assert "replicas is 3, but the cluster keeps 2" in copies
    assert "2 replicas" in copies
    assert "virtual_nodes (512) is unused" in points
    assert "weights is unused" in weights


@pytest.mark.parametrize("copies", [3, 4])
def test_enough_copies_are_no_problem(copies):
    [problem] = cluster_problems(Consistent(replicas=3), copies)
    assert "virtual_nodes" in problem
