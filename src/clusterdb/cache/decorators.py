"""``cached``: a function whose results live in a region of the cache.

``@cache.cached`` works on plain and coroutine functions, methods and classmethods, and keeps the
signature for type checkers. The wrapper has ``invalidate``, ``refresh``, ``peek``, ``key``,
``bypass``, ``cache_info``, ``cache_clear`` and ``__wrapped__``. A plain function runs in the thread
that called it first; all who call it meanwhile wait for that one call.

``@cache.cached_many`` is for functions of a collection of items that return a mapping: each item
has an entry of its own, and one call loads those that are missing.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import cached_property, partial, update_wrapper
from types import MethodType
from typing import (
    Any,
    Concatenate,
    Final,
    Generic,
    NamedTuple,
    ParamSpec,
    Self,
    TypeVar,
    cast,
    get_args,
    get_type_hints,
    overload,
)

from msgspec import UNSET, UnsetType

from .arguments import Template, call_key
from .calls import CallKeys
from .errors import InvalidArgument
from .keys import check_key
from .options import TTL, resolve_tags
from .regions import Region
from .types import MISSING
from .units import ttl_seconds

__all__ = [
    "AsyncCached",
    "AsyncCachedMany",
    "CacheInfo",
    "Cached",
    "CachedMany",
    "Caching",
    "CachingMany",
    "Decorator",
    "ManyDecorator",
]

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")
D = TypeVar("D")

_FUNCTION_TAG: Final = "function"


class CacheInfo(NamedTuple):
    """How often calls were answered without running the function, and how often not."""

    hits: int
    misses: int


class _Shared:
    """What the bound and unbound forms of one decorated function share."""

    def __init__(
        self, region: Region[Any], function: Callable[..., Any], keys: CallKeys, ttl: Any
    ) -> None:
        self.region = region
        self.state = region.access.state
        self.function = function
        self.keys = keys
        self.ttl = ttl
        self.tag = f"{_FUNCTION_TAG}:{keys.function}"
        self._lock = threading.Lock()
        self._hits = 0
        self._misses = 0

    @cached_property
    def returns(self) -> Any:
        """The type of a result where results become bytes: the function's own annotation."""
        return self.region.access.returned(self.function, many=False)

    @cached_property
    def hit(self) -> Callable[[str], object]:
        """The region's hit path."""
        return (
            self.region.hit if self.returns is None else partial(self.region.hit, type=self.returns)
        )

    def named(self, load: Callable[..., Any]) -> Callable[..., Any]:
        """A loader under the name of the function, for messages."""
        load.__qualname__ = self.keys.function
        return load

    def count(self, hit: bool) -> None:
        with self._lock:
            if hit:
                self._hits += 1
            else:
                self._misses += 1

    def info(self) -> CacheInfo:
        with self._lock:
            return CacheInfo(self._hits, self._misses)

    def reset(self) -> None:
        with self._lock:
            self._hits = self._misses = 0

    @cached_property
    def bound_signature(self) -> inspect.Signature:
        """The signature of the function as a method."""
        return inspect.signature(MethodType(self.function, self))


class _Run:
    """A call that is no hit at once; it turns out to be one if the function need not run."""

    __slots__ = ("_shared", "began")

    def __init__(self, shared: _Shared) -> None:
        self._shared = shared
        self.began = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._shared.count(kind is None and not self.began)


