"""Bytes from a store that anybody may write to: a miss, never code, a crash or a wrong value."""

import pickle

import pytest
from tests.unit.cache.codec import fuzzing
from tests.unit.cache.codec.samples import codec

from clusterdb.cache import ConfigError, SerializationConfig
from clusterdb.cache.codec import CodecId, Encoded
from clusterdb.cache.errors import Undecodable

REGIONS = ["messagepack", "json", "raw"]


@pytest.fixture(autouse=True)
def canary(monkeypatch):
    monkeypatch.setattr(fuzzing, "caught", [])


def test_only_misses_and_mismatches_come_out_of_hostile_bytes():
    outcomes, longest = fuzzing.run(20_000)
    assert not fuzzing.caught
    assert outcomes["Undecodable"] > 10_000
    assert outcomes["value"] > 100  # changes that are valid bytes by themselves
    assert longest < 0.5


def test_the_canary_sings_where_pickles_are_trusted():
    pickle.loads(pickle.dumps(fuzzing.Canary()))
    assert fuzzing.caught


@pytest.mark.parametrize("name", REGIONS)
def test_a_pickle_is_never_executed_outside_a_region_of_pickles(name):
    payload = pickle.dumps(fuzzing.Canary())
    coded = codec(name)
    for number in (*CodecId, 200):
        encoded = Encoded(payload, number, 0)
        data = codec(name).seal("k", 1, encoded, expires_at=None, tags=())
        try:
            coded.decode(coded.unseal("k", data).encoded)
        except Undecodable:
            continue
        assert number in (CodecId.BYTES, CodecId.TEXT)  # as bytes, whatever they mean elsewhere
    assert not fuzzing.caught


def test_a_pickle_needs_a_good_signature():
    ours, theirs = codec("pickle"), codec("pickle", keys=["another key, of somebody else"])
    encoded = Encoded(pickle.dumps(fuzzing.Canary()), CodecId.PICKLE, 0)
    for forger in (theirs, codec()):
        data = forger.seal("k", 1, encoded, expires_at=None, tags=())
        with pytest.raises(Undecodable, match="signed"):
            ours.unseal("k", data)
    assert not fuzzing.caught


def test_pickle_without_a_key_is_a_config_error_that_names_the_setting():
    with pytest.raises(ConfigError, match="keys: format pickle") as caught:
        SerializationConfig(format="pickle")
    assert caught.value.path == "keys"
    with pytest.raises(ConfigError, match=r"keys\[0\]: a signing key has at least 16 bytes"):
        SerializationConfig(format="pickle", keys=["short"])


@pytest.mark.parametrize("keys", ["a secret of 16 bytes", ["a secret of 16 bytes", 5]])
def test_no_message_shows_a_key(keys):
    with pytest.raises(ConfigError) as caught:
        SerializationConfig(keys=keys)
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(SerializationConfig(keys=["a secret of 16 bytes"]))
