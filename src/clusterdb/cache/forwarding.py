"""A backend that passes everything on to another: what stands in front of one begins as this.

A wrapper changes what it is about and inherits the rest. What it does round *every* call goes into
two methods: ``_call``, through which each call that may wait is made, and ``_batches``, through
which batches come. Here they add nothing, not even a coroutine.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Literal, ParamSpec, TypeVar

from .claims import Claim
from .errors import CacheError
from .protocols import (
    Backend,
    BackendInfo,
    Capability,
    Change,
    Check,
    Committed,
    Drop,
    Exported,
    Follower,
    NotExported,
    Observer,
    Overwrite,
    Put,
    Written,
)
from .settings import RegionSettings
from .table import Table
from .types import Record, Version

__all__ = ["ForwardingBackend"]

P = ParamSpec("P")
R = TypeVar("R")


class ForwardingBackend:
    """Passes every call on to ``backend``."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    # -- round every call

    def _call(
        self,
        operation: str,
        region: str,
        count: int,
        call: Callable[P, Coroutine[Any, Any, R]],
        *arguments: P.args,
        **options: P.kwargs,
    ) -> Coroutine[Any, Any, R]:
        """Make a call about ``count`` keys; ``region`` is empty for one about the whole cache."""
        del operation, region, count
        return call(*arguments, **options)

    def _batches(
        self, operation: str, region: str, batches: AsyncGenerator[list[R], None]
    ) -> AsyncGenerator[list[R], None]:
        """Pass batches on."""
        del operation, region
        return batches

    async def _one_by_one(
        self, operation: str, region: str, batches: AsyncGenerator[list[R], None]
    ) -> AsyncGenerator[list[R], None]:
        """Make a call of each batch, for a ``_batches`` that wants it so."""

        async def following() -> list[R] | None:
            return await anext(batches, None)  # the end is no error of a call

        async with aclosing(batches):
            while (batch := await self._call(operation, region, 0, following)) is not None:
                yield batch

    # -- the contract

    @property
    def kind(self) -> str:
        return self._backend.kind

    @property
    def capabilities(self) -> frozenset[Capability]:
        return self._backend.capabilities

    @property
    def upkeep(self) -> object:
        """What the backend offers to maintenance, if anything: see :mod:`.upkeep`."""
        return getattr(self._backend, "upkeep", None)

    def open(self) -> Coroutine[Any, Any, None]:
        return self._call("open", "", 0, self._backend.open)

    async def aclose(self) -> None:
        await self._backend.aclose()

    @property
    def inline(self) -> bool:
        return self._backend.inline

    def configure(self, regions: Mapping[str, RegionSettings]) -> None:
        self._backend.configure(regions)

    def table(self, region: str) -> Table | None:
        return self._backend.table(region)

    def observe(self, observer: Observer | None) -> None:
        self._backend.observe(observer)

    def order(self, versions: Iterator[Version]) -> bool:
        return self._backend.order(versions)

    def follow(self, follower: Follower | None) -> None:
        self._backend.follow(follower)

    def fork(self, moment: Literal["before", "parent", "child"]) -> None:
        self._backend.fork(moment)

    def read(
        self,
        region: str,
        keys: Sequence[str],
        *,
        stale: bool = False,
        consistent: bool = False,
        brief: bool = False,
    ) -> Coroutine[Any, Any, list[Record | None]]:
        read = self._backend.read
        options = {"stale": stale, "consistent": consistent, "brief": brief}
        return self._call("read", region, len(keys), read, region, keys, **options)

    def peek(
        self, region: str, keys: Sequence[str], *, stale: bool = False
    ) -> Coroutine[Any, Any, list[Record | None]]:
        return self._call("peek", region, len(keys), self._backend.peek, region, keys, stale=stale)

    def last_known(self, region: str, keys: Sequence[str]) -> list[Record | None]:
        return self._backend.last_known(region, keys)

    def keep(self, region: str, record: Record, value: object) -> None:
        self._backend.keep(region, record, value)

    def drop_near(self, region: str, keys: Sequence[str]) -> None:
        self._backend.drop_near(region, keys)

    def write(
        self, region: str, changes: Sequence[Change]
    ) -> Coroutine[Any, Any, list[Written | CacheError]]:
        return self._call("write", region, len(changes), self._backend.write, region, changes)

    def commit(
        self, region: str, checks: Sequence[Check], changes: Sequence[Put | Drop]
    ) -> Coroutine[Any, Any, Committed | None]:
        commit = self._backend.commit
        return self._call("commit", region, len(changes), commit, region, checks, changes)

    def claim(
        self, region: str, keys: Sequence[str], tags: tuple[str, ...], lease: float
    ) -> Coroutine[Any, Any, list[Record | Claim | None]]:
        claim = self._backend.claim
        return self._call("claim", region, len(keys), claim, region, keys, tags, lease)

    def fence(
        self, region: str, keys: Sequence[str], lease: float
    ) -> Coroutine[Any, Any, list[Claim]]:
        return self._call("fence", region, len(keys), self._backend.fence, region, keys, lease)

    def extend(
        self, region: str, claims: Sequence[Claim], tags: tuple[str, ...]
    ) -> Coroutine[Any, Any, None]:
        return self._call("extend", region, len(claims), self._backend.extend, region, claims, tags)

    def fill(
        self, region: str, fills: Sequence[tuple[Claim, Put]]
    ) -> Coroutine[Any, Any, list[Written | CacheError]]:
        return self._call("fill", region, len(fills), self._backend.fill, region, fills)

    def release(self, region: str, claims: Sequence[Claim]) -> Coroutine[Any, Any, None]:
        return self._call("release", region, len(claims), self._backend.release, region, claims)

    def invalidate_tags(self, tags: Sequence[str]) -> Coroutine[Any, Any, int]:
        return self._call("invalidate_tags", "", len(tags), self._backend.invalidate_tags, tags)

    def scan(
        self, region: str, glob: str, batch_size: int, *, dead: bool = False
    ) -> AsyncGenerator[list[str], None]:
        batches = self._backend.scan(region, glob, batch_size, dead=dead)
        return self._batches("scan", region, batches)

    def clear(self, regions: Sequence[str]) -> Coroutine[Any, Any, int]:
        region = regions[0] if len(regions) == 1 else ""
        return self._call("clear", region, 0, self._backend.clear, regions)

    def parts(self, region: str) -> list[str]:
        return self._backend.parts(region)

    def export(
        self,
        region: str,
        *,
        part: str | None = None,
        glob: str = "*",
        batch_size: int = 1000,
        values: bool = True,
    ) -> AsyncGenerator[list[Exported | NotExported], None]:
        batches = self._backend.export(
            region, part=part, glob=glob, batch_size=batch_size, values=values
        )
        return self._batches("export", region, batches)

    def restore(
        self, region: str, entries: Sequence[Exported], *, overwrite: Overwrite = "older"
    ) -> Coroutine[Any, Any, list[Written | CacheError]]:
        restore = self._backend.restore
        return self._call(
            "restore", region, len(entries), restore, region, entries, overwrite=overwrite
        )

    def describe(self) -> Coroutine[Any, Any, BackendInfo]:
        return self._call("describe", "", 0, self._backend.describe)
