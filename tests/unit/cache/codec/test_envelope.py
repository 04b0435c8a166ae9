"""Around each payload: what the envelope finds out, and that its bytes never change."""

import hashlib
import hmac
import json
import math
import struct
import sys
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.cache.codec.samples import KEY, OLD_KEY, USER, User, codec

from clusterdb.cache.codec import CodecId, Encoded, RegionCodec
from clusterdb.cache.config import Compression, SchemaConfig
from clusterdb.cache.errors import Undecodable

GOLDEN = Path(__file__).parent / "golden" / "v1"
SCHEMA = json.dumps(
    {
        "type": "record",
        "name": "User",
        "fields": [
            {"name": "name", "type": "string"},
            {"name": "age", "type": "int"},
            {"name": "mail", "type": "string"},
        ],
    }
)
CODED = codec()
ENCODED = CODED.encode({"name": "Ada"})

tags = st.lists(st.tuples(st.text(max_size=20), st.integers(0, 2**64 - 1)), max_size=5).map(tuple)
times = st.none() | st.floats(allow_nan=False).filter(lambda at: at != math.inf)


def seal(coded: RegionCodec = CODED, key: str = "user:1", encoded: Encoded = ENCODED, **kw: Any):
    return coded.seal(key, kw.get("version", 7), encoded, expires_at=None, tags=kw.get("tags", ()))


def resealed(data: bytes) -> bytes:
    """With the checksum that belongs to it."""
    return data[:-4] + struct.pack(">I", crc32(data[:-4]))


@given(
    st.text(min_size=1),
    st.integers(0, 2**64 - 1),
    st.binary(),
    times,
    tags,
    st.booleans(),
)
def test_what_is_sealed_is_unsealed(key, version, payload, expires_at, tags, signed):
    coded = codec("pickle") if signed else CODED
    encoded = Encoded(payload, CodecId.INTEGER, 4)
    data = coded.seal(key, version, encoded, expires_at=expires_at, tags=tags)
    sealed = coded.unseal(key, data)
    assert (sealed.version, sealed.expires_at, sealed.tags) == (version, expires_at, tags)
    assert sealed.encoded == encoded


def test_the_header_is_35_bytes():
    assert len(seal()) - len(ENCODED.payload) == 35


def test_the_layout_is_the_documented_one():
    """Read by nothing but what ``docs/reference/envelope.md`` says."""
    coded = codec(region="users", keys=[KEY])
    data = coded.seal("k", 258, Encoded(b"12", 1, 4), expires_at=1.5, tags=[("é", 9)])
    scope = b"\0\0\0\x05users"
    assert data[:5] == b"\xc1\xdb\x01\x01\x0c"
    assert struct.unpack(">HQd", data[5:23]) == (1, 258, 1.5)
    assert data[23:31] == hashlib.blake2b(scope + b"k", digest_size=8).digest()
    assert data[31:43] == b"\0\x02\xc3\xa9" + b"\0" * 7 + b"\x09"
    assert data[43:45] == b"12"
    message = b"clusterdb.cache envelope 1\0" + scope + b"\0\0\0\x01k" + data[:45]
    assert data[45:77] == hmac.digest(KEY.encode(), message, "sha256")
    assert data[77:] == struct.pack(">I", crc32(data[:77]))


@given(st.data())
def test_any_change_is_found(data):
    sealed = bytearray(seal(tags=[("a", 1)]))
    at = data.draw(st.integers(0, len(sealed) - 1))
    sealed[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Undecodable):
        CODED.unseal("user:1", bytes(sealed))


@pytest.mark.parametrize("signed", [False, True])
def test_any_truncation_is_found(signed):
    coded = codec("messagepack", keys=[KEY] if signed else [])
    whole = seal(coded, tags=[("a", 1)])
    for size in range(len(whole)):
        for cut in (whole[:size], resealed(whole[:size])):
            if cut[:2] == whole[:2] and cut != whole and len(cut) >= 43 and not signed:
                continue  # resealed by somebody who can: a shorter payload
            with pytest.raises(Undecodable):
                coded.unseal("user:1", cut)
    with pytest.raises(Undecodable):
        coded.unseal("user:1", whole + b"x")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "foreign"),
        (b"\x80", "foreign"),
        (b'{"a":1}', "foreign"),
        (b"\xc1\xdb", "truncated"),
        (resealed(b"\xc1\xdb\x02" + seal()[3:]), "format 2"),
        (resealed(seal()[:4] + b"\x80" + seal()[5:]), "newer release"),
        (resealed(seal()[:4] + b"\x08" + seal()[5:31] + b"\0" * 4), "foreign|truncated"),
        (resealed(seal()[:5] + b"\xff\xff" + seal()[7:]), "tags"),
        (resealed(seal()[:5] + b"\0\x01" + seal()[7:31] + b"\0\x01\xff" + b"\0" * 12), "tags"),
        (resealed(seal()[:3] + b"\x63" + seal()[4:]), "codec 99"),
    ],
)
def test_what_is_no_envelope_of_this_release_is_told(data, reason):
    coded = codec(keys=[KEY]) if "truncated" in reason and len(data) > 30 else CODED
    with pytest.raises(Undecodable, match=reason):
        coded.unseal("user:1", data)


