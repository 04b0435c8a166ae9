"""Backends: where cached entries live."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias
from urllib.parse import SplitResult, unquote, urlsplit

from msgspec import Meta

from ..errors import InvalidArgument
from .breaker import BreakerConfig
from .quantities import (
    Count,
    Duration,
    FilePath,
    Items,
    OptionalDuration,
    OptionalPath,
    OptionalSecret,
    OptionalSize,
    Size,
    preset,
)
from .secrets import shown
from .settings import Settings, require

__all__ = [
    "CacheBackend",
    "Disk",
    "Memory",
    "PoolConfig",
    "Redis",
    "SentinelConfig",
    "TlsConfig",
]


def _redis_url(value: object) -> str:
    """Return a Redis URL; check scheme, host, port and database number, or path of a socket."""
    wanted = "expected redis://host:port/db or rediss://host:port/db"
    try:
        parts = urlsplit(value if isinstance(value, str) else "")
        sound = parts.scheme in ("redis", "rediss") and parts.hostname and parts.port != 0
    except ValueError:
        raise InvalidArgument(f"{wanted}, got {shown(value)}") from None
    if parts.scheme == "unix":
        return _unix_url(str(value), parts)
    database = parts.path.strip("/")
    numbered = not database or (database.isascii() and database.isdecimal())
    if not sound or "," in parts.netloc.rpartition("@")[2] or not numbered:
        raise InvalidArgument(f"{wanted}, got {shown(value)}")
    if parts.query or parts.fragment:
        raise InvalidArgument(f"{wanted} without '?' and '#', got {shown(value)}")
    return str(value)


def _unix_url(url: str, parts: SplitResult) -> str:
    """Return the URL of a Unix socket; its path is absolute, the database in its query."""
    number = parts.query.removeprefix("db=")
    numbered = not parts.query or (number != parts.query and number.isdecimal())
    address = parts.netloc.rpartition("@")[2]
    sound = not address and len(parts.path) > 1 and "\0" not in unquote(parts.path)
    if not (sound and numbered and number.isascii()) or parts.fragment:
        raise InvalidArgument(f"expected unix:///path/of/socket?db=0, got {shown(url)}")
    return url


RedisUrl = Annotated[str, Meta(extra={"read": _redis_url})]


class PoolConfig(Settings, frozen=True, kw_only=True):
    """Connections to a server: how many are kept, how many at most, and how long things may take.

    `idle_timeout` is for a connection that nobody uses, `connect_timeout` for the way to a new
    connection that is logged in, `timeout` for the answer to a call.
    """

    min_connections: int = 1
    max_connections: Count = 20
    idle_timeout: Duration = preset(300.0)
    connect_timeout: Duration = preset(5.0)
    timeout: Duration = preset(5.0)

    def _check(self) -> None:
        """Check that the bounds leave room."""
        require(self.min_connections >= 0, "min_connections", "must be 0 or more")
        require(
            self.min_connections <= self.max_connections,
            "min_connections",
            f"{self.min_connections} is above max_connections {self.max_connections}",
        )
        for name in ("idle_timeout", "connect_timeout", "timeout"):
            require(getattr(self, name) > 0, name, "must be above 0 seconds")


class TlsConfig(Settings, frozen=True, kw_only=True):
    """TLS files (PEM): the client's certificate and key, and the authority that is trusted."""

    cert: OptionalPath = preset(None)
    key: OptionalPath = preset(None)
    ca: OptionalPath = preset(None)

    def _check(self) -> None:
        """Check that a certificate and its key come together."""
        both = (self.cert is None) == (self.key is None)
        require(both, "cert" if self.cert is None else "key", "cert and key belong together")


class SentinelConfig(Settings, frozen=True, kw_only=True):
    """Redis Sentinel: the backend's URLs are then those of the sentinels."""

    master: str
    username: str | None = None
    password: OptionalSecret = None

    def _check(self) -> None:
        """Check that the name of the master is there."""
        require(bool(self.master), "master", "the name of the master is empty")


def _check_near(total: int | None) -> None:
    """Check that something can be kept near."""
    sound = total is None or total >= 1
    require(sound, "near_total", "must be at least 1 byte; near: false keeps nothing")


def _check_staleness(bound: float | None) -> None:
    """Check that there is time to learn what others did."""
    sound = bound is None or bound >= 0.01
    require(sound, "max_staleness", "must be at least 10 milliseconds")


