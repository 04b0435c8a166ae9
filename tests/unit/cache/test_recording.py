"""The log of a recording: a sample of keys, hashed."""

from collections import Counter

import pytest

from clusterdb.cache.recording import Log


def test_a_sample_holds_every_request_of_some_keys():
    log = Log(0.25)
    for _ in range(5):
        for number in range(4000):
            log.note(b"key:%d" % number)
    noted = log.take()
    seen = Counter(noted[at : at + 8] for at in range(0, len(noted), 8))

    assert set(seen.values()) == {5}
    assert len(seen) == pytest.approx(1000, abs=200)
    assert log.take() == b""


def test_two_recordings_can_not_be_compared():
    logs = [Log(1.0), Log(1.0)]
    for log in logs:
        log.note(b"key")
    first, second = [log.take() for log in logs]

    assert len(first) == len(second) == 8
    assert first != second
