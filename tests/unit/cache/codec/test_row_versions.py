"""The version of a row behind the payload of its copy."""

from __future__ import annotations

import pytest

from clusterdb.cache.codec import Encoded, region_codec, stamped, unstamped
from clusterdb.cache.config import Compression, SerializationConfig
from clusterdb.cache.errors import Undecodable

CODEC = region_codec("r", SerializationConfig(), Compression(min_size=10))


@pytest.mark.parametrize("value", [1, "text", {"n": [1, 2]}, "x" * 1000, b""])
@pytest.mark.parametrize("version", [1, 2**63 - 1])
def test_a_copy_gives_back_value_and_version(value: object, version: int):
    encoded = CODEC.encode(value)
    copy = stamped(encoded, version)
    assert unstamped(copy) == (encoded, version)
    assert CODEC.decode(copy) == value, "a region that has no storage any more can't read it"
    sealed = CODEC.seal("k", 7, copy, expires_at=None, tags=())
    assert CODEC.unseal("k", sealed).encoded == copy


def test_what_is_no_copy_has_no_version():
    encoded = CODEC.encode("text")
    assert unstamped(encoded) == (encoded, 0)


def test_a_copy_that_was_cut_is_undecodable():
    copy = stamped(Encoded(b"", 2), 1)
    with pytest.raises(Undecodable, match="truncated"):
        unstamped(Encoded(copy.payload[:7], copy.codec, copy.flags))