class Memory(Settings, frozen=True, kw_only=True, tag_field="type", tag="memory"):
    """Entries live in this process.

    `persist` names a file that is written when the cache is closed and started from the next time.
    `max_process_memory`: the memory of the whole process; from 90% of it nothing new is kept, from
    95% the cache shrinks, from 100% writes fail with `OutOfMemory`. `max_total_memory`: what the
    entries of all regions weigh together at most; each region's share moves to where it hits most.
    """

    persist: OptionalPath = preset(None)
    max_process_memory: OptionalSize = preset(None)
    max_total_memory: OptionalSize = preset(None)

    def _check(self) -> None:
        """Check the budgets."""
        for name in ("max_process_memory", "max_total_memory"):
            given = getattr(self, name)
            message = "must be at least 1 byte; None is no limit"
            require(given is None or given >= 1, name, message)


class Disk(Settings, frozen=True, kw_only=True, tag_field="type", tag="disk"):
    """Entries live in one file of this machine.

    `synchronous`: ``normal`` may lose the last writes at a power cut, ``full`` waits for the disk.
    A call waits at most `timeout` for another process that writes. `near` keeps up to `near_size`
    of each region in this process, and `near_total` of all together, where another process's change
    is seen within `max_staleness` (None: as `coherence.consistency` says, 1 s for ``bounded``).
    While `breaker` is open no call is made.
    """

    path: FilePath
    synchronous: Literal["normal", "full"] = "normal"
    timeout: Duration = preset("5s")
    near: bool = True
    near_size: Size = preset("64MB")
    near_total: OptionalSize = preset(None)
    max_staleness: OptionalDuration = preset(None)
    breaker: BreakerConfig | None = None

    def _check(self) -> None:
        """Check that there is time to wait, and to look what others did."""
        require(self.timeout > 0, "timeout", "must be above 0 seconds")
        _check_staleness(self.max_staleness)
        _check_near(self.near_total)


class Redis(Settings, frozen=True, kw_only=True, tag_field="type", tag="redis"):
    """Entries live in Redis: one server, a cluster, a ring of servers, or behind Sentinel.

    Several `urls` without `cluster` and `sentinel` form a ring: `PartitioningConfig` says how
    keys are spread. `near` keeps up to `near_size` of each region that was read in this process,
    and `near_total` of all together, where another process's change is seen within `max_staleness`
    (None: as `coherence.consistency` says, 1 s for ``bounded``). `read_replicas` lets the replicas
    of a cluster answer reads at the level `eventual`, as far as they are at most `max_replica_lag`
    behind; such reads are not kept. While `breaker` is open no call is made.
    """

    urls: Items[RedisUrl]
    cluster: bool = False
    sentinel: SentinelConfig | None = None
    username: str | None = None
    password: OptionalSecret = None
    pool: PoolConfig = PoolConfig()
    tls: TlsConfig | None = None
    near: bool = True
    near_size: Size = preset("64MB")
    near_total: OptionalSize = preset(None)
    max_staleness: OptionalDuration = preset(None)
    read_replicas: bool = False
    max_replica_lag: Duration = preset("1s")
    breaker: BreakerConfig | None = None

    def _check(self) -> None:
        """Check that the URLs agree, and that at most one topology is asked for."""
        _check_staleness(self.max_staleness)
        _check_near(self.near_total)
        require(bool(self.urls), "urls", "needs at least one URL, such as redis://localhost:6379")
        schemes = {urlsplit(url).scheme for url in self.urls}
        mixed = " and ".join(f"{scheme}://" for scheme in sorted(schemes))
        require(len(schemes) == 1, "urls", f"{mixed} can't be mixed")
        local = self.tls is not None and "unix" in schemes
        require(not local, "tls", "a unix:// socket is never encrypted: leave tls out")
        local = schemes == {"unix"} and (self.cluster or self.sentinel is not None)
        require(not local, "urls", "a Unix socket is a server by itself, without others")
        require(not (self.cluster and self.sentinel), "cluster", "excludes sentinel: choose one")
        needs = self.cluster or not self.read_replicas
        require(needs, "read_replicas", "needs cluster: true, whose replicas are known")
        require(self.max_replica_lag >= 0.02, "max_replica_lag", "must be at least 20 milliseconds")
        needs = self.username is None or self.password is not None
        require(needs, "username", "needs a password as well")

    @property
    def is_ring(self) -> bool:
        """Whether the URLs are those of independent servers that share the keys."""
        return len(self.urls) > 1 and not self.cluster and self.sentinel is None


CacheBackend: TypeAlias = Memory | Disk | Redis
