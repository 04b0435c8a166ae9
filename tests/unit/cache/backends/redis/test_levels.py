"""An answer counts only if nothing was invalidated again while it was on its way."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.builds import needs_pure

from clusterdb.cache.backends.redis.levels import Levels
from clusterdb.cache.claims import Claim
from clusterdb.cache.testing.conformance.harness import region_settings
from clusterdb.cache.types import Record

pytestmark = needs_pure


class Primary:
    """A server that is replaced while it answers, ``replaced`` times, and lacked an invalidation
    before.
    """

    def __init__(self, replaced: int) -> None:
        self.replaced = replaced
        self.moment = 0
        self.due = False
        self.calls = 0

    def _answer(self) -> str:
        self.calls += 1
        if self.calls > self.replaced:
            return "new"
        self.moment += 1  # done again, from begin to end, before the reply came
        return "old"

    async def repeat(self) -> None:
        """Nothing is due any more."""

    async def read(self, region: str, keys: Sequence[str], **how: Any) -> list[Record | None]:
        value = self._answer()
        return [Record(key, value, 1, None, (), "redis") for key in keys]

    async def claim(
        self, region: str, keys: Sequence[str], tags: tuple[str, ...], lease: float
    ) -> list[Record | Claim | None]:
        value = self._answer()
        return [Record("k", value, 1, None, (), "redis"), Claim("absent", ())]


def levels(primary: Primary) -> Levels:
    confirming = SimpleNamespace(needed=False)
    nearby = SimpleNamespace(
        read=lambda region, keys, *_: primary.read(region, keys), release=lambda *_: None
    )
    link = SimpleNamespace(deadline=lambda: 1.0)
    claiming = SimpleNamespace(claims=False, claim=primary.claim)
    parts: list[Any] = [link, None, primary, nearby, confirming, primary, claiming, None]
    parts.append({"r": region_settings("r")})
    return Levels(*parts)


@pytest.mark.parametrize("consistent", [False, True], ids=["near", "consistent"])
@pytest.mark.parametrize("replaced", [0, 1, 3])
async def test_a_read_is_made_anew_until_nothing_came_between(replaced, consistent):
    primary = Primary(replaced)
    how = {"stale": False, "consistent": consistent, "brief": False}
    [record] = await levels(primary).read("r", ["k"], **how)

    assert (cast("Record", record).value, primary.calls) == ("new", replaced + 1)


async def test_a_claim_gives_no_record_that_may_lack_an_invalidation():
    settled, claim = await levels(Primary(0)).claim("r", ["k", "absent"], (), 1.0)
    assert isinstance(settled, Record)
    assert isinstance(claim, Claim)


async def test_a_claim_that_was_taken_stays():
    primary = Primary(1)
    record, claim = await levels(primary).claim("r", ["k", "absent"], (), 1.0)
    assert record is None
    assert isinstance(claim, Claim)
