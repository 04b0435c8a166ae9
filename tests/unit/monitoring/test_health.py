"""What a report means for who probes a process."""

import pytest

from clusterdb.monitoring import Health, HealthCheck

OK, OPEN = HealthCheck("backend", "ok"), HealthCheck("cache", "ok")
SLOW = HealthCheck("latency", "degraded", "slow", "scale")
AWAY = HealthCheck("backend", "failing", "away", "start it")
CLOSED = HealthCheck("cache", "failing", "closed", "build a new one")


@pytest.mark.parametrize(
    ("checks", "status", "live", "ready"),
    [
        ((), "ok", True, True),
        ((OPEN, OK), "ok", True, True),
        ((OPEN, OK, SLOW), "degraded", True, True),
        ((OPEN, SLOW, AWAY), "failing", True, False),
        ((CLOSED,), "failing", False, False),
    ],
)
def test_the_probes_of_an_orchestrator(checks, status, live, ready):
    health = Health(checks)

    assert (health.status, health.live, health.ready) == (status, live, ready)


def test_what_is_wrong_is_told_worst_first():
    assert Health((OPEN, SLOW, AWAY, OK)).wrong == (AWAY, SLOW)
