"""What bytes cost: target P10, and the time of each format beside pickle and plain msgspec.

A dataclass of 3, 10 and 30 fields is encoded and sealed, opened and decoded, in each format. Beside
it stand what a cache without envelope does: ``pickle`` alone, which runs code when it reads, and
msgspec alone, which finds no damage. One process, subjects in turns. Under a minute.
"""

from __future__ import annotations

import json
import pickle
import random
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields, make_dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import msgspec
from _report import RESULTS, Report, Row, Section, Verdict, judge, version
from _rounds import Times, alternate, spread, summary, versus

from clusterdb.cache import Compression, SchemaConfig, SerializationConfig
from clusterdb.cache.codec import RegionCodec, region_codec

SEED = 4
KEY, TAGS, VERSION, EXPIRY = "user:123456", (), 1 << 40, 1.8e9
SIGNING_KEY = "a key for the benchmark only"
OURS, AGAIN, PICKLE, MSGSPEC = "clusterdb messagepack", "clusterdb again", "pickle 5", "msgspec"
AVRO_TYPES = {str: "string", int: "long", float: "double", bool: "boolean"}


@dataclass
class Small:
    """A record of three fields."""

    name: str = "Ada Lovelace"
    age: int = 36
    mail: str = "ada@example.org"


@cache
def record(size: int) -> Any:
    """An object with as many fields: text, numbers and switches by turns, each with a value of its
    own, as rows of a database have (pickle writes an object that it meets again only once).
    """
    if size == 3:
        return Small()
    makers: list[tuple[str, Callable[[int], Any]]] = [
        ("text", lambda at: f"some text of column {at}"),
        ("count", lambda at: 123_456 + at),
        ("share", lambda at: 0.25 + at),
        ("flag", lambda at: at % 2 == 0),
        ("city", lambda at: f"city {at}"),
    ]
    described = []
    for at in range(size):
        name, make = makers[at % len(makers)]
        described.append((f"{name}_{at}", type(make(at)), field(default=make(at))))
    made = make_dataclass(f"Record{size}", described)
    made.__module__ = __name__
    globals()[made.__name__] = made  # so that pickle finds it
    return made()


def schema_of(value: Any) -> str:
    described = [
        {"name": each.name, "type": AVRO_TYPES[type(getattr(value, each.name))]}
        for each in fields(value)
    ]
    return json.dumps({"type": "record", "name": type(value).__name__, "fields": described})


def codecs(value: Any) -> dict[str, RegionCodec]:
    """Our formats, each with the envelope it has in a backend."""
    settings = {
        OURS: SerializationConfig(),
        AGAIN: SerializationConfig(),
        "clusterdb messagepack, signed": SerializationConfig(keys=[SIGNING_KEY]),
        "clusterdb json": SerializationConfig(format="json"),
        "clusterdb pickle, signed": SerializationConfig(format="pickle", keys=[SIGNING_KEY]),
    }
    if find_spec("fastavro") is not None:
        schema = SchemaConfig(inline=schema_of(value))
        settings["clusterdb avro"] = SerializationConfig(format="avro", schema=schema)
    return {name: region_codec("users", each, None) for name, each in settings.items()}


# --- subjects: to bytes, and back ----------------------------------------------------------------

Way = tuple[Callable[[], bytes], Callable[[bytes], Any]]


def ours(codec: RegionCodec, value: Any) -> Way:
    wanted = type(value)

    def write() -> bytes:
        return codec.seal(KEY, VERSION, codec.encode(value), expires_at=EXPIRY, tags=TAGS)

    def read(data: bytes) -> Any:
        return codec.decode(codec.unseal(KEY, data).encoded, wanted)

    return write, read


def ways(value: Any) -> dict[str, Way]:
    """Every subject for one value."""
    found = {name: ours(codec, value) for name, codec in codecs(value).items()}
    encoder, decoder = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(type(value))
    found[MSGSPEC] = (lambda: encoder.encode(value), decoder.decode)
    found[PICKLE] = (lambda: pickle.dumps(value, 5), pickle.loads)
    return found


def timed(call: Callable[[], object], repeats: int) -> Callable[[], float]:
    def measured() -> float:
        turns = range(repeats)
        start = perf_counter_ns()
        for _ in turns:
            call()
        return (perf_counter_ns() - start) / repeats

    return measured


def reading(read: Callable[[bytes], Any], data: bytes) -> Callable[[], object]:
    return lambda: read(data)


