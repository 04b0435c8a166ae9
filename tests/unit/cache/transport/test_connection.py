"""One connection for many callers: order, deadlines, back-pressure, and how a call ends."""

from __future__ import annotations

import asyncio
from math import inf
from typing import Any

import pytest
from tests.unit.cache.transport.wire import SMALL, Wire, bulk, push

from clusterdb.cache.errors import BackendUnavailable, OutcomeUnknown, ServerError
from clusterdb.cache.transport.connection import Connection


async def test_commands_of_one_turn_leave_in_one_write():
    wire = Wire()
    for n in range(100):
        wire.connection.call(("GET", b"k%d" % n), inf)
    assert wire.pipe.writes == []
    await wire.turn()

    assert len(wire.pipe.writes) == 1
    assert wire.commands() == [[b"GET", b"k%d" % n] for n in range(100)]


async def test_replies_go_to_their_calls_in_order_however_they_are_cut():
    wire = Wire()
    calls = [wire.connection.call(("GET", n), inf) for n in range(5)]
    await wire.turn()
    for byte in b"".join(bulk(b"v%d" % n) for n in range(5)):
        wire.answer(bytes([byte]))

    assert [call.result() for call in calls] == [b"v0", b"v1", b"v2", b"v3", b"v4"]


async def test_arguments_are_framed_by_length_so_no_byte_of_a_key_is_special():
    wire = Wire()
    hostile = [b"a\r\n$3\r\nDEL", b"", b"\x00 {x}*?", b"\r\nFLUSHALL\r\n", b"k" * 100_000]
    for key in hostile:
        wire.connection.call(("GET", key), inf)
    await wire.turn()

    assert wire.commands() == [[b"GET", key] for key in hostile]


async def test_many_commands_share_one_future_and_errors_stand_among_the_replies():
    wire = Wire()
    calls = wire.connection.calls([("GET", 1), ("GET", 2), ("GET", 3)], inf)
    after = wire.connection.call(("GET", 4), inf)
    await wire.turn()
    wire.answer(b":1\r\n-WRONGTYPE no\r\n:3\r\n:4\r\n")

    first, second, third = calls.result()
    assert (first, third, after.result()) == (1, 3, 4)
    assert isinstance(second, ServerError)
    assert second.code == "WRONGTYPE"


async def test_no_commands_need_no_server():
    wire = Wire()
    assert await wire.connection.calls([], inf) == []


@pytest.mark.parametrize(
    "code", ["MOVED", "ASK", "NOSCRIPT", "OOM", "READONLY", "LOADING", "CLUSTERDOWN", "TRYAGAIN"]
)
async def test_an_error_reply_is_raised_with_its_code(code):
    wire = Wire()
    call = wire.connection.call(("SET", "k", "v"), inf, write=True)
    await wire.turn()
    wire.answer(f"-{code} 3999 127.0.0.1:6381\r\n".encode())

    with pytest.raises(ServerError, match=f"{code} 3999") as caught:
        await call
    assert caught.value.code == code


async def test_errors_inside_of_a_reply_stay_inside():
    wire = Wire()
    call = wire.connection.call(("EXEC",), inf)
    await wire.turn()
    wire.answer(b"*2\r\n+OK\r\n-ERR no\r\n")

    ok, error = call.result()
    assert ok == b"OK"
    assert isinstance(error, ServerError)


# -- cancelled and late calls


async def test_a_cancelled_call_keeps_its_place():
    wire = Wire()
    first, second = [wire.connection.call(("GET", n), inf) for n in (1, 2)]
    await wire.turn()
    first.cancel()
    wire.answer(b":1\r\n:2\r\n")

    assert first.cancelled()
    assert second.result() == 2


async def test_a_late_call_keeps_its_place_and_its_reply_is_dropped():
    wire = Wire()
    late = wire.connection.call(("GET", 1), wire.time + 1)
    other = wire.connection.call(("GET", 2), wire.time + 9)
    await wire.turn()
    wire.later(1)
    assert type(wire.outcome(late)) is BackendUnavailable
    wire.answer(b":1\r\n:2\r\n")

    assert other.result() == 2


async def test_a_late_batch_swallows_all_its_replies():
    wire = Wire()
    late = wire.connection.calls([("GET", 1), ("GET", 2)], wire.time + 1)
    other = wire.connection.call(("GET", 3), wire.time + 9)
    await wire.turn()
    wire.answer(b":1\r\n")
    wire.later(1)
    wire.answer(b":2\r\n:3\r\n")

    assert type(wire.outcome(late)) is BackendUnavailable
    assert other.result() == 3


