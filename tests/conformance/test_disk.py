"""The disk backend keeps every clause of the contract, with its near tier and without it."""

from pathlib import Path

import pytest

from clusterdb.cache import Disk
from clusterdb.cache.backends.disk import DiskBackend
from clusterdb.cache.testing import EncodingBackend, ManualClock
from clusterdb.cache.testing.conformance import CLAUSES, TRAITS, Clause, Harness, run

NOT_OFFERED = {"weighers", "tag_counts", "objects", "immediate", "near"}


class DiskHarness(Harness):
    traits = TRAITS - {"weighers", "tag_counts"}

    def __init__(self, inner: DiskBackend, clock: ManualClock) -> None:
        super().__init__(EncodingBackend(inner), clock)
        self.inner = inner

    async def settle(self) -> None:
        await self.inner.tidy()


@pytest.mark.parametrize("near", [True, False], ids=["near", "far"])
@pytest.mark.parametrize("clause", CLAUSES, ids=lambda clause: clause.name)
async def test_the_disk_backend(clause: Clause, near: bool, tmp_path: Path):
    clock = ManualClock()
    config = Disk(path=tmp_path / "cache.db", near=near)
    harness = DiskHarness(DiskBackend(config, clock), clock)
    if not harness.offers(clause.needs):
        assert clause.needs & NOT_OFFERED
        pytest.skip("it weighs bytes, and does not count the entries of a tag")

    await run(clause, harness)