def times_of(value: Any, rounds: int, repeats: int) -> tuple[Times, Times]:
    """Nanoseconds of writing and of reading, after a check that each subject reads right."""
    writes, reads = {}, {}
    for name, (write, read) in ways(value).items():
        data = write()
        if read(data) != value:
            raise SystemExit(f"{name} does not give back what it was given")
        writes[name] = timed(write, repeats)
        reads[name] = timed(reading(read, data), repeats)
    return alternate(writes, rounds), alternate(reads, rounds)


# --- tables --------------------------------------------------------------------------------------


def sizes(value: Any) -> tuple[Section, Verdict]:
    """P10: whole envelopes beside what pickle writes."""
    written = {name: len(write()) for name, (write, _) in ways(value).items() if name != AGAIN}
    base = written[PICKLE]
    rows = [
        Row(name, size, size, size, compared=size / base)
        for name, size in sorted(written.items(), key=lambda item: item[1])
    ]
    count = len(fields(value))
    title = f"P10  bytes of a dataclass of {count} fields, envelope included"
    verdict = judge("P10", f"envelope / pickle, {count} fields", written[OURS] / base, "<=", 1, 0.0)
    return Section(title, "bytes", "x pickle", rows), verdict


def compressed() -> tuple[Section, Verdict]:
    """What compression makes of some values, and whether it ever makes one larger."""
    rows, largest = [], 0.0
    values = {
        "200 rows": [asdict(record(10)) for _ in range(200)],
        "text, 10 kB": "the quick brown fox jumps over the lazy dog, again and again; " * 160,
        "noise, 10 kB": random.Random(SEED).randbytes(10_000),
        "noise, 64 B": random.Random(SEED).randbytes(64),
    }
    algorithms = ("lz4", "zstd") if find_spec("zstandard") else ("lz4",)
    for name, value in values.items():
        plain = len(region_codec("users", SerializationConfig(), None).encode(value).payload)
        for algorithm in algorithms:
            chosen = Compression(algorithm=algorithm, min_size=0)  # type: ignore[arg-type]
            codec = region_codec("users", SerializationConfig(), chosen)
            size = len(codec.encode(value).payload)
            largest = max(largest, size / plain)
            rows.append(Row(f"{name}, {algorithm}", size, size, size, compared=size / plain))
    verdict = judge("P10", "compressed / plain, the worst of all", largest, "<=", 1, 0.0)
    return Section("Payloads with compression", "bytes", "x plain", rows), verdict


def section(title: str, times: Times) -> Section:
    rows = []
    for name, samples in times.items():
        costs, ratio = summary(samples), versus(times, name, OURS).median
        used = version("msgspec") if name == MSGSPEC else ""
        rows.append(Row(name, costs.median, costs.low, costs.high, used, "", ratio))
    rows.sort(key=lambda row: row.value)
    again = versus(times, AGAIN, OURS)
    control = (
        f"A/A control: ours again / ours {again.median:.3f} ({again.low:.3f}..{again.high:.3f}), "
        f"spread {spread(times, OURS, AGAIN):.1%}"
    )
    return Section(title, "ns", "x ours", rows, control)


def measure(quick: bool) -> Report:
    rounds, repeats = (2, 200) if quick else (15, 5_000)
    report = Report("codec", {"rounds": rounds, "repeats": repeats, "seed": SEED})
    names = ("msgspec", "lz4", "fastavro", "zstandard")
    report.versions = {name: version(name) for name in names if version(name)}
    values = [record(size) for size in (3, 10, 30)]
    for value in values:
        table, verdict = sizes(value)
        report.sections.append(table)
        report.verdicts.append(verdict)
    table, verdict = compressed()
    report.sections.append(table)
    report.verdicts.append(verdict)
    for value in values:
        count = len(fields(value))
        writes, reads = times_of(value, rounds, repeats if count < 30 else repeats // 3)
        report.sections.append(section(f"To bytes, dataclass of {count} fields", writes))
        report.sections.append(section(f"From bytes, dataclass of {count} fields", reads))
    return report


def arguments(argv: Sequence[str] | None = None) -> Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small and rough, writes no result")
    parser.add_argument("--output", type=Path, help="where the JSON goes")
    return parser.parse_args(argv)


def main() -> None:
    options = arguments()
    report = measure(options.quick)
    print(report.text())
    target = options.output or (None if options.quick else RESULTS / "codec.json")
    if target is not None:
        report.write(target)


if __name__ == "__main__":
    main()
