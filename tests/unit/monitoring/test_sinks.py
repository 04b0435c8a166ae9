"""Sinks that hang, fail and flood: who is alerted must not harm who alerts."""

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from clusterdb.monitoring import Alert, Webhook, log_alert
from clusterdb.monitoring.sinks import Delivery, deliver


def alert(number: int = 1, state="firing") -> Alert:
    return Alert(
        name="max_eviction_rate",
        state=state,
        labels={"cache": "main", "region": "r"},
        value=float(number),
        limit=1.0,
        lasted=0.0,
        remedy="raise the limits",
    )


async def settled(delivery: Delivery) -> None:
    if delivery._task is not None:
        await asyncio.wait([delivery._task], timeout=10)


@pytest.mark.parametrize("plain", [True, False])
async def test_alerts_arrive_in_order(plain):
    seen: list[float | None] = []

    def note(each: Alert) -> None:
        seen.append(each.value)

    async def noted(each: Alert) -> None:
        seen.append(each.value)

    delivery = Delivery(note if plain else noted)
    delivery.offer([alert(number) for number in range(5)])
    await settled(delivery)

    assert seen == [0, 1, 2, 3, 4]
    assert delivery.outcomes.sent == 5


async def test_one_that_hangs_is_cut_off_and_the_next_is_tried(caplog):
    tried = 0

    async def hang(each: Alert) -> None:
        nonlocal tried
        tried += 1
        await asyncio.Event().wait()

    delivery = Delivery(hang, timeout=0.02)
    delivery.offer([alert(), alert()])
    await settled(delivery)

    assert (tried, delivery.outcomes.timed_out) == (2, 2)
    assert len([each for each in caplog.messages if "ran past 0.02 s" in each]) == 1


async def test_a_plain_one_that_hangs_keeps_one_thread_and_no_more():
    release, calls = threading.Event(), []

    def hang(each: Alert) -> None:
        calls.append(each)
        release.wait(30)

    delivery = Delivery(hang, timeout=0.05)
    delivery.offer([alert(number) for number in range(4)])
    await settled(delivery)
    held = [each for each in threading.enumerate() if each.name == "clusterdb-alert"]
    release.set()

    assert len(calls) == len(held) == 1
    assert delivery.outcomes.timed_out + delivery.outcomes.failed == 4
    held[0].join(5)


async def test_one_that_raises_is_counted_and_logged_once(caplog):
    def fail(each: Alert) -> None:
        raise ValueError("no such pager")

    delivery = Delivery(fail)
    delivery.offer([alert(), alert()])
    await settled(delivery)

    assert delivery.outcomes.failed == 2
    assert len([each for each in caplog.messages if "no such pager" in each]) == 1


async def test_a_queue_is_bounded_and_keeps_the_latest():
    seen: list[float | None] = []

    async def note(each: Alert) -> None:
        seen.append(each.value)

    delivery = Delivery(note, queue=3)
    delivery.offer([alert(number) for number in range(10)])
    await settled(delivery)

    assert seen == [7, 8, 9]
    assert delivery.outcomes.dropped == 7


async def test_closing_waits_for_what_can_be_sent_and_not_for_ever():
    async def hang(each: Alert) -> None:
        await asyncio.Event().wait()

    delivery = Delivery(hang)
    delivery.offer([alert(), alert()])
    async with asyncio.timeout(5):
        await delivery.aclose(within=0.01)
        await delivery.aclose()
    assert delivery.outcomes.dropped == 1


async def test_the_log_says_what_to_do(caplog):
    caplog.set_level(logging.INFO, "clusterdb.monitoring")
    await log_alert(alert())
    await log_alert(alert(state="resolved"))

    first, second = caplog.records
    assert (first.levelname, second.levelname) == ("WARNING", "INFO")
    assert "raise the limits" in first.getMessage()
    assert "is over" in second.getMessage()


def test_what_can_t_be_called_is_refused():
    with pytest.raises(ValueError, match="a sink is a function of one alert, got 'pager'"):
        deliver(["pager"])  # type: ignore[list-item]


# --- the webhook ---------------------------------------------------------------------------------

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(answer: Answer) -> AsyncIterator[str]:
    ends: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends.append(writer)
        await answer(reader, writer)

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/hook?token=secret"
    finally:
        listening.close()
        for writer in ends:
            writer.transport.abort()


def replying(status: bytes, requests: list[bytes]) -> Answer:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split()[0])
        requests.append(head + await reader.readexactly(length))
        writer.write(status)

    return answer


async def test_a_webhook_is_given_json():
    requests: list[bytes] = []
    async with server(replying(b"HTTP/1.1 204 No Content\r\n\r\n", requests)) as url:
        await Webhook(url, headers={"X-Who": "cache"})(alert(7))
    head, _, body = requests[0].partition(b"\r\n\r\n")

    assert head.startswith(b"POST /hook?token=secret HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"X-Who: cache" in head
    sent = json.loads(body)
    assert (sent["name"], sent["state"], sent["value"]) == ("max_eviction_rate", "firing", 7.0)
    assert sent["labels"] == {"cache": "main", "region": "r"}
    assert "raise the limits" in sent["text"]


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (b"HTTP/1.1 500 Oops\r\n\r\n", "answered 500"),
        (b"HTTP/1.1 302 Elsewhere\r\nLocation: http://127.0.0.1:1/\r\n\r\n", "answered 302"),
        (b"SSH-2.0-OpenSSH\r\n", "no HTTP answer"),
        (b"x" * 5000 + b"\n", "no HTTP answer"),
    ],
)
async def test_what_a_webhook_does_not_take_is_a_failure_without_its_secret(status, said, caplog):
    async with server(replying(status, [])) as url:
        delivery = Delivery(Webhook(url), timeout=5)
        delivery.offer([alert()])
        await settled(delivery)

    assert delivery.outcomes.failed == 1
    assert said in caplog.text
    assert "secret" not in caplog.text + repr(Webhook(url))


async def test_a_webhook_that_never_answers_is_bounded_and_the_loop_goes_on():
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    async with server(silent) as url:
        delivery = Delivery(Webhook(url), timeout=0.1)
        delivery.offer([alert()])
        steps = 0
        while delivery._task is not None and not delivery._task.done():
            steps += 1
            await asyncio.sleep(0.001)

    assert delivery.outcomes.timed_out == 1
    assert steps > 5


async def test_a_webhook_that_is_not_there_is_a_failure():
    async with server(replying(b"", [])) as url:
        pass  # nobody listens there any more
    delivery = Delivery(Webhook(url))
    delivery.offer([alert()])
    await settled(delivery)

    assert delivery.outcomes.failed == 1


@pytest.mark.parametrize(
    "url", ["", "ftp://host/x", "http://", "http://h:0/", "http://h/a b", "http://h\r\nX: y/", 7]
)
def test_a_wrong_address_is_refused_without_being_shown(url):
    with pytest.raises(ValueError, match="expected http") as raised:
        Webhook(url)
    if isinstance(url, str) and len(url) > 8:
        assert url not in str(raised.value)


def test_headers_can_t_end_early():
    with pytest.raises(ValueError, match="characters that a header can't have"):
        Webhook("http://h/", headers={"A": "b\r\nC: d"})
