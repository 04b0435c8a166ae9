import gzip
import hashlib
from array import array
from importlib import resources

from clusterdb.cache.cli.demo.trace import ATTRIBUTION, read_trace

DATA = resources.files("clusterdb.cache").joinpath("data")
FILE = DATA.joinpath("orm-busy-200k.u32.gz")
SHA256 = "02d2e0c07a0b8e332e541439b16a116902fa91006bb52818cfc762302f34cf42"


def test_the_trace_is_the_one_its_readme_describes():
    content = gzip.decompress(FILE.read_bytes())

    assert len(content) == 4 * 200_000
    assert hashlib.sha256(content).hexdigest() == SHA256
    assert SHA256 in DATA.joinpath("README.md").read_text(encoding="utf-8")


def test_the_file_can_be_written_again_byte_by_byte():
    packed = FILE.read_bytes()

    assert packed[:4] == b"\x1f\x8b\x08\x00"  # gzip, deflate, and no name of a file
    assert packed[4:8] == bytes(4)  # no time


def test_ids_are_dense_and_in_order_of_first_appearance():
    trace = read_trace()
    firsts = list(dict.fromkeys(trace))

    assert len(trace) == 200_000
    assert firsts == list(range(22_024))


def test_reading_does_not_depend_on_the_byte_order(monkeypatch):
    here = read_trace()
    monkeypatch.setattr("sys.byteorder", "big")
    swapped = read_trace()
    swapped.byteswap()

    assert swapped == here


def test_the_source_and_its_licence_are_named():
    readme = DATA.joinpath("README.md").read_text(encoding="utf-8")

    for text in (readme, ATTRIBUTION):
        assert "headissue GmbH, Jens Wilke" in text
        assert "CC BY 4.0" in text
    assert isinstance(read_trace(), array)