async def test_a_late_write_has_an_unknown_outcome():
    wire = Wire()
    late = wire.connection.call(("SET", 1, 2), wire.time + 1, write=True)
    await wire.turn()
    wire.later(1)

    assert type(wire.outcome(late)) is OutcomeUnknown


async def test_deadlines_of_any_order_are_kept():
    wire = Wire()
    spans = [3.0, 1.0, 2.0, 0.5, 9.0]
    calls = [wire.connection.call(("GET", n), wire.time + span) for n, span in enumerate(spans)]
    await wire.turn()
    ended = []
    for _ in range(40):
        wire.later(0.1)
        ended.append([span for span, call in zip(spans, calls, strict=True) if call.done()])

    assert ended[4] == [0.5]
    assert ended[10] == [1.0, 0.5]
    assert ended[20] == [1.0, 2.0, 0.5]
    assert ended[39] == [3.0, 1.0, 2.0, 0.5]


async def test_the_timer_is_a_real_one():
    loop = asyncio.get_running_loop()
    wire = Wire()
    wire.connection._now = loop.time
    call = wire.connection.call(("GET", 1), loop.time() + 0.02)

    with pytest.raises(BackendUnavailable, match="in time"):
        await asyncio.wait_for(call, 5)


# -- back-pressure


async def test_calls_above_the_limit_wait_in_order_unwritten():
    wire = Wire(SMALL)
    calls = [wire.connection.call(("GET", n), inf) for n in range(20)]
    await wire.turn()
    assert len(wire.commands()) == 8
    wire.answer(b":0\r\n:1\r\n:2\r\n")
    assert wire.commands() == [[b"GET", b"8"], [b"GET", b"9"], [b"GET", b"10"]]
    assert wire.connection.load == 17
    wire.answer(*[b":%d\r\n" % n for n in range(3, 11)])
    wire.answer(*[b":%d\r\n" % n for n in range(11, 19)])
    wire.answer(b":19\r\n")

    assert [call.result() for call in calls] == list(range(20))
    assert wire.connection.load == 0


async def test_nothing_is_written_while_the_socket_takes_nothing():
    wire = Wire()
    wire.connection.pause_writing()
    call = wire.connection.call(("GET", 1), inf)
    await wire.turn()
    assert wire.commands() == []
    wire.connection.resume_writing()
    assert wire.commands() == [[b"GET", b"1"]]
    wire.answer(b":1\r\n")

    assert call.result() == 1


async def test_a_call_that_waited_too_long_is_never_written():
    wire = Wire()
    wire.connection.pause_writing()
    write = wire.connection.call(("SET", 1, 2), wire.time + 1, write=True)
    patient = wire.connection.call(("GET", 3), wire.time + 9)
    await wire.turn()
    wire.later(1)
    assert type(wire.outcome(write)) is BackendUnavailable
    wire.connection.resume_writing()
    assert wire.commands() == [[b"GET", b"3"]]
    wire.answer(b":3\r\n")

    assert patient.result() == 3
    assert wire.connection.load == 0


async def test_a_caller_that_left_while_waiting_costs_the_server_nothing():
    wire = Wire(SMALL)
    calls = [wire.connection.call(("GET", n), inf) for n in range(20)]
    await wire.turn()
    for call in calls[8:18]:
        call.cancel()
    wire.commands()
    wire.answer(*[b":%d\r\n" % n for n in range(8)])

    assert wire.commands() == [[b"GET", b"18"], [b"GET", b"19"]]


async def test_one_large_command_goes_whatever_the_limit():
    wire = Wire(SMALL)
    call = wire.connection.call(("SET", "k", b"x" * 5000), inf, write=True)
    await wire.turn()
    assert wire.commands() == [[b"SET", b"k", b"x" * 5000]]
    wire.answer(b"+OK\r\n")

    assert call.result() == b"OK"


# -- pushes


async def test_a_push_is_handled_before_the_reply_behind_it():
    seen: list[str] = []
    calls: list[asyncio.Future[Any]] = []
    wire = Wire(on_push=lambda *_: seen.append(f"push, reply there: {calls[0].done()}"))
    call = wire.connection.call(("GET", 1), inf)
    await wire.turn()
    calls.append(call)
    wire.answer(push(b"k"), b":1\r\n")

    assert seen == ["push, reply there: False"]
    assert call.result() == 1


async def test_pushes_come_without_any_call():
    wire = Wire()
    wire.answer(push(b"a"), push(b"b"))

    assert wire.pushes == [[b"invalidate", [b"a"]], [b"invalidate", [b"b"]]]


