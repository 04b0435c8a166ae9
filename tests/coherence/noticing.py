"""Whether a call was answered without waiting, which is what a near hit is."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from typing import Any

__all__ = ["Noticing"]


class Noticing:
    """Await it instead of the call: ``suspended`` then says whether the call ever waited."""

    def __init__(self, call: Coroutine[Any, Any, Any]) -> None:
        self._call = call
        self.suspended = False

    def __await__(self) -> Generator[Any, Any, Any]:
        try:
            step = self._call.send(None)
        except StopIteration as end:
            return end.value
        self.suspended = True
        return (yield from _rest(self._call, step))


def _rest(call: Coroutine[Any, Any, Any], step: Any) -> Generator[Any, Any, Any]:
    """Go on with a call that has given its first future to the loop already."""
    while True:
        try:
            sent = yield step
        except BaseException as error:  # noqa: BLE001 - it belongs to the call, such as its cancellation
            forward = error
            try:
                step = call.throw(forward)
            except StopIteration as end:
                return end.value
            continue
        try:
            step = call.send(sent)
        except StopIteration as end:
            return end.value