def test_an_entry_under_another_key_or_region_is_refused():
    for coded, key in ((CODED, "user:2"), (codec(region="other"), "user:1")):
        with pytest.raises(Undecodable, match="swapped"):
            coded.unseal(key, seal())


def test_region_and_key_can_t_trade_characters():
    data = seal(codec(region="ab"), "c")
    with pytest.raises(Undecodable, match="swapped"):
        codec(region="a").unseal("bc", data)


# --- signatures ----------------------------------------------------------------------------------


def test_a_region_with_keys_takes_only_what_one_of_them_signed():
    old, both, new = (codec(keys=keys) for keys in ([OLD_KEY], [KEY, OLD_KEY], [KEY]))
    assert both.unseal("user:1", seal(old)).encoded == ENCODED
    assert new.unseal("user:1", seal(both)).encoded == ENCODED
    assert CODED.unseal("user:1", seal(new)).encoded == ENCODED
    with pytest.raises(Undecodable, match="badly signed"):
        new.unseal("user:1", seal(old))
    with pytest.raises(Undecodable, match="not signed"):
        new.unseal("user:1", seal())


def test_the_signature_covers_every_byte():
    coded = codec(keys=[KEY])
    whole = seal(coded, tags=[("a", 1)])
    for at in range(5, len(whole) - 4):
        changed = bytearray(whole)
        changed[at] ^= 1
        with pytest.raises(Undecodable):
            coded.unseal("user:1", resealed(bytes(changed)))


def test_a_signed_entry_can_t_be_moved_even_with_a_right_binding():
    """The binding is no secret, so the signature must hold the key by itself."""
    coded = codec(keys=[KEY])
    moved = seal(coded, "a")
    moved = resealed(moved[:23] + seal(coded, "b")[23:31] + moved[31:])
    with pytest.raises(Undecodable, match="badly signed"):
        coded.unseal("b", moved)


# --- golden files --------------------------------------------------------------------------------

PLAIN: Any = {
    "none": None,
    "list": [True, 1, -1, 2**64 - 1, 1.5, "é", b"\x00\xff"],
    "tuple": (1, (2,)),
    "pairs": {(1, 2): "a"},
    "big": 2**80,
}
TAGS = [("user", 1), ("é", 2**64 - 1)]

Written = tuple[RegionCodec, Any, Any, float | None, list[tuple[str, int]]]


def written() -> dict[str, Written]:
    """What is in each golden file: its region, value, type, expiry and tags."""
    avro = SchemaConfig(inline=SCHEMA)
    wide = "abcdefgh" * 64
    return {
        "integer": (codec(), -42, None, None, []),
        "messagepack": (codec(), PLAIN, None, 1_800_000_000.25, TAGS),
        "messagepack-typed": (codec(), USER, User, None, []),
        "json": (codec("json"), {"a": [1, None, "é"]}, None, None, []),
        "bytes": (codec("raw"), b"\x00\xff", None, None, []),
        "text": (codec("raw"), "é", None, None, []),
        "avro": (codec("avro", schema=avro), {"name": "A", "age": 1, "mail": ""}, None, None, []),
        "pickle-signed": (codec("pickle"), {"a": (1, 2)}, None, 1.5, TAGS),
        "lz4": (codec(compression=Compression(min_size=1)), wide, None, None, []),
        "zstd": (
            codec(compression=Compression(min_size=1, algorithm="zstd")), wide, None, None, []
        ),
    }  # fmt: skip


def envelope(name: str) -> bytes:
    coded, value, _, expires_at, tags = written()[name]
    return coded.seal(
        f"golden:{name}", 2**40, coded.encode(value), expires_at=expires_at, tags=tags
    )


@pytest.mark.parametrize("name", written())
def test_golden_files_are_still_read(name):
    coded, value, wanted, expires_at, tags = written()[name]
    sealed = coded.unseal(f"golden:{name}", (GOLDEN / f"{name}.bin").read_bytes())
    assert (sealed.version, sealed.expires_at) == (2**40, expires_at)
    assert sealed.tags == tuple(tags)
    assert coded.decode(sealed.encoded, wanted) == value


@pytest.mark.parametrize("name", written())
def test_golden_files_are_still_written(name):
    golden = (GOLDEN / f"{name}.bin").read_bytes()
    coded, _, _, expires_at, tags = written()[name]
    if name in ("lz4", "zstd"):  # the same, whatever the library's next release makes of them
        encoded = coded.unseal(f"golden:{name}", golden).encoded
        again = coded.seal(f"golden:{name}", 2**40, encoded, expires_at=expires_at, tags=tags)
        assert again == golden
    else:
        assert envelope(name) == golden


def test_each_golden_file_has_its_test():
    assert {path.stem for path in GOLDEN.iterdir()} == set(written())


if __name__ == "__main__":  # writes what is missing: a golden file is never written twice
    for golden_name in written():
        golden_path = GOLDEN / f"{golden_name}.bin"
        if not golden_path.exists():
            golden_path.write_bytes(envelope(golden_name))
            print(f"wrote {golden_path}", file=sys.stderr)
