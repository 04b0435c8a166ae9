"""What of the partitioning settings a Redis Cluster, which places keys itself, does not follow."""

from __future__ import annotations

from ..config import Consistent

__all__ = ["cluster_problems"]

_UNSET = Consistent()


def cluster_problems(strategy: Consistent, copies: int) -> tuple[str, ...]:
    """Sentences for a person, none where nothing was configured.

    ``copies`` is on how many servers the cluster keeps the slot that has the fewest, its primary
    counted.
    """
    if strategy == _UNSET:
        return ()
    problems = []
    if copies < strategy.replicas:
        problems.append(
            f"partitioning.strategy.replicas is {strategy.replicas}, but the cluster keeps "
            f"{copies} of some keys: give each primary {strategy.replicas - 1} replicas "
            "(redis-cli --cluster add-node ... --cluster-slave), or lower the setting"
        )
    problems.append(
        f"partitioning.strategy.virtual_nodes ({strategy.virtual_nodes}) is unused: a Redis "
        "Cluster places keys by its slots; leave it out"
    )
    if strategy.weights:
        problems.append(
            "partitioning.strategy.weights is unused: a Redis Cluster places keys by its slots; "
            "redis-cli --cluster rebalance --cluster-weight moves them"
        )
    return tuple(problems)
