"""The files of a backup as bytes: what goes in comes out, and nothing that was changed does."""

import base64
import io
from typing import Any

import fastavro
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.backup.conftest import KEY, OTHER_KEY
from tests.effort import times

from clusterdb.cache import BackupCorrupt, BackupEncryption, NotSupported, WrongKey
from clusterdb.cache.backup.container import ENTRIES, BlockReader, BlockWriter, MalformedFile
from clusterdb.cache.backup.files import FileReader, FileWriter
from clusterdb.cache.backup.manifest import (
    BackupFile,
    Manifest,
    RegionCounts,
    dump_manifest,
    load_manifest,
)
from clusterdb.cache.backup.sealing import Keyring, SecretKey

NAME = "00000001-x/entries-00001.avro"
CIPHERS = ["aes_256_gcm", "chacha20_poly1305"]
SECRET = SecretKey(base64.b64decode(KEY))


def entry(number: int, **fields: Any) -> dict[str, Any]:
    given = {
        "key": f"key:{number}",
        "value": b"v" * number,
        "version": number + 1,
        "expires_in": None,
        "expires_at": None,
        "tags": [],
        "kind": "",
    }
    return given | fields


def made(blocks: list[list[dict[str, Any]]], key=None, cipher="aes_256_gcm", name=NAME):
    writer = FileWriter(name, "entries", "default", key, cipher)
    data = b"".join([writer.add(block) for block in blocks]) + writer.end()
    return data, writer.describe()


def read(data: bytes, file: BackupFile, key=None, step: int = 1 << 20) -> list[dict[str, Any]]:
    reader = FileReader(file, key)
    found = [
        record
        for at in range(0, len(data), step)
        for block in reader.feed(data[at : at + step])
        for record in block
    ]
    reader.end()
    return found


entries = st.lists(
    st.builds(
        entry,
        st.integers(0, 50),
        key=st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
        value=st.binary(),
        version=st.integers(1, 2**63 - 1),
        expires_in=st.none() | st.floats(0, 1e9),
        expires_at=st.none() | st.floats(0, 1e11),
        tags=st.lists(st.text(st.characters(exclude_categories=["Cs"]))),
    ),
    min_size=1,
)


@settings(max_examples=times(60))
@given(st.lists(entries), st.sampled_from([None, *CIPHERS]), st.integers(1, 200))
@example([], CIPHERS[0], 1)
@example([], None, 7)
def test_what_was_written_is_read_in_pieces_of_any_size(blocks, cipher, step):
    key = None if cipher is None else SECRET
    data, file = made(blocks, key, cipher or "")

    assert read(data, file, key, step) == [record for block in blocks for record in block]
    assert (file.size, file.records) == (len(data), sum(len(block) for block in blocks))


def test_other_tools_open_a_file():
    data, file = made(
        [[entry(1, tags=["a"]), entry(2, expires_in=1.5, expires_at=2.5)], [entry(3)]]
    )

    found = list[Any](fastavro.reader(io.BytesIO(data)))

    assert found == read(data, file)
    assert [each["key"] for each in found] == ["key:1", "key:2", "key:3"]


def test_large_values_go_into_blocks_of_their_own():
    records = [entry(at, value=b"v" * 400_000) for at in range(10)]
    data, file = made([records])

    reader = FileReader(file, None)
    assert [len(block) for block in reader.feed(data)] == [3, 3, 3, 1]
    reader.end()
    assert read(data, file) == records


@pytest.mark.parametrize("cipher", [None, *CIPHERS])
def test_no_flipped_bit_goes_unnoticed(cipher):
    key = None if cipher is None else SECRET
    data, file = made([[entry(1)], [entry(2)]], key, cipher or "")

    for at in range(len(data)):
        with pytest.raises(BackupCorrupt):
            read(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :], file, key)


@pytest.mark.parametrize("cipher", [None, *CIPHERS])
def test_no_cut_and_no_addition_goes_unnoticed(cipher):
    key = None if cipher is None else SECRET
    data, file = made([[entry(1)], [entry(2)]], key, cipher or "")

    for size in range(len(data)):
        with pytest.raises(BackupCorrupt):
            read(data[:size], file, key)
    with pytest.raises(BackupCorrupt):
        read(data + b"\0", file, key)


def frames(data: bytes) -> list[bytes]:
    """The header of an encrypted file, and its frames."""
    found, at = [data[:46]], 46
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "big")
        found.append(data[at:end])
        at = end
    return found


def forged(pieces: list[bytes], file: BackupFile) -> tuple[bytes, BackupFile]:
    """What somebody without the key may put together, with a checksum that is right for it."""
    data = b"".join(pieces)
    reader = FileWriter(file.name, "entries", "default", None, "")
    reader._count(data)
    told = reader.describe()
    return data, BackupFile(
        name=file.name,
        kind="entries",
        region="default",
        records=file.records,
        size=told.size,
        sha256=told.sha256,
    )