class _Decorated(Generic[P, R]):
    """Base of the wrappers: a function with the arguments it is bound to, if any."""

    def __init__(self, shared: _Shared, bound: tuple[Any, ...] = ()) -> None:
        update_wrapper(cast("Any", self), shared.function)
        self._shared = shared
        self._bound = bound

    def __reduce__(self) -> str:
        return cast("str", cast("Any", self).__qualname__)

    def __repr__(self) -> str:
        return f"<cached {self._shared.keys.function}>"

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """The key of the entry of a call with these arguments."""
        return self._call(args, kwargs)[0]

    def cache_info(self) -> CacheInfo:
        """Hits and misses of this function's calls."""
        return self._shared.info()

    def _bind(self, instance: Any) -> Self:
        bound = object.__new__(type(self))
        vars(bound).update(vars(self))
        bound._bound = (instance,)
        cast("Any", bound).__signature__ = self._shared.bound_signature
        return bound

    def _call(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[str, tuple[str, ...], Callable[[], Any]]:
        """Key, tags and the call itself."""
        shared = self._shared
        args = self._bound + args
        key, tags = shared.keys.key_and_tags(args, kwargs)
        return key, (shared.tag, *tags), partial(shared.function, *args, **kwargs)


class AsyncCached(_Decorated[P, R]):
    """A decorated coroutine function."""

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        shared = self._shared
        key, tags, call = self._call(args, kwargs)
        state = shared.state
        value: Any = MISSING if state.pace.horizon and state.soon(key) else shared.hit(key)
        if value is not MISSING:
            shared.count(True)
            return value  # type: ignore[no-any-return]
        with _Run(shared) as run:

            async def load() -> Any:
                run.began = True
                return await call()

            found: R = await shared.region.get_or_load(
                key, shared.named(load), type=shared.returns, ttl=shared.ttl, tags=tags
            )
            return found

    @overload
    def __get__(
        self: AsyncCached[Concatenate[type[Any], Q], R], instance: Any, owner: type
    ) -> AsyncCached[Q, R]: ...
    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(
        self: AsyncCached[Concatenate[S, Q], R], instance: S, owner: type | None = None
    ) -> AsyncCached[Q, R]: ...
    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else self._bind(instance)

    # So that inspect.iscoroutinefunction() says what it says of the function itself.
    __code__ = __call__.__code__
    __defaults__ = None
    __kwdefaults__ = None

    async def bypass(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself; the cache is neither asked nor told."""
        return await self._shared.function(*self._bound, *args, **kwargs)  # type: ignore[no-any-return]

    async def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Remove the result of a call with these arguments; whether there was one."""
        return await self._shared.region.invalidate(self.key(*args, **kwargs))

    async def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function now, and store its result."""
        await self.invalidate(*args, **kwargs)
        key, tags, call = self._call(args, kwargs)
        shared = self._shared
        return await shared.region.get_or_load(
            key, call, type=shared.returns, ttl=shared.ttl, tags=tags
        )

    async def peek(self, *args: P.args, **kwargs: P.kwargs) -> R | None:
        """The stored result of a call with these arguments, else ``None``; calls nothing."""
        shared = self._shared
        return await shared.region.get(self.key(*args, **kwargs), type=shared.returns)

    async def cache_clear(self) -> None:
        """Remove every result of this function, in O(1), and reset :meth:`cache_info`."""
        await self._shared.region.invalidate_tag(self._shared.tag)
        self._shared.reset()


class Cached(_Decorated[P, R]):
    """A decorated plain function."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        shared = self._shared
        key, tags, call = self._call(args, kwargs)
        state = shared.state
        value: Any = MISSING if state.pace.horizon and state.soon(key) else shared.hit(key)
        if value is not MISSING:
            shared.count(True)
            return value  # type: ignore[no-any-return]
        with _Run(shared) as run:

            def load() -> Any:
                run.began = True
                return call()

            found: R = shared.region.sync.get_or_load(
                key, shared.named(load), type=shared.returns, ttl=shared.ttl, tags=tags
            )
            return found

    @overload
    def __get__(
        self: Cached[Concatenate[type[Any], Q], R], instance: Any, owner: type
    ) -> Cached[Q, R]: ...
    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(
        self: Cached[Concatenate[S, Q], R], instance: S, owner: type | None = None
    ) -> Cached[Q, R]: ...
    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else self._bind(instance)

    def bypass(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself; the cache is neither asked nor told."""
        return self._shared.function(*self._bound, *args, **kwargs)  # type: ignore[no-any-return]

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Remove the result of a call with these arguments; whether there was one."""
        return self._shared.region.sync.invalidate(self.key(*args, **kwargs))

    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function now, and store its result."""
        self.invalidate(*args, **kwargs)
        key, tags, call = self._call(args, kwargs)
        shared = self._shared
        return shared.region.sync.get_or_load(  # type: ignore[no-any-return]
            key, call, type=shared.returns, ttl=shared.ttl, tags=tags
        )

    def peek(self, *args: P.args, **kwargs: P.kwargs) -> R | None:
        """The stored result of a call with these arguments, else ``None``; calls nothing."""
        shared = self._shared
        return shared.region.sync.get(self.key(*args, **kwargs), type=shared.returns)

    def cache_clear(self) -> None:
        """Remove every result of this function, in O(1), and reset :meth:`cache_info`."""
        self._shared.region.sync.invalidate_tag(self._shared.tag)
        self._shared.reset()


class Caching:
    """What ``region.cached`` is: a decorator, with or without arguments."""

    def __init__(self, region: Region[Any]) -> None:
        self._region = region

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncCached[P, R]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, function: Callable[P, R], /) -> Cached[P, R]: ...
    @overload
    def __call__(
        self,
        template: str | None = None,
        /,
        *,
        key: Callable[..., str] | None = None,
        ttl: TTL | UnsetType = UNSET,
        tags: Sequence[str] = (),
    ) -> Decorator: ...
    def __call__(
        self,
        template: Any = None,
        /,
        *,
        key: Callable[..., str] | None = None,
        ttl: TTL | UnsetType = UNSET,
        tags: Sequence[str] = (),
    ) -> Any:
        """Decorate a function.

        ``template`` names parameters (``"user:{user_id}"``); without one the key is made of all
        arguments; ``key`` makes it of them itself. ``tags`` may be templates too. See
        :mod:`clusterdb.cache.arguments` for what an argument may be. A call costs what
        :meth:`Region.get_or_load` does.
        """
        if template is None or isinstance(template, str):
            return Decorator(self._region, template, key, ttl, tags)
        return Decorator(self._region, None, key, ttl, tags)(template)


class Decorator:
    """What ``region.cached(...)`` returns: makes a function cached."""

    def __init__(
        self,
        region: Region[Any],
        template: str | None,
        key: Callable[..., str] | None,
        ttl: TTL | UnsetType,
        tags: Sequence[str],
    ) -> None:
        self._region = region
        self._template = template
        self._key = key
        self._ttl = ttl if ttl is UNSET else ttl_seconds(ttl)
        self._tags = tags

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncCached[P, R]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, function: Callable[P, R], /) -> Cached[P, R]: ...
    def __call__(self, function: Callable[..., Any], /) -> Any:
        if isinstance(function, classmethod | staticmethod):
            kind = type(function)
            raise InvalidArgument(f"put @{kind.__name__} above the cache's decorator, not below it")
        if not callable(function):
            raise InvalidArgument(f"cached decorates functions, not {type(function).__name__}")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise InvalidArgument(
                f"{function.__qualname__} is a generator, which can be read only once: "
                f"return a list instead"
            )
        keys = CallKeys(function, self._template, self._key, self._tags)
        if self._template is None and self._key is None:
            _refuse_twin(self._region, function, keys.function)
        shared = _Shared(self._region, function, keys, self._ttl)
        return (AsyncCached if inspect.iscoroutinefunction(function) else Cached)(shared)


def _refuse_twin(region: Region[Any], function: Callable[..., Any], name: str) -> None:
    """Refuse automatic keys to a second closure of one name: what sets the two apart is in the
    variables around them, which the keys leave out.
    """
    if not getattr(function, "__closure__", None):
        return
    first = region.access.state.closures.setdefault(name, function)
    if first is not function:
        raise InvalidArgument(
            f"another function {name} is cached in region {region.name!r}, and it may have other "
            f"values in the variables around it: the two would share keys, so give each a template "
            f"or key= that tells them apart"
        )


class CachingMany:
    """What ``region.cached_many`` is: makes the decorator of a function of many items."""

    def __init__(self, region: Region[Any]) -> None:
        self._region = region

    def __call__(
        self,
        template: str | None = None,
        /,
        *,
        ttl: TTL | UnsetType = UNSET,
        tags: Sequence[str] = (),
    ) -> ManyDecorator:
        """The field of ``template`` is the function's parameter, filled with one item at a time:
        ``@region.cached_many("user:{ids}")`` on ``def users(ids: list[int])``. ``tags`` are plain
        names.
        """
        return ManyDecorator(self._region, template, ttl, tags)


class _ManyKeys:
    """From the items of a batch function to keys, and back."""

    def __init__(
        self, function: Callable[..., Any], template: str | None, tags: Sequence[str]
    ) -> None:
        parameters = list(inspect.signature(function).parameters.values())
        if len(parameters) != 1:
            raise InvalidArgument(
                f"cached_many decorates functions of one collection; {function.__qualname__} has "
                f"{len(parameters)} parameters"
            )
        self.function = f"{function.__module__}.{function.__qualname__}"
        self._name = parameters[0].name
        self._wrapped = function
        self._template_text = template
        self._tag_texts = resolve_tags(tags)

    @cached_property
    def _template(self) -> Template | None:
        """Read at the first call, as annotations may name what is defined later."""
        if self._template_text is None:
            return None
        hint = get_type_hints(self._wrapped).get(self._name)
        item = (get_args(hint) or (hint,))[0]
        return Template(self._template_text, {self._name: item})

    def by_key(self, items: Iterable[Any]) -> dict[str, Any]:
        """The items by their keys."""
        return {self.key(item): item for item in items}

    def key(self, item: Any) -> str:
        """The key of one item."""
        arguments = {self._name: item}
        if self._template is None:
            return call_key(self.function, arguments)
        return check_key(self._template.fill(arguments))

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags of every item's entry."""
        return (f"{_FUNCTION_TAG}:{self.function}", *self._tag_texts)


class AsyncCachedMany(Generic[S, R]):
    """A decorated coroutine function of many items."""

    def __init__(
        self, region: Region[Any], function: Callable[..., Any], keys: _ManyKeys, ttl: Any
    ) -> None:
        update_wrapper(cast("Any", self), function)
        self._region = region
        self._function = function
        self._keys = keys
        self._ttl = ttl

    @cached_property
    def _returns(self) -> Any:
        return self._region.access.returned(self._function, many=True)

    async def __call__(self, items: Iterable[S]) -> dict[S, R]:
        by_key = self._keys.by_key(items)

        async def load(missing: list[str]) -> dict[str, Any]:
            return _keyed(self._keys, await self._function([by_key[key] for key in missing]))

        load.__qualname__ = self._keys.function
        found = await self._region.get_or_load_many(
            by_key, load, type=self._returns, ttl=self._ttl, tags=self._keys.tags
        )
        return {by_key[key]: value for key, value in found.items()}

    # As for AsyncCached.
    __code__ = __call__.__code__
    __defaults__ = None
    __kwdefaults__ = None

    def key(self, item: S) -> str:
        """The key of an item's entry."""
        return self._keys.key(item)

    async def invalidate(self, *items: S) -> int:
        """Remove the entries of ``items``; how many there were."""
        return sum([await self._region.invalidate(self._keys.key(item)) for item in items])

    async def cache_clear(self) -> None:
        """Remove every entry of this function, in O(1)."""
        await self._region.invalidate_tag(self._keys.tags[0])


class CachedMany(Generic[S, R]):
    """A decorated plain function of many items."""

    def __init__(
        self, region: Region[Any], function: Callable[..., Any], keys: _ManyKeys, ttl: Any
    ) -> None:
        update_wrapper(cast("Any", self), function)
        self._face = region
        self._region = region.sync
        self._function = function
        self._keys = keys
        self._ttl = ttl

    @cached_property
    def _returns(self) -> Any:
        return self._face.access.returned(self._function, many=True)

    def __call__(self, items: Iterable[S]) -> dict[S, R]:
        by_key = self._keys.by_key(items)

        def load(missing: list[str]) -> dict[str, Any]:
            return _keyed(self._keys, self._function([by_key[key] for key in missing]))

        load.__qualname__ = self._keys.function
        found = self._region.get_or_load_many(
            by_key, load, type=self._returns, ttl=self._ttl, tags=self._keys.tags
        )
        return {by_key[key]: value for key, value in found.items()}

    def key(self, item: S) -> str:
        """The key of an item's entry."""
        return self._keys.key(item)

    def invalidate(self, *items: S) -> int:
        """Remove the entries of ``items``; how many there were."""
        return sum([self._region.invalidate(self._keys.key(item)) for item in items])

    def cache_clear(self) -> None:
        """Remove every entry of this function, in O(1)."""
        self._region.invalidate_tag(self._keys.tags[0])


def _keyed(keys: _ManyKeys, values: Mapping[Any, Any]) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise InvalidArgument(
            f"{keys.function} gave a {type(values).__name__}: a function of many items returns a "
            f"mapping of items to results"
        )
    return {keys.key(item): value for item, value in values.items()}


class ManyDecorator:
    """What ``cache.cached_many(...)`` returns."""

    def __init__(
        self,
        region: Region[Any],
        template: str | None,
        ttl: TTL | UnsetType,
        tags: Sequence[str],
    ) -> None:
        self._region = region
        self._template = template
        self._ttl = ttl if ttl is UNSET else ttl_seconds(ttl)
        self._tags = tags

    @overload
    def __call__(
        self, function: Callable[[list[S]], Coroutine[Any, Any, Mapping[S, R]]], /
    ) -> AsyncCachedMany[S, R]: ...
    @overload
    def __call__(self, function: Callable[[list[S]], Mapping[S, R]], /) -> CachedMany[S, R]: ...
    def __call__(self, function: Callable[..., Any], /) -> Any:
        keys = _ManyKeys(function, self._template, self._tags)
        if self._template is None:
            _refuse_twin(self._region, function, keys.function)
        kind = AsyncCachedMany if inspect.iscoroutinefunction(function) else CachedMany
        return kind(self._region, function, keys, self._ttl)
