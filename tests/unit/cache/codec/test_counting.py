"""What an increment adds to, on every backend."""

import pytest

from clusterdb.cache import Cache, CacheConfig, CacheError, Disk, InvalidArgument, TypeMismatch
from clusterdb.cache.codec import CodecId, Encoded, addend, bounded
from clusterdb.cache.protocols import Put

MALFORMED = (b"", b"x", b"1e3", b"1_000", b" 1", b"+1", b"007", b"9" * 5000)


@pytest.mark.parametrize("digits", MALFORMED)
def test_malformed_digits_are_no_number(digits):
    with pytest.raises(TypeMismatch, match=r"'k' holds malformed digits"):
        addend("k", Encoded(digits, int(CodecId.INTEGER)))


def test_what_is_of_another_format_is_no_number():
    with pytest.raises(TypeMismatch, match="'k' holds something else"):
        addend("k", Encoded(b"1", int(CodecId.MESSAGEPACK)))
    assert addend("k", Encoded(b"-7", int(CodecId.INTEGER))) == -7


@pytest.mark.parametrize("total", [2**63, -(2**63) - 1])
def test_a_sum_has_64_bits(total):
    with pytest.raises(InvalidArgument, match=f"'k' would leave 64 bits: {total}"):
        bounded("k", total)


async def test_a_file_with_malformed_digits_harms_no_other_item_of_the_call(tmp_path):
    async with Cache(CacheConfig(backend=Disk(path=tmp_path / "cache.db"))) as cache:
        backend = cache.access.runtime.backend
        await cache.set("good", 1)
        await backend.write("default", [Put("bad", Encoded(b"1e3", int(CodecId.INTEGER)), None)])

        with pytest.raises(CacheError, match="'bad' holds malformed digits"):
            await cache.increment("bad")
        assert await cache.increment("good") == 2
