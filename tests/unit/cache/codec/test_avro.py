"""Avro: the schema decides the bytes, checks values, and may change while entries live."""

import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.unit.cache.codec.samples import codec

from clusterdb.cache import ConfigError, EncodeError, MissingExtra, SchemaConfig, TypeRequired
from clusterdb.cache.codec import TYPED, CodecId, Encoded, avro
from clusterdb.cache.errors import Undecodable


def record(*fields: dict[str, Any], name: str = "User") -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": list(fields)}


NAME = {"name": "name", "type": "string"}
TAGS = {"name": "tags", "type": {"type": "array", "items": "int"}}
MAIL = {"name": "mail", "type": ["null", "string"], "default": None}
ONE, TWO = record(NAME, TAGS), record(NAME, MAIL, TAGS)


@dataclass
class User:
    name: str
    tags: tuple[int, ...]


@dataclass
class UserWithMail:
    name: str
    tags: tuple[int, ...]
    mail: str | None


def inline(schema: Any, **settings: Any):
    return codec("avro", schema=SchemaConfig(inline=json.dumps(schema)), **settings)


@pytest.fixture
def forget(monkeypatch):
    """A process that has not had any schema yet."""
    monkeypatch.setattr(avro, "_seen", {})


def test_records_come_back():
    value = {"name": "Ada", "tags": [1, 2]}
    encoded = inline(ONE).encode(value)
    assert (encoded.codec, encoded.flags) == (CodecId.AVRO, 0)
    assert inline(ONE).decode(encoded) == value
    assert inline(ONE).decode(encoded, User) == User("Ada", (1, 2))


def test_objects_come_back_as_their_type():
    encoded = inline(ONE).encode(User("Ada", (1, 2)))
    assert encoded.flags == TYPED
    assert inline(ONE).decode(encoded, User) == User("Ada", (1, 2))
    with pytest.raises(TypeRequired):
        inline(ONE).decode(encoded)


