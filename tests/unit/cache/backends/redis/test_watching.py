"""What a look at the servers tells, compared with the look before."""

import pytest

from clusterdb.cache.backends.redis.watching import changes
from clusterdb.cache.protocols import RemoteChange

LEFT = "it holds no entries any more"


@pytest.mark.parametrize(
    ("known", "seen", "told"),
    [
        ({}, {}, []),
        ({"a": ""}, {"a": ""}, []),
        ({"a": ""}, {"a": "refused"}, [("node_down", "a", "refused")]),
        ({"a": "refused"}, {"a": "timed out"}, []),
        ({"a": "refused"}, {"a": ""}, [("node_up", "a", "")]),
        ({"a": ""}, {"a": "", "b": ""}, [("node_up", "b", "")]),
        ({"a": ""}, {"a": "", "b": "refused"}, [("node_down", "b", "refused")]),
        ({"a": "refused"}, {"b": ""}, [("node_up", "b", "")]),
        ({"a": ""}, {"b": ""}, [("node_down", "a", LEFT), ("node_up", "b", "")]),
    ],
)
def test_what_is_told(known, seen, told):
    expected = [RemoteChange(kind, key=name, time=5.0, text=text) for kind, name, text in told]
    assert list(changes(known, seen, 5.0)) == expected
