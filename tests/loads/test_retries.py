"""A loader that raises is called again, as often as its region says, within its hard deadline."""

from __future__ import annotations

import pytest
from tests.loads.schedule import LoopClock, SeededLoop, run_seeded

from clusterdb.cache import Cache, CacheConfig, CacheRegion, LoadConfig, LoadTimeout, RegionStats


class Flaky:
    """A loader that raises so many times before it gives a value."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.calls = 0

    async def __call__(self) -> int:
        self.calls += 1
        if self.calls <= self.failures:
            raise OSError(f"failure {self.calls}")
        return self.calls


def played(loader: Flaky, **loads: object) -> tuple[object, RegionStats, float]:
    """What a call gives or raises, the figures, and the virtual seconds it took."""
    loop = SeededLoop(1)
    outcome: list[object] = []
    region = CacheRegion("default", loads=LoadConfig(**loads))  # type: ignore[arg-type]
    cache = Cache(CacheConfig(regions=(region,)), clock=LoopClock(loop))

    async def play() -> None:
        async with cache:
            began = loop.time()
            try:
                outcome.append(await cache.get_or_load("a", loader))
            except (OSError, LoadTimeout) as error:
                outcome.append(error)
            took = loop.time() - began
            outcome.extend([(await cache.get_statistics()).regions["default"], took])

    run_seeded(play(), loop)
    assert not loop.trouble
    value, figures, took = outcome
    assert isinstance(figures, RegionStats)
    assert isinstance(took, float)
    return value, figures, took


@pytest.mark.parametrize("failures", [0, 1, 3])
def test_it_is_called_until_it_gives_a_value(failures: int):
    loader = Flaky(failures)
    value, figures, took = played(loader, retries=3)
    assert value == loader.calls == failures + 1
    assert (figures.loads, figures.load_failures, figures.load_retries) == (
        failures + 1,
        failures,
        failures,
    )
    assert took <= 0.05 * (2**failures - 1)


def test_the_last_failure_is_raised():
    loader = Flaky(100)
    value, figures, _ = played(loader, retries=2)
    assert str(value) == "failure 3"
    assert (loader.calls, figures.load_retries) == (3, 2)


def test_it_is_not_called_again_where_there_is_no_time():
    loader = Flaky(100)
    value, _, took = played(loader, retries=100, hard_deadline="1s")
    assert isinstance(value, OSError)
    assert 3 < loader.calls < 30
    assert took <= 1.0


def test_without_retries_the_first_failure_is_raised():
    loader = Flaky(1)
    assert str(played(loader)[0]) == "failure 1"
    assert loader.calls == 1
