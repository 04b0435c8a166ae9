"""Hostile bytes for the codecs: golden payloads with changes, and noise.

The tests run some thousands. More of them, under a limit of memory, by

    python -m tests.unit.cache.codec.fuzzing 1000000
"""

import pickle
import random
import resource
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any
from uuid import UUID
from zlib import crc32

from tests.unit.cache.codec.samples import (
    ACCOUNT,
    LINE,
    USER,
    Account,
    Line,
    Movie,
    Order,
    User,
    codec,
)
from tests.unit.cache.codec.test_envelope import GOLDEN, PLAIN, SCHEMA, written

from clusterdb.cache.codec import CodecId, Encoded, RegionCodec
from clusterdb.cache.config import Compression, SchemaConfig
from clusterdb.cache.errors import TypeMismatch, Undecodable

ADDRESS_SPACE = 1 << 30
LIMITS = (0x00, 0x01, 0x7F, 0x80, 0xC1, 0xC7, 0xC9, 0xDB, 0xDD, 0xDF, 0xFF)
TYPES = (None, User, Account, Order, Line, Movie, list[User], dict[str, Any], set[UUID], int, bytes)

Regions = dict[str, RegionCodec]


class Canary:
    """Unpickling it calls :func:`sprung`."""

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return sprung, ()


caught: list[str] = []


def sprung() -> None:
    """Remember that a hostile pickle ran."""
    caught.append("a pickle was executed")


def regions() -> Regions:
    """One of each format; what they read does not depend on how they compress."""
    packed = Compression(min_size=1, algorithm="zstd")
    return {
        "messagepack": codec(compression=packed),
        "json": codec("json"),
        "raw": codec("raw"),
        "avro": codec("avro", schema=SchemaConfig(inline=SCHEMA)),
        "pickle": codec("pickle"),
    }


def payloads(known: Regions) -> list[Encoded]:
    """Payloads of every codec but pickle, which is never read without its signature."""
    found = []
    for name in ("messagepack", "json"):
        found += [known[name].encode(value) for value in ({"a": [1, None]}, ACCOUNT, [LINE], 5)]
    found += [codec().encode(each) for each in (PLAIN, ACCOUNT, [LINE], {(1, 2): {3}}, USER)]
    found += [codec(compression=Compression(min_size=1)).encode("abc" * 100)]
    found += [known["raw"].encode(b"abc"), known["raw"].encode("abc")]
    found += [known["avro"].encode({"name": "Ada", "age": 5, "mail": "x"})]
    return found


def run(count: int, seed: int = 4) -> tuple[Counter[str], float]:
    """Decode ``count`` hostile inputs: the outcomes, and the longest any took (CPU seconds).

    Whatever is neither a value nor one of the errors for it comes out.
    """
    rng = random.Random(seed)
    known = regions()
    samples = payloads(known)
    golden = [(name, (GOLDEN / f"{name}.bin").read_bytes()) for name in written()]
    outcomes: Counter[str] = Counter()
    longest = 0.0
    for turn in range(count):
        if turn % 3 == 0:
            call = opening(rng, known, golden)
        else:
            call = reading(rng, known, samples)
        start = time.thread_time()
        try:
            call()
            outcomes["value"] += 1
        except (Undecodable, TypeMismatch) as error:
            outcomes[type(error).__name__] += 1
        longest = max(longest, time.thread_time() - start)
    return outcomes, longest


def opening(
    rng: random.Random, known: Regions, golden: list[tuple[str, bytes]]
) -> Callable[[], object]:
    """Unseal a changed envelope, half of them with the checksum of the change, and decode it."""
    name, data = rng.choice(golden)
    changed = noise(rng) if rng.random() < 0.05 else mutated(rng, data)
    if rng.random() < 0.1:
        changed = data[:3] + bytes([CodecId.PICKLE]) + data[4:31] + pickle.dumps(Canary()) + b"...."
    if rng.random() < 0.5:
        changed = changed[:-4] + struct.pack(">I", crc32(changed[:-4]))
    coded, wanted = rng.choice(list(known.values())), rng.choice(TYPES)
    return lambda: coded.decode(coded.unseal(f"golden:{name}", changed).encoded, wanted)


def reading(rng: random.Random, known: Regions, samples: list[Encoded]) -> Callable[[], object]:
    """Decode a changed payload, as if it had passed every check of its envelope."""
    sample = rng.choice(samples)
    payload = noise(rng) if rng.random() < 0.1 else mutated(rng, sample.payload)
    number = sample.codec if rng.random() < 0.9 else rng.choice([1, 2, 3, 4, 5, 6, 8, 64, 255])
    flags = sample.flags if rng.random() < 0.9 else rng.randrange(8)
    coded = known["avro" if number == CodecId.AVRO else "messagepack"]
    wanted = rng.choice(TYPES)
    return lambda: coded.decode(Encoded(payload, number, flags), wanted)


def mutated(rng: random.Random, data: bytes) -> bytes:
    """A few changes: bits, bytes that mean much, cuts, repetitions, long runs."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randint(0, len(changed))
        kind = rng.randrange(6)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at < len(changed):
            changed[at] = rng.choice(LIMITS)
        elif kind == 2:
            del changed[at : at + rng.randint(1, 8)]
        elif kind == 3:
            changed[at:at] = changed[at : at + rng.randint(1, 40)]
        elif kind == 4:
            changed[at:at] = bytes(rng.choice(LIMITS) for _ in range(rng.randint(1, 9)))
        elif rng.random() < 0.05:
            changed[at:at] = bytes([rng.choice((0x5B, 0x81, 0x91, 0x28))]) * rng.randint(1, 5000)
    return bytes(changed)


def noise(rng: random.Random) -> bytes:
    return rng.randbytes(rng.randint(0, 64))


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    outcomes, longest = run(count, seed=count)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{count:,} inputs: {dict(outcomes)}; the longest took {longest * 1000:.1f} ms of CPU,")
    print(f"the process {peak:.0f} MiB at its peak; {ADDRESS_SPACE >> 20} MiB are allowed")
    print(*caught)
    sys.exit(bool(caught))


if __name__ == "__main__":
    main()
