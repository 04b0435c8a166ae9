"""Where another implementation of a policy exists, ours hits and misses as it does, each request.

``CLUSTERDB_TRACES`` may name a directory of traces (NAME.u32.gz) to compare on as well.
"""

import gzip
import os
from array import array
from importlib import resources
from itertools import count
from pathlib import Path

import pytest

from clusterdb.cache.guard import TableLock
from clusterdb.cache.policy import Arc, Fifo, Lfu, Lru, S3Fifo, Sieve, TwoQueue
from clusterdb.cache.table import Table
from clusterdb.cache.tags import TagStates
from clusterdb.cache.testing import validate_table
from clusterdb.cache.types import FOREVER, MISSING

REFERENCES = {
    "LRU": Lru,
    "FIFO": Fifo,
    "LFU": lambda: Lfu(ageing=False),
    "Sieve": Sieve,
    "ARC": Arc,
    "S3FIFO": S3Fifo,
    "TwoQ": TwoQueue,
}
SHIPPED = "orm-busy-200k.u32.gz"
ELSEWHERE = os.environ.get("CLUSTERDB_TRACES", "")
TRACES = [resources.files("clusterdb.cache") / "data" / SHIPPED]
TRACES += sorted(Path(ELSEWHERE).glob("*.u32.gz")) if ELSEWHERE else []


@pytest.mark.parametrize("trace", TRACES, ids=[trace.name for trace in TRACES])
@pytest.mark.parametrize("name", REFERENCES)
def test_each_request_hits_when_the_reference_does(name, trace):
    simulator = pytest.importorskip("libcachesim", reason="the reference has no build here")
    requests = array("I", gzip.decompress(trace.read_bytes()))
    requests = requests[:30_000] if trace.name == SHIPPED else requests
    keys = len(set(requests))
    for capacity in (20, keys // 50, keys // 5):
        theirs = hits_of_reference(simulator, name, capacity, requests)
        assert hits_of_ours(REFERENCES[name], capacity, requests) == theirs, f"at {capacity}"


def test_traces_from_elsewhere_were_compared():
    if not ELSEWHERE:
        pytest.skip(f"only {SHIPPED} was compared: CLUSTERDB_TRACES names no directory of others")
    assert len(TRACES) > 1, f"there is no *.u32.gz in CLUSTERDB_TRACES={ELSEWHERE}"


def hits_of_reference(simulator, name, capacity, requests):
    cache = getattr(simulator, name)(capacity, hashpower=16)
    request = simulator.Request()
    request.obj_size = 1
    hits = bytearray()
    for key in requests:
        request.obj_id = key + 1  # 0 is not an id
        hits.append(cache.get(request))
    return hits


def hits_of_ours(policy, capacity, requests):
    table = Table(lock=TableLock(), tags=TagStates(), versions=count(1), policy=policy(), now=0.0)
    table._residents.policy = policy()
    table.configure(table._residents.policy, capacity, None, 0.0)
    names = [str(key) for key in range(max(requests) + 1)]
    hits = bytearray()
    for key in requests:
        hit = table.get(names[key], 0.0) is not MISSING
        hits.append(hit)
        if not hit:
            table.put(names[key], None, deadline=FOREVER, weight=0, now=0.0)
    validate_table(table)
    return hits
