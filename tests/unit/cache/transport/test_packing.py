"""Commands as bytes: what a parser of the protocol makes of them is the command again."""

from __future__ import annotations

from typing import Any

from hiredis import Reader, pack_command
from hypothesis import given
from hypothesis import strategies as st

from clusterdb.cache.transport.packing import pack

WORDS = st.sampled_from(["GET", "SET", "PX", "EVALSHA", "get", ""])
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=600)
DRIVER: Any = pack_command
ARGUMENTS = WORDS | TEXT | st.binary(max_size=600) | st.integers()


@given(st.lists(ARGUMENTS, min_size=1, max_size=20))
def test_a_command_is_read_as_it_was(command):
    reader = Reader()
    reader.feed(pack(tuple(command)))

    assert reader.gets() == [
        each if isinstance(each, bytes) else str(each).encode() for each in command
    ]
    assert reader.gets() is False


@given(st.floats(allow_nan=False))
def test_other_numbers_are_the_driver_s(number):
    assert pack(("SET", b"key", number)) == DRIVER(("SET", b"key", number))