async def test_a_push_handler_may_close_the_connection():
    wire = Wire(on_push=lambda connection, _: connection.abort("enough"))
    call = wire.connection.call(("GET", 1), inf)
    await wire.turn()
    wire.answer(push(b"k"), b":1\r\n")

    assert type(wire.outcome(call)) is BackendUnavailable
    assert wire.connection.lost == "enough"


# -- the end of a connection


async def test_each_call_ends_with_what_can_be_known_about_it():
    lost: list[Connection] = []
    wire = Wire(SMALL, on_lost=lost.append)
    read = wire.connection.call(("GET", 1), inf)
    write = wire.connection.call(("SET", 1, 2), inf, write=True)
    gone = wire.connection.call(("GET", 1), inf)
    filling = wire.connection.calls([("GET", 1)] * 8, inf)
    unwritten = wire.connection.call(("SET", 1, 2), inf, write=True)
    await wire.turn()
    gone.cancel()
    wire.connection.connection_lost(ConnectionResetError(104, "reset"))

    assert type(wire.outcome(read)) is BackendUnavailable
    assert type(wire.outcome(write)) is OutcomeUnknown
    assert type(wire.outcome(filling)) is BackendUnavailable
    assert type(wire.outcome(unwritten)) is BackendUnavailable
    assert "never sent" in str(wire.outcome(unwritten))
    assert lost == [wire.connection]
    with pytest.raises(BackendUnavailable, match="closed"):
        wire.connection.call(("GET", 1), inf)


async def test_the_end_is_told_before_any_caller_goes_on():
    order: list[str] = []
    wire = Wire(on_lost=lambda _: order.append("lost"))
    call = wire.connection.call(("GET", 1), inf)
    call.add_done_callback(lambda _: order.append("call"))
    await wire.turn()
    wire.connection.abort("closed")
    wire.connection.abort("again")
    wire.outcome(call)
    await wire.turn()

    assert order == ["lost", "call"]


@pytest.mark.parametrize("bytes_", [b"HTTP/1.1 400 Bad Request\r\n", b"*4294967295\r\n"])
async def test_what_is_not_resp_ends_the_connection(bytes_):
    wire = Wire()
    call = wire.connection.call(("GET", 1), inf)
    await wire.turn()
    wire.answer(bytes_)

    assert "not RESP3" in str(wire.outcome(call))
    assert wire.pipe.aborted


async def test_a_reply_that_nobody_asked_for_ends_the_connection():
    wire = Wire()
    call = wire.connection.call(("GET", 1), inf)
    await wire.turn()
    wire.answer(b":1\r\n:2\r\n")

    assert call.result() == 1
    assert wire.connection.lost is not None


async def test_a_server_that_is_silent_past_a_deadline_is_taken_for_lost():
    wire = Wire(silence=2)
    early = wire.connection.call(("GET", 1), wire.time + 1)
    patient = wire.connection.call(("SET", 1, 2), wire.time + 60, write=True)
    await wire.turn()
    wire.later(1)
    assert type(wire.outcome(early)) is BackendUnavailable
    assert wire.connection.lost is None
    wire.later(1)

    assert "silent for 2.0 s" in (wire.connection.lost or "")
    assert type(wire.outcome(patient)) is OutcomeUnknown


async def test_a_callers_own_timeout_hides_no_dead_server():
    wire = Wire(silence=2)
    call = wire.connection.call(("GET", 1), wire.time + 3)
    await wire.turn()
    call.cancel()
    wire.later(3)

    assert wire.connection.lost is not None


async def test_a_slow_server_that_still_speaks_is_not_lost():
    wire = Wire(silence=2)
    late = wire.connection.call(("GET", 1), wire.time + 1)
    wire.connection.call(("GET", 2), wire.time + 60)
    await wire.turn()
    for _ in range(10):
        wire.later(1)
        wire.answer(push(b"k"))
    assert wire.connection.lost is None
    wire.later(1.5)
    assert wire.connection.lost is None

    assert type(wire.outcome(late)) is BackendUnavailable


async def test_an_idle_connection_is_not_silent():
    wire = Wire(silence=2)
    wire.later(1000)
    call = wire.connection.call(("GET", 1), wire.time + 1)
    await wire.turn()
    wire.later(1)

    assert call.done()
    assert wire.connection.lost is None


async def test_a_retired_connection_ends_what_is_under_way_and_takes_nothing_new():
    wire = Wire()
    call = wire.connection.call(("GET", 1), inf)
    await wire.turn()
    wire.connection.retire()
    with pytest.raises(BackendUnavailable):
        wire.connection.call(("GET", 2), inf)
    assert wire.connection.lost is None
    wire.answer(b":1\r\n")

    assert call.result() == 1
    assert wire.connection.lost == "retired"
