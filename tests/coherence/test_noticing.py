"""What is awaited behaves as without it, and says whether it waited."""

from __future__ import annotations

import asyncio

import pytest
from tests.coherence.noticing import Noticing


async def at_once():
    return 7


async def after(seconds, answer=7):
    await asyncio.sleep(seconds)
    await asyncio.sleep(0)
    return answer


async def failing(seconds):
    await asyncio.sleep(seconds)
    raise LookupError("nothing there")


async def test_an_answer_at_once():
    call = Noticing(at_once())
    assert await call == 7
    assert not call.suspended


@pytest.mark.parametrize("seconds", [0, 0.001])
async def test_an_answer_that_was_waited_for(seconds):
    call = Noticing(after(seconds))
    assert await call == 7
    assert call.suspended


async def test_errors_come_through():
    with pytest.raises(LookupError):
        await Noticing(failing(0.001))


async def test_a_cancellation_reaches_the_call():
    ended = asyncio.Event()

    async def endless():
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()

    async def waits():
        await Noticing(endless())

    task = asyncio.create_task(waits())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
