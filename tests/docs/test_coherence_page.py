"""The comparison of near caches is the one that was measured."""

import json

import pytest
from tests.unit.benchmarks.scripts import BENCHMARKS, script

PEERS = script("nearcache_peers")


def test_the_page_holds_what_the_result_gives():
    path = BENCHMARKS / "results" / "nearcache_peers.json"
    result = json.loads(path.read_text(encoding="utf-8"))
    page = PEERS.PAGE.read_text(encoding="utf-8")
    again = "run: python benchmarks/nearcache_peers.py --document"
    assert page == PEERS.placed(page, PEERS.document(result)), again


def test_a_library_is_a_row_and_ours_stands_out():
    result = {
        "tables": [{"header": ["", "clusterdb 1", "peer 2"], "rows": [["good", "0 ms", "9 ms"]]}],
        "environment": {"python": "P", "machine": "M", "date": "D", "commit": "C"},
        "settings": {"notes": {"peer": "near=True"}, "left out": ["other is not installed"]},
    }
    text = PEERS.document(result)
    assert "| **clusterdb 1** | 0 ms |" in text
    assert "| peer 2 | 9 ms |" in text
    assert "peer: `near=True`" in text
    assert "Left out: other is not installed." in text


@pytest.mark.parametrize(
    ("found", "text"),
    [
        ({"stale": 0.0, "ended": True}, "0 ms"),
        ({"stale": 1.5, "ended": True}, "1,500 ms"),
        ({"stale": 29.9, "ended": False}, "still stale after 30 s"),
        ({"wrong": 0, "of": 100}, "ok"),
        ({"wrong": 5, "of": 100}, "5 wrong"),
        ({"loads": 1, "served": 49, "of": 49}, "1 load, 49 of 49 served"),
        ({"asked": 0.0}, "0%"),
        ({"none": True}, "no loads"),
    ],
)
def test_a_cell(found, text):
    assert PEERS.shown(found, 30.0) == text
