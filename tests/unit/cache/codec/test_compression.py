"""Compression makes payloads smaller or leaves them alone, and can't be turned into a bomb."""

import resource
import sys
from collections.abc import Callable

import lz4.block
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.cache.codec.samples import codec

from clusterdb.cache import Compression, MissingExtra, SerializationConfig
from clusterdb.cache.codec import CodecId, Encoded, region_codec
from clusterdb.cache.codec.compression import MAX_RATIO, expand
from clusterdb.cache.codec.encoded import COMPRESSION, LZ4, ZSTD
from clusterdb.cache.errors import Undecodable

WIDE = b"clusterdb" * 1000


def compressed(payload: bytes = WIDE, **settings) -> Encoded:
    return codec("raw", compression=Compression(**settings)).encode(payload)


@given(st.binary(max_size=3000) | st.binary(max_size=9).map(lambda it: it * 300), st.booleans())
def test_it_never_makes_an_entry_larger(payload, zstd):
    for level in (None, 1, 9):
        encoded = compressed(payload, algorithm="zstd" if zstd else "lz4", min_size=0, level=level)
        assert len(encoded.payload) <= len(payload)
        assert expand(encoded) == payload


@pytest.mark.parametrize(("algorithm", "flag"), [("lz4", LZ4), ("zstd", ZSTD)])
def test_only_payloads_of_the_least_size_are_compressed(algorithm, flag):
    at, below = (
        compressed(WIDE, algorithm=algorithm, min_size=len(WIDE) + more) for more in (0, 1)
    )
    assert (at.flags, below.flags) == (flag, 0)
    assert below.payload == WIDE


def test_levels_of_lz4_above_2_are_its_high_compression():
    text = b"".join(b"%d " % (n * n % 1009) for n in range(5000))
    sizes = {level: len(compressed(text, level=level).payload) for level in (None, 0, 2, 3, 12)}
    assert sizes[None] == sizes[0] == sizes[2] > sizes[3] >= sizes[12]
    best = lz4.block.compress(text, mode="high_compression", compression=12)
    assert compressed(text, level=12).payload == best


def test_levels_of_zstd_are_its_own():
    text = b"".join(b"%d " % (n * n % 1009) for n in range(5000))
    best = zstandard.ZstdCompressor(level=19).compress(text)
    assert compressed(text, algorithm="zstd", level=19).payload == best


@pytest.mark.parametrize(
    ("switch", "policy", "flag"),
    [
        (None, None, 0),
        (None, Compression(algorithm="zstd"), ZSTD),
        (True, None, LZ4),
        (True, Compression(algorithm="zstd"), ZSTD),
        (False, Compression(), 0),
    ],
)
def test_the_switch_of_serialization_and_the_block_of_the_policy(switch, policy, flag):
    coded = region_codec("users", SerializationConfig(compression=switch), policy)
    assert coded.encode(WIDE).flags & COMPRESSION == flag


def test_what_one_algorithm_wrote_is_read_under_the_other():
    old, new = (codec("raw", compression=Compression(algorithm=a)) for a in ("lz4", "zstd"))
    assert new.decode(old.encode(WIDE)) == old.decode(new.encode(WIDE)) == WIDE


@pytest.mark.parametrize("algorithm", ["lz4", "zstd"])
def test_what_shrinks_beyond_the_ratio_comes_back_all_the_same(algorithm):
    zeros = bytes(10_000_000)
    encoded = compressed(zeros, algorithm=algorithm)
    assert len(zeros) / MAX_RATIO <= len(encoded.payload) < 50_000
    assert expand(encoded) == zeros


def zstd_without_size(payload: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_content_size=False).compress(payload)


def zstd_claiming(size: int) -> bytes:
    """A frame that claims a size and has nothing behind it."""
    return b"\x28\xb5\x2f\xfd\xe0" + size.to_bytes(8, "little") + b"\x01\x00\x00"


BOMBS: dict[str, Callable[[], tuple[bytes, int]]] = {
    "lz4 claims 2 GiB": lambda: (b"\xff\xff\xff\x7f" + bytes(100), LZ4),
    "lz4 claims less than 0": lambda: (b"\xff\xff\xff\xff" + bytes(100), LZ4),
    "lz4 holds more than it claims": lambda: (
        b"\x10\0\0\0" + lz4.block.compress(bytes(100_000), store_size=False), LZ4
    ),
    "lz4 holds less than it claims": lambda: (
        b"\x00\x10\0\0" + lz4.block.compress(bytes(100), store_size=False), LZ4
    ),
    "lz4 without a size": lambda: (b"\x10", LZ4),
    "zstd of 1 GiB": lambda: (zstandard.ZstdCompressor().compress(bytes(1 << 30)), ZSTD),
    "zstd claims 2**63": lambda: (zstd_claiming(2**63), ZSTD),
    "zstd claims 1 TiB": lambda: (zstd_claiming(1 << 40), ZSTD),
    "zstd without a size": lambda: (zstd_without_size(WIDE), ZSTD),
    "zstd and more": lambda: (zstandard.ZstdCompressor().compress(WIDE) + b"x", ZSTD),
    "zstd, half of it": lambda: (zstandard.ZstdCompressor().compress(WIDE)[:-5], ZSTD),
    "zstd of nothing": lambda: (b"", ZSTD),
    "both at once": lambda: (WIDE, LZ4 | ZSTD),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_undecodable_before_it_takes_memory(name):
    payload, flag = BOMBS[name]()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(Undecodable):
        expand(Encoded(payload, CodecId.BYTES, flag))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 64 * 1024  # KiB


def test_without_its_library_zstd_names_the_extra(monkeypatch):
    encoded = compressed(WIDE, algorithm="zstd")
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(MissingExtra, match=r"clusterdb-cache\[zstd\]"):
        codec(compression=Compression(algorithm="zstd"))
    with pytest.raises(Undecodable, match="extra 'zstd'"):
        expand(encoded)
