"""A call that is cancelled at any moment holds up nobody else."""

from __future__ import annotations

import asyncio

import pytest
from tests.redis.backends import flush, opened
from tests.redis.servers import Deployment
from tests.write_modes.world import until

from clusterdb.cache.claims import Claim
from clusterdb.cache.protocols import Put

LEASE = 600.0


@pytest.mark.parametrize("tags", [(), ("t",)])
@pytest.mark.parametrize("turns", range(4))
async def test_a_fill_that_is_cancelled_gives_its_claim_back(
    standalone: Deployment, tags: tuple[str, ...], turns: int
):
    """Also where it was not sent yet: who loads next waits for no lease."""
    flush(standalone)
    async with opened(standalone) as backend, opened(standalone) as other:
        [claim] = await backend.claim("main", ["k"], tags, LEASE)
        assert isinstance(claim, Claim)
        fill = asyncio.create_task(backend.fill("main", [(claim, Put("k", 1, tags=tags))]))
        for _ in range(turns):
            await asyncio.sleep(0)
        fill.cancel()
        await asyncio.wait({fill})
        if not turns:  # it never began, and its caller still has the claim
            await backend.release("main", [claim])

        async def free() -> bool:
            return (await other.claim("main", ["k"], tags, LEASE))[0] is not None

        await until(free, "the claim is given back")
