"""Slots, and what servers say about them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterdb.cache.errors import ServerError
from clusterdb.cache.transport.slots import (
    Address,
    Redirect,
    SlotRange,
    redirect,
    slot_of,
    slot_ranges,
)

ASKED = Address("10.0.0.1", 7000)


@pytest.mark.parametrize(
    ("key", "slot"),
    [(b"123456789", 0x31C3), (b"foo", 12182), (b"", 0), (b"foo{}{bar}", 8363)],
)
def test_slots_of_the_specification(key, slot):
    assert slot_of(key) == slot


@given(tag=st.binary(min_size=1), before=st.binary(), after=st.binary())
def test_only_the_first_tag_counts(tag, before, after):
    tag, before = tag.replace(b"}", b""), before.replace(b"{", b"")
    if tag:
        assert slot_of(before + b"{" + tag + b"}" + after) == slot_of(tag) or b"{" in tag


def test_a_server_may_name_no_host_for_itself():
    reply = [[0, 8191, [b"", 7001, b"id"], [None, 7002, b"id"]], [8192, 16383, [b"h", 7003, b"id"]]]

    assert slot_ranges(reply, ASKED) == [
        SlotRange(0, 8191, Address("10.0.0.1", 7001), (Address("10.0.0.1", 7002),)),
        SlotRange(8192, 16383, Address("h", 7003), ()),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("MOVED 3999 127.0.0.1:6381", Redirect(3999, Address("127.0.0.1", 6381), ask=False)),
        ("ASK 3999 ::1:6381", Redirect(3999, Address("::1", 6381), ask=True)),
        ("MOVED 3999 :6381", Redirect(3999, Address("10.0.0.1", 6381), ask=False)),
        ("TRYAGAIN Multiple keys request", None),
    ],
)
def test_redirections(text, expected):
    assert redirect(ServerError(text), ASKED) == expected
