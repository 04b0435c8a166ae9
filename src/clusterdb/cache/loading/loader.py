"""A user's loader, and how it is called.

A loader of one key takes nothing or a :class:`LoadContext` and returns the value; a loader of many
takes the list of missing keys, and a context if it wants one, and returns a mapping. It may be a
coroutine function, which runs in the loop, or a plain function, which runs in a thread; a plain
function that returns an awaitable (``lambda: db.user(5)``) has that awaited in the loop.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from ..errors import InvalidArgument
from ..options import TTL, resolve_tags
from ..types import Stale
from .returns import returned_type
from .threads import BlockingRunner

__all__ = ["LoadContext", "Loader"]


class LoadContext:
    """What a loader that takes an argument is given.

    ``keys`` are the missing keys, ``key`` the first of them. ``stale`` is the expired entry that
    is still within its region's grace, if any (loads of one key only). The loader may set ``ttl``
    for what it returns; it starts as what the caller gave, or as the region's default.
    """

    def __init__(
        self, keys: Sequence[str], ttl: TTL, tags: tuple[str, ...], stale: Stale[Any] | None
    ) -> None:
        self.keys = tuple(keys)
        self.key = self.keys[0]
        self.ttl = ttl
        self.stale = stale
        self._tags = tags
        self._skipped = False

    def add_tags(self, *tags: str) -> None:
        """Tag the entry by something learnt while loading. The loader is run once more, so that
        an invalidation of the tag that came before it was known is not missed.
        """
        self._tags = resolve_tags(self._tags + tags)

    def skip(self) -> None:
        """Give the value to the callers, but don't store it."""
        self._skipped = True

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags the entry will have."""
        return self._tags

    @property
    def skipped(self) -> bool:
        """Whether :meth:`skip` was called."""
        return self._skipped


class Loader:
    """A loader with what is known of its shape."""

    __slots__ = ("_blocking", "_function", "_many", "_takes_context")

    @property
    def name(self) -> str:
        """What it is called in its source."""
        function = self._function
        while isinstance(function, partial):
            function = function.func
        return str(getattr(function, "__qualname__", type(function).__qualname__))

    @property
    def returns(self) -> Any:
        """The type of a value, by its annotation; ``None`` where that says none."""
        return returned_type(self._function, many=self._many)

    def __init__(self, function: Callable[..., Any], *, many: bool) -> None:
        if not callable(function):
            raise InvalidArgument(f"a loader is a function, not {type(function).__name__}")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise InvalidArgument("a loader can't be a generator: return the value itself")
        self._function = function
        self._many = many
        self._blocking = not _is_coroutine_function(function)
        self._takes_context = _positional_parameters(function) > (1 if many else 0)

    async def call(
        self, context: LoadContext, threads: BlockingRunner, *, nested: bool
    ) -> Mapping[str, Any]:
        """The values by key. Raises what the loader raises. ``nested``: inside another load."""
        arguments: list[Any] = [list(context.keys)] if self._many else []
        if self._takes_context:
            arguments.append(context)
        if self._blocking:
            result = await threads.run(partial(self._function, *arguments), limited=not nested)
        else:
            result = self._function(*arguments)
        if inspect.isawaitable(result):
            result = await result
        if inspect.isgenerator(result) or inspect.isasyncgen(result):
            raise InvalidArgument(
                f"the loader of {context.key!r} gave a generator, which can be read only once"
            )
        return _by_key(context.keys, result) if self._many else {context.key: result}


def _is_coroutine_function(function: Callable[..., Any]) -> bool:
    while isinstance(function, partial):
        function = function.func
    call = getattr(type(function), "__call__", None)  # noqa: B004 - its own, to look inside
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def _positional_parameters(function: Callable[..., Any]) -> int:
    """How many positional arguments a call must or may naturally give; defaults are not filled."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 0
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum([p.kind in positional and p.default is p.empty for p in parameters])


def _by_key(keys: Sequence[str], values: object) -> Mapping[str, Any]:
    if not isinstance(values, Mapping):
        raise InvalidArgument(
            f"a loader of many keys gives a mapping of keys to values, not {type(values).__name__}"
        )
    asked = set(keys)
    for key in values:
        if key not in asked:
            raise InvalidArgument(f"the loader gave a value for {key!r}, which was not asked for")
    return values
