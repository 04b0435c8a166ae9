"""An event loop whose schedule is drawn from a seed and whose time is virtual.

What asyncio promises stays: callbacks of ``call_soon`` run in their order, timers in theirs, and
a task takes one step at a time. What it does not promise is drawn: in each round every task that
could take a step is held back with probability one half, and the others go in random order.
Timers fire when nothing else can run, so nothing ever really waits. Tasks hash by their birth,
not by their address, so that sets of them iterate alike in each run: a seed replays exactly.

It rests on private parts of CPython's ``BaseEventLoop``, and so it is for tests only. Threads can't
wake it.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

__all__ = ["Hang", "LoopClock", "SeededLoop", "run_seeded"]

_START = 1000.0


class Hang(Exception):
    """Nothing is left that could ever run, or the scenario ran past its virtual time."""


class _Task(asyncio.Task[Any]):
    """A task whose hash is the number of its birth."""

    def __init__(self, coro: Coroutine[Any, Any, Any], **options: Any) -> None:
        loop = options["loop"]
        loop.births += 1
        self._birth: int = loop.births
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self._birth

    def __eq__(self, other: object) -> bool:
        return self is other


def _make_task(loop: Any, coro: Any, **options: Any) -> Any:
    return _Task(coro, loop=loop, **options)


class SeededLoop(asyncio.BaseEventLoop):
    """The loop; ``limit`` is in virtual seconds, ``trouble`` what nobody caught."""

    _ready: deque[Any]

    def __init__(self, seed: object, limit: float = 60.0) -> None:
        super().__init__()
        self.random = random.Random(f"schedule {seed}")
        self.births = 0
        self.trouble: list[str] = []
        self._virtual = _START
        self._end = _START + limit
        self._selector = self
        self.set_task_factory(_make_task)
        self.set_exception_handler(self._note)

    def time(self) -> float:
        """The virtual time."""
        return self._virtual

    def more_time(self, seconds: float) -> None:
        """Move the limit: what comes now may take ``seconds``."""
        self._end = self._virtual + seconds

    def select(self, timeout: float | None) -> list[Any]:
        """Where a real loop would wait, time jumps."""
        if timeout is None:
            raise Hang("every task waits for another")
        self._virtual += timeout
        if self._virtual > self._end:
            raise Hang("the virtual time is over")
        return []

    def _run_once(self) -> None:
        held = self._draw()
        super()._run_once()  # type: ignore[misc]
        self._ready.extendleft(held)

    def _draw(self) -> list[Any]:
        """Order what is ready; the steps that are held back until the next round."""
        ready, draw = self._ready, self.random.random
        steps = [handle for handle in ready if _is_step(handle)]
        if len(steps) < 2:
            return []
        others = [handle for handle in ready if not _is_step(handle)]
        self.random.shuffle(steps)
        chosen, held = steps[:1], list[Any]()
        for step in steps[1:]:
            (chosen if draw() < 0.5 else held).append(step)
        ready.clear()
        ready.extend(others + chosen)
        return held

    def _note(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.trouble.append(f"{context['message']}: {context.get('exception')!r}")

    def _process_events(self, event_list: list[Any]) -> None:
        """There are no sockets."""

    def _write_to_self(self) -> None:
        """There are no threads."""


def _is_step(handle: Any) -> bool:
    return isinstance(getattr(handle._callback, "__self__", None), asyncio.Task)


class LoopClock:
    """The cache's clock in a seeded loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.now: Callable[[], float] = loop.time

    def wall(self) -> float:
        return self.now()


def run_seeded(main: Coroutine[Any, Any, Any], loop: SeededLoop) -> None:
    """Run ``main`` to its end and close the loop; raises :class:`Hang`."""
    try:
        loop.run_until_complete(main)
    finally:
        _end_tasks(loop)
        loop.close()


def _end_tasks(loop: SeededLoop) -> None:
    """End what a hang left behind."""
    loop.more_time(5.0)
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        try:
            loop.run_until_complete(asyncio.wait(tasks, timeout=1.0))
        except (Hang, RuntimeError) as error:
            loop.trouble.append(f"tasks would not end: {error}")
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]