def test_logical_types_are_python_s():
    schema = record({"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}})
    value = {"at": datetime(2026, 1, 1, 1, 2, 3, 4, tzinfo=UTC)}
    assert inline(schema).decode(inline(schema).encode(value)) == value


def test_a_pair_in_a_union_is_no_hint_at_its_branch():
    schema = ["null", {"type": "array", "items": "string"}]
    encoded = inline(schema).encode(("string", "x"))
    assert inline(schema).decode(encoded, tuple[str, str]) == ("string", "x")


def test_payloads_are_avro_s_single_objects():
    """Any Avro library reads them: the marker, the fingerprint, the datum."""
    payload = inline("string").encode("ab").payload
    assert payload == b"\xc3\x01" + bytes.fromhex("c70345637248018f") + b"\x04ab"


@pytest.mark.usefixtures("forget")
def test_a_newer_schema_reads_what_an_older_one_wrote(tmp_path):
    (tmp_path / "user.v1.avsc").write_text(json.dumps(ONE))
    old = codec("avro", schema=SchemaConfig(path=tmp_path / "user.v1.avsc"))
    encoded = old.encode(User("Ada", (1,)))

    avro._seen.clear()  # another process
    (tmp_path / "user.avsc").write_text(json.dumps(TWO))
    new = codec("avro", schema=SchemaConfig(path=tmp_path / "user.avsc"))
    assert new.decode(encoded, UserWithMail) == UserWithMail("Ada", (1,), None)
    assert old.decode(new.encode({"name": "B", "tags": [], "mail": "m"})) == {
        "name": "B", "tags": []
    }  # fmt: skip


@pytest.mark.usefixtures("forget")
def test_a_process_remembers_the_schemas_it_had():
    encoded = inline(ONE).encode({"name": "Ada", "tags": []})
    assert inline(TWO).decode(encoded) == {"name": "Ada", "mail": None, "tags": []}


@pytest.mark.usefixtures("forget")
def test_an_unknown_writer_s_schema_is_told_by_its_fingerprint():
    encoded = inline("string").encode("ab")
    avro._seen.clear()
    with pytest.raises(Undecodable, match="8f014872634503c7"):
        inline("bytes").decode(encoded)


def test_schemas_that_can_t_be_resolved_are_undecodable():
    encoded = inline(ONE).encode({"name": "Ada", "tags": []})
    with pytest.raises(Undecodable):
        inline("int").decode(encoded)


@pytest.mark.parametrize(
    ("value", "path", "kind"),
    [
        ({"name": 1, "tags": []}, "$.name", "int"),
        ({"name": "a", "tags": [1, "x"]}, "$.tags[1]", "str"),
        (User("a", (1, "x")), "$.tags[1]", "str"),  # type: ignore[arg-type]
        ({"name": "a"}, "$.tags", "NoneType"),
        ({"name": "a", "tags": [], "more": 1}, "$", "dict"),
        ({"name": "\ud800", "tags": []}, "$", "dict"),
        ({"name": "a", "tags": [2**31]}, "$.tags[0]", "int"),
        (5, "$", "int"),
        (object(), "$", "object"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_its_place(value, path, kind):
    with pytest.raises(EncodeError) as caught:
        inline(ONE).encode(value)
    assert (caught.value.path, caught.value.kind) == (path, kind)


@pytest.mark.parametrize("name", ["messagepack", "json", "pickle"])
def test_a_schema_checks_values_in_other_formats_too(name):
    coded = codec(name, schema=SchemaConfig(inline=json.dumps(ONE)))
    value = {"name": "Ada", "tags": [1]}
    encoded = coded.encode(value)
    assert encoded.codec == codec(name).encode(value).codec
    assert coded.decode(encoded) == value
    with pytest.raises(EncodeError, match=r"the str at \$\.tags\[0\]"):
        coded.encode({"name": "Ada", "tags": ["x"]})
    with pytest.raises(EncodeError):
        coded.encode(5)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": "null"},
        record({"name": "a", "type": {"type": "map", "values": {"type": "array", "items": record(
            name="Empty")}}}),
        record({"name": "a", "type": ["null", {"type": "array", "items": {
            "type": "fixed", "name": "F", "size": 0}}]}),
        {"type": "nonsense"},
        [1],
    ],
)  # fmt: skip
def test_a_schema_that_is_none_or_could_claim_any_length_is_refused(schema):
    with pytest.raises(ConfigError, match=r"serialization\.schema\.inline"):
        inline(schema)


def test_a_recursive_schema_is_fine():
    schema = record({"name": "next", "type": ["null", "User"], "default": None})
    value = {"next": {"next": None}}
    assert inline(schema).decode(inline(schema).encode(value)) == value


@pytest.mark.parametrize("text", [None, "{", '{"type": "nonsense"}'])
def test_a_file_that_is_no_schema_is_named(tmp_path, text):
    path = tmp_path / "user.avsc"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=r"serialization\.schema\.path.*user\.avsc"):
        codec("avro", schema=SchemaConfig(path=path))


def test_a_neighbour_that_is_no_schema_is_named(tmp_path):
    (tmp_path / "user.avsc").write_text('"string"')
    (tmp_path / "old.avsc").write_text("{")
    with pytest.raises(ConfigError, match=r"old\.avsc"):
        codec("avro", schema=SchemaConfig(path=tmp_path / "user.avsc"))


@pytest.mark.parametrize(
    "payload", [b"", b"\xc3\x01", b"\xc3\x02" + bytes(8), b"\xc3\x01" + bytes(9)]
)
def test_what_is_no_single_object_is_undecodable(payload):
    with pytest.raises(Undecodable):
        inline(ONE).decode(Encoded(payload, CodecId.AVRO, 0))


def test_bytes_behind_a_datum_are_undecodable():
    payload = inline("string").encode("ab").payload
    with pytest.raises(Undecodable, match="follow"):
        inline("string").decode(Encoded(payload + b"x", CodecId.AVRO, 0))


def test_without_fastavro_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "fastavro", None)
    with pytest.raises(MissingExtra, match=r"clusterdb-cache\[avro\]"):
        inline(ONE)


def test_fastavro_is_not_imported_before_a_schema_asks_for_it():
    script = "import sys, clusterdb.cache.codec; print('fastavro' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
