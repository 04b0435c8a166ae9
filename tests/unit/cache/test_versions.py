"""Versions: they grow, by the clock and by what was seen."""

from itertools import islice

from clusterdb.cache.testing import ManualClock
from clusterdb.cache.versions import Versions


def test_an_iterator_gives_what_is_drawn():
    versions = Versions(ManualClock())
    drawn = [next(versions), versions.draw(), *islice(versions, 2)]

    assert all(type(version) is int for version in drawn)
    assert drawn == sorted(set(drawn))