def test_blocks_of_an_encrypted_file_can_be_neither_moved_nor_dropped_nor_repeated():
    data, file = made([[entry(1)], [entry(2)], [entry(3)]], SECRET)
    head, one, two, three, last = frames(data)

    for pieces in (
        [head, two, one, three, last],
        [head, one, three, last],
        [head, one, one, two, three, last],
        [head, one, two, three],
        [head, one, last],
    ):
        with pytest.raises(BackupCorrupt, match=r"moved|truncated"):
            read(*forged(pieces, file), SECRET)


def test_an_encrypted_file_can_not_stand_in_for_another():
    data, _ = made([[entry(1)]], SECRET)
    _, other = made([[entry(1)]], SECRET, name="00000002-x/entries-00001.avro")

    with pytest.raises(BackupCorrupt, match="exchanged"):
        read(*forged([data], other), SECRET)


def test_nothing_of_an_entry_is_readable_without_the_key_and_no_two_files_are_alike():
    secret = [entry(1, key="customer:42", value=b"secret" * 50)]
    one, _ = made([secret], SECRET)
    two, _ = made([secret], SECRET)

    assert b"customer" not in one
    assert b"secret" not in one
    assert one[46:] != two[46:]


def test_a_block_with_more_than_it_says_is_refused():
    writer = BlockWriter(ENTRIES, {})
    block = writer.block([entry(1), entry(2)])
    assert block[0] == 4  # two, as Avro writes a number
    reader = BlockReader(ENTRIES, {})

    with pytest.raises(MalformedFile, match="more than its records"):
        list(reader.feed(writer.header + b"\x02" + block[1:]))


def test_a_file_of_another_format_is_refused():
    _, file = made([[entry(1)]])
    foreign = io.BytesIO()
    fastavro.writer(foreign, {"type": "record", "name": "X", "fields": []}, [{}])

    for data in (foreign.getvalue(), b"PK\x03\x04" + b"\0" * 100, b"\xff" * 70_000):
        with pytest.raises(BackupCorrupt):
            read(data, file)


# -- manifests


def manifest(**fields: Any) -> Manifest:
    given: dict[str, Any] = {
        "id": "00000001-x",
        "cache": "main",
        "backend": "memory",
        "sequence": 1,
        "kind": "full",
        "chain": ("00000001-x",),
        "started": 1.0,
        "finished": 2.0,
        "regions": {"default": RegionCounts(present=3, stored=3)},
        "files": (made([[entry(1)]])[1],),
    }
    return Manifest(**given | fields)


NO_KEYS = Keyring(None)
KEYS = Keyring(BackupEncryption(keys=[KEY]))


def test_a_manifest_is_read_as_it_was_written():
    right = manifest()

    found = load_manifest("m", dump_manifest(right, None), NO_KEYS)

    assert (found.files, found.regions, found.entries) == (right.files, right.regions, 3)


def test_no_changed_manifest_is_believed():
    written = dump_manifest(manifest(), None)

    for at in range(len(written) - 1):
        changed = written[:at] + bytes([written[at] ^ 1]) + written[at + 1 :]
        try:
            found = load_manifest("m", changed, NO_KEYS)
        except (BackupCorrupt, NotSupported):
            continue
        assert found == load_manifest("m", written, NO_KEYS)  # white space


def test_a_manifest_written_without_the_key_is_not_believed():
    key_id = SECRET.id
    wrong = SecretKey(b"x" * 32)

    forged = dump_manifest(manifest(key_id=key_id), wrong)

    with pytest.raises(BackupCorrupt, match="without the key"):
        load_manifest("m", forged, KEYS)


def test_the_wrong_key_is_named_and_no_key_is_shown():
    written = dump_manifest(manifest(key_id=SECRET.id), SECRET)

    with pytest.raises(WrongKey, match=SECRET.id) as caught:
        load_manifest("m", written, Keyring(BackupEncryption(keys=[OTHER_KEY])))
    with pytest.raises(WrongKey, match="none is configured"):
        load_manifest("m", written, NO_KEYS)

    assert OTHER_KEY not in str(caught.value)
    assert caught.value.key_id == SECRET.id


def test_a_manifest_of_a_newer_release_says_so():
    newer = dump_manifest(manifest(format=2), None)

    with pytest.raises(NotSupported, match="newer"):
        load_manifest("m", newer, NO_KEYS)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a/../../b", "", ".hidden"])
def test_no_name_in_a_manifest_leads_out_of_its_place(name):
    file = BackupFile(name=name, kind="entries", records=0, size=0, sha256="")
    written = dump_manifest(manifest(files=(file,)), None)

    with pytest.raises(BackupCorrupt, match="no name"):
        load_manifest("m", written, NO_KEYS)
