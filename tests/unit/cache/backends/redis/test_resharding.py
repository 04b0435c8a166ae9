"""What a move of slots says when it fails; the moves themselves are in tests/maintenance."""

from clusterdb.cache.backends.redis.resharding import not_taken
from clusterdb.cache.errors import BackendUnavailable, ServerError
from clusterdb.cache.transport.clusternodes import ClusterNode
from clusterdb.cache.transport.slots import Address

TARGET = ClusterNode("id", Address("10.0.0.7", 6379), False, True, True, (), {}, {})


def test_a_target_that_was_lost_is_named():
    lost = not_taken(ServerError("IOERR error or timeout writing to target instance"), 83, TARGET)

    assert isinstance(lost, BackendUnavailable)
    assert "10.0.0.7:6379 took no keys of slot 83 (IOERR error or timeout" in str(lost)
    assert "start it" in str(lost)


def test_other_refusals_are_told_as_elsewhere():
    refused = not_taken(ServerError("NOPERM no permission to run migrate"), 83, TARGET)

    assert isinstance(refused, ServerError)
    assert refused.code == "NOPERM"
