"""Messages between processes: their bytes, their bounds, and whatever else somebody sends."""

import json
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterdb.cache.events import (
    Cleared,
    EntrySet,
    Event,
    EventGap,
    Invalidated,
    Loaded,
    TagInvalidated,
)
from clusterdb.cache.events.types import event_kinds
from clusterdb.cache.events.wire import MAX_BYTES, Message, Refused, pack, unpack

SENDER = "0123456789abcdef"


def packed(*events: Event, sent: int = 0, origin: str = "host:1") -> list[bytes]:
    return list(pack("main", SENDER, origin, sent, events))


def refusal(data: bytes) -> str:
    with pytest.raises(Refused) as caught:
        unpack(data)
    return caught.value.reason


def test_the_bytes_of_version_1():
    """Other languages read them: a change is a new version."""
    set_ = EntrySet(region="default", key="user:1", version=7, tags=("user",), time=1.5)
    gone = TagInvalidated(tag="é", time=2.0)
    [message] = packed(set_, gone, sent=3)
    assert message == (
        b'{"v":1,"cache":"main","sender":"0123456789abcdef","origin":"host:1","sent":3,"events":['
        b'{"kind":"set","time":1.5,"origin":"","region":"default","key":"user:1","version":7,'
        b'"tags":["user"]},'
        b'{"kind":"invalidate_tag","time":2.0,"origin":"","tag":"\xc3\xa9","entries":0}]}'
    )
    assert packed(sent=5) == [
        b'{"v":1,"cache":"main","sender":"0123456789abcdef","origin":"host:1","sent":5,"events":[]}'
    ]


def test_what_another_language_leaves_out_has_its_default():
    data = json.dumps({
        "v": 1, "cache": "main", "sender": "x", "origin": "go:1", "sent": 0,
        "events": [{"kind": "invalidate", "region": "default", "key": "k"}], "more": 1,
    }).encode()  # fmt: skip
    [event] = unpack(data).events
    assert event == Invalidated(region="default", key="k", origin="go:1")


def samples() -> list[Event]:
    fields: dict[str, Any] = {
        "region": "r", "key": "k", "tag": "t", "count": 1, "seconds": 1.0, "outcome": "ok",
        "pattern": "p*", "node": "n",
    }  # fmt: skip
    return [
        kind(**{name: fields[name] for name in kind.__struct_fields__ if name in fields})
        for kind in event_kinds().values()
    ]


def test_every_kind_comes_back_with_its_origin():
    [data] = packed(*samples(), sent=9)
    message = unpack(data)
    expected = [msgspec.structs.replace(event, origin="host:1") for event in samples()]
    assert message == Message("main", SENDER, 9, expected)


def test_many_events_go_in_as_few_messages_as_fit_and_keep_their_numbers():
    events = [Invalidated(region="r", key=f"{n}" + "k" * 500) for n in range(2500)]
    messages = packed(*events, sent=10)
    assert all(len(message) <= MAX_BYTES for message in messages)
    assert len(messages) < 30
    sent, keys = 10, []
    for message in map(unpack, messages):
        assert message.sent == sent
        sent += len(message.events)
        keys += [event.key for event in message.events]
    assert keys == [event.key for event in events]


def test_an_event_that_fits_into_no_message_is_told_as_a_gap():
    small = Cleared(region="r")
    [data] = packed(small, Invalidated(region="r", key="k" * MAX_BYTES), small)
    [before, gap, after] = unpack(data).events
    assert isinstance(gap, EventGap)
    assert (gap.count, gap.reason) == (1, "large")
    assert isinstance(before, Cleared)
    assert isinstance(after, Cleared)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "garbage"),
        (b"\xff\xfe", "garbage"),
        (b"null", "garbage"),
        (b"[]", "garbage"),
        (b"{}", "garbage"),
        (b'{"v":"1"}', "garbage"),
        (b'{"v":2}', "unknown"),
        (b'{"v":0,"cache":"main"}', "unknown"),
        (b'{"v":1}', "garbage"),
        (b"[" * 60_000, "garbage"),
        (b'{"v":' + b"[" * 60_000, "garbage"),
        (b"x" * (MAX_BYTES + 1), "oversized"),
    ],
)
def test_what_is_no_message_is_refused_by_its_reason(data, reason):
    assert refusal(data) == reason


HEAD = {"v": 1, "cache": "main", "sender": "x", "origin": "o", "sent": 0}


@pytest.mark.parametrize(
    "change",
    [
        {"events": [{"kind": "insert", "region": "r", "key": "k", "value": "x"}]},
        {"events": [{"kind": "set", "region": "r"}]},
        {"events": [{"kind": "set", "region": 1, "key": "k"}]},
        {"events": [{"kind": "gap", "count": -1}]},
        {"events": [{"kind": "set", "region": "r", "key": "k", "version": -1}]},
        {"events": [{}] * 2000},
        {"events": None},
        {"sent": -1, "events": []},
        {"sent": 2**63, "events": []},
        {"sender": "", "events": []},
        {"sender": "x" * 65, "events": []},
        {"cache": "x" * 65, "events": []},
        {"origin": "x" * 600, "events": []},
    ],
)
def test_what_breaks_a_bound_is_garbage(change):
    assert refusal(json.dumps(HEAD | change).encode()) == "garbage"


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_refused(data):
    with suppress(Refused):
        unpack(data)


@given(st.data())
def test_a_damaged_message_is_a_message_or_refused(data):
    [whole] = packed(*samples())
    at = data.draw(st.integers(0, len(whole) - 1))
    cut = whole[:at] + data.draw(st.binary(max_size=4)) + whole[at + 1 :]
    with suppress(Refused):
        unpack(cut)


def test_events_of_a_load_keep_their_outcome():
    [data] = packed(Loaded(region="r", key="k", seconds=0.5, outcome="timeout"))
    assert unpack(data).events[0].outcome == "timeout"
