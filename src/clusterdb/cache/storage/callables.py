"""A storage of any kind, by functions of the user's own.

What holds: a read gives what ``load`` gives; a write that returned was made by ``write`` or
``delete``. What does not: several rows are not written all or none, and where a function fails some
may have been written, so that functions must bear to be called again with the same; no row has a
version, so that a late write can't be told from an early one; nobody is told of changes. What is
done before a commit is done before the functions are called: a fence stands by then.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, NoReturn

from ..config import CallableStorage
from ..errors import CacheError, NotSupported, RowRefused, StorageUnavailable
from ..rows import (
    Row,
    RowChange,
    RowChanged,
    RowWritten,
    StorageCapability,
    StorageInfo,
)
from ..types import MISSING
from ..upkeep import Space

__all__ = ["CallableRows"]

_MADE: Final = RowWritten(applied=True, version=0)


class CallableRows:
    """Rows behind functions. Nothing is opened, and nothing closed."""

    kind: ClassVar[str] = "callable"
    capabilities: ClassVar[frozenset[StorageCapability]] = frozenset({"objects"})

    def __init__(self, config: CallableStorage) -> None:
        self._config = config

    @property
    def deadline(self) -> float:
        return self._config.timeout

    async def open(self) -> None:
        """Nothing."""

    async def aclose(self) -> None:
        """Nothing."""

    async def read(self, region: str, keys: Sequence[str]) -> list[Row | None]:
        del region
        if not keys:
            return []
        found = await self._call("load", self._config.load, list(dict.fromkeys(keys)))
        if not isinstance(found, Mapping):
            raise StorageUnavailable(
                f"load returned a {type(found).__qualname__}: it returns a mapping of keys to "
                f"values, with those that are there"
            )
        return [Row(key, found[key], 0) if key in found else None for key in keys]

    async def write(
        self,
        changes: Sequence[RowChange],
        *,
        atomic: bool = False,
        before_commit: Callable[[Sequence[RowWritten | CacheError]], Awaitable[None]] | None = None,
    ) -> list[RowWritten | CacheError]:
        outcomes = [self._refusal(change, atomic) or _MADE for change in changes]
        if before_commit is not None and changes:
            await self._bounded("before_commit", before_commit(outcomes))
        sound = [at for at, outcome in enumerate(outcomes) if outcome is _MADE]
        puts = {at: changes[at] for at in sound if changes[at].value is not MISSING}
        drops = {at: changes[at] for at in sound if changes[at].value is MISSING}
        if puts:
            await self._make(outcomes, puts, self._put)
        if drops:
            await self._make(outcomes, drops, self._drop)
        return outcomes

    def _refusal(self, change: RowChange, atomic: bool) -> CacheError | None:
        if atomic:
            return NotSupported("functions can't write all of several rows or none of them")
        if change.when != "always" or change.expect is not None or change.version is not None:
            return NotSupported(
                f"{change.key!r}: functions can't judge a condition, or compare versions"
            )
        name = "delete" if change.value is MISSING else "write"
        if getattr(self._config, name) is None:
            return NotSupported(f"{change.key!r}: the storage has no function {name}=")
        return None

    async def _make(
        self,
        outcomes: list[RowWritten | CacheError],
        changes: dict[int, RowChange],
        make: Callable[[Sequence[RowChange]], Awaitable[None]],
    ) -> None:
        """All in one call; where that fails for a row's sake, each alone, to find it."""
        try:
            await make(list(changes.values()))
        except RowRefused as error:
            if len(changes) == 1:
                outcomes[next(iter(changes))] = error
                return
        else:
            return
        for at, change in changes.items():
            try:
                await make([change])
            except RowRefused as error:
                outcomes[at] = error

    async def _put(self, changes: Sequence[RowChange]) -> None:
        values = {change.key: change.value for change in changes}
        await self._call("write", self._config.write, values)

    async def _drop(self, changes: Sequence[RowChange]) -> None:
        await self._call("delete", self._config.delete, [change.key for change in changes])

    async def _call(self, name: str, function: Any, given: Any) -> Any:
        """What a function returns. An error of the network or a timeout is one of the storage;
        any other is one of what was given.
        """
        try:
            return await self._bounded(name, _called(function, given))
        except CacheError:
            raise
        except OSError as error:
            raise StorageUnavailable(
                f"{name} failed: {error}; rows may have been written"
            ) from error
        except Exception as error:
            if name == "load":
                raise StorageUnavailable(f"load failed: {error!r}") from error
            [first, *_] = given
            raise RowRefused(first, type(error).__qualname__, str(error)) from error

    async def _bounded(self, name: str, what: Awaitable[Any]) -> Any:
        limit = asyncio.timeout(self.deadline)
        try:
            async with limit:
                return await what
        except TimeoutError:
            if limit.expired():
                raise StorageUnavailable(
                    f"{name} took longer than {self.deadline:g} s (timeout); "
                    f"rows may have been written"
                ) from None
            raise

    # -- what functions don't have

    async def scan(self, region: str, batch_size: int) -> AsyncGenerator[list[Row], None]:
        del region, batch_size
        _cannot("give all rows")
        yield []

    async def clear(self, regions: Sequence[str]) -> int:
        del regions
        _cannot("delete all rows: invalidate them, and delete them where they are")

    async def position(self) -> str:
        _cannot("tell of changes")

    async def changes(self, after: str, limit: int) -> tuple[list[RowChanged], str]:
        del after, limit
        _cannot("tell of changes")

    async def wait(self, timeout: float) -> None:
        del timeout
        _cannot("tell of changes")

    async def prune(self, older_than: float) -> int:
        del older_than
        return 0

    async def space(self) -> list[Space]:
        return []

    async def describe(self) -> StorageInfo:
        load = self._config.load
        return StorageInfo(self.kind, getattr(load, "__qualname__", repr(load)))


def _cannot(what: str) -> NoReturn:
    raise NotSupported(f"a storage of functions can't {what}")


async def _called(function: Any, given: Any) -> Any:
    """A coroutine function runs in the loop, any other in a thread."""
    if inspect.iscoroutinefunction(function):
        return await function(given)
    found = await asyncio.to_thread(function, given)
    return await found if inspect.isawaitable(found) else found
