"""The near tier by itself: its settings change while it works."""

import pytest

from clusterdb.cache.codec import Encoded
from clusterdb.cache.near import NearTier
from clusterdb.cache.settings import NearSettings
from clusterdb.cache.types import FOREVER, Record


def settings(policy: str = "lru", items: int = 10) -> NearSettings:
    return NearSettings(max_items=items, max_weight=None, max_staleness=1.0, policy=policy)


def keep(tier: NearTier, *keys: str) -> None:
    for key in keys:
        tier.table("r").put(key, key, deadline=FOREVER, weight=1, now=0.0)


@pytest.mark.parametrize("counted", [False, True])
def test_uses_are_told_on_after_new_limits(counted):
    tier = NearTier(0.0)
    tier.add("r", settings(), counted=counted)
    tier.renew(0.0)
    keep(tier, "a", "b")
    tier.used("r")
    tier.add("r", settings(items=20), counted=counted)
    tier.table("r").get("b", 0.5)

    assert tier.used("r") == {"b": 1}


def test_a_policy_can_be_changed_for_another_that_counts_too():
    tier = NearTier(0.0)
    tier.add("r", settings("lfu"), counted=True)
    tier.renew(0.0)
    keep(tier, "a", "b", "c")
    tier.add("r", settings("fifo", 3), counted=True)
    tier.sweep(0.0, 10)
    for _ in range(5):
        tier.table("r").get("a", 0.5)
    keep(tier, "d")

    assert sorted(tier.table("r").keys()) == ["b", "c", "d"]
    assert tier.used("r") == {"a": 5}


def test_a_read_under_way_keeps_nothing_once_its_region_was_off():
    tier = NearTier(0.0)
    tier.add("r", settings(), counted=False)
    tier.renew(0.0)
    claim = tier.mark("r", "k", "server", 0.0)
    tier.add("r", None, counted=False)
    tier.drop("r", "k", 0.1)  # a write of the key, while the region is off
    tier.add("r", settings(), counted=False)
    tier.renew(0.2)
    record = Record("k", Encoded(b"old", 1), 1, None, (), "redis", near=(claim, FOREVER))
    tier.keep("r", record, "old", 0.3)

    assert tier.read("r", "k", 0.3) is None


def test_a_region_that_is_off_gives_no_right_to_keep():
    tier = NearTier(0.0)
    tier.add("r", None, counted=False)

    assert tier.mark("r", "k", "server", 0.0) is None
    assert tier.claim("r", "k", 1, (), 0.0) is None
    tier.drop("nobody's", "k", 0.0)  # of a region that another process has
