"""The errors of the cache: one tree, drawn here.

::

    CacheError
    ├── InvalidArgument (ValueError)      a call's argument breaks a rule; nothing was changed
    │   ├── InvalidKey                    not a str, empty, over 64 KiB, not encodable
    │   ├── InvalidPattern                a glob that can't be read
    │   ├── EntryTooLarge                 heavier than its region may ever hold
    │   ├── EncodeError                   a value that the region's format has no bytes for
    │   ├── CrossSlotError                keys that no server can change together
    │   └── ConfigError                   a setting, with its path
    │       └── MissingVariable           ``${VAR}`` names a variable that is not set
    ├── OutOfMemory (MemoryError)         the process is at its memory budget
    ├── UnknownRegion (LookupError)       no region of that name was configured
    ├── TypeMismatch (TypeError)          the entry is of another type than was asked for
    │   └── TypeRequired                  an encoding backend needs ``type=`` for this value
    ├── Undecodable                       stored bytes that can't be read: ``get`` counts a miss
    ├── MissingExtra (ImportError)        an optional dependency is not installed
    ├── NotSupported                      this backend or this version can't do it
    │   └── NotSupportedOnRing            nor can any ring that keeps several copies
    ├── CacheClosed                       the cache was closed
    ├── WrongLoop                         used from a second running event loop, or .sync in one
    ├── ReentrantCall                     changed by a finalizer in the middle of a change
    ├── BackendUnavailable                the backend can't be reached
    │   ├── Degraded                      fewer copies took a write than were asked for
    │   ├── BackendSuspended              it failed so often that it is not asked for a while
    │   └── OutcomeUnknown                a write was sent and its reply never came
    ├── StorageUnavailable                the database behind the cache can't be reached
    ├── Overloaded                        more waits to be written to storage than may
    ├── NoStorage                         a write through the cache that has no storage behind it
    ├── RowRefused                        the database does not take this row: ``.code``
    ├── ChangesLost                       storage no longer tells what changed since then
    ├── ServerError                       a server answered a command with an error: ``.code``
    ├── LoadError                         a load could not give a value (a loader's own
    │   │                                 exception is raised as it is, never wrapped)
    │   ├── LoadTimeout                   the loader ran past its hard deadline
    │   ├── LoadCancelled                 the loader was cancelled from inside
    │   ├── LoaderSuspended               it failed so often that it is not called for a while
    │   └── ReentrantLoad                 a loader waits for the load it is part of
    ├── BackupError                       a backup was not made, read or restored
    │   ├── BackupUnavailable             the place of backups can't be reached, or is full
    │   ├── BackupCorrupt                 a file of a backup is damaged, foreign or missing
    │   ├── WrongKey                      it was encrypted with a key that is not configured
    │   ├── UnknownBackup (LookupError)   no backup of that name is there
    │   └── RestoreStopped                a restore ended early: ``.report`` says how far it got
    ├── ScanTimeout                       a scan ran past its timeout
    ├── SharedValueMutated                ``isolation="check"`` found a changed value
    └── BatchError                        a bulk call failed in part: ``.ok`` and ``.failed``

    InactiveSetting (UserWarning)         a setting has no effect where it stands

Each message says what happened, with what value, and what to do; what a program may want to
act on is a field as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

__all__ = [
    "BackendSuspended",
    "BackendUnavailable",
    "BackupCorrupt",
    "BackupError",
    "BackupUnavailable",
    "BatchError",
    "CacheClosed",
    "CacheError",
    "ChangesLost",
    "ConfigError",
    "CrossSlotError",
    "Degraded",
    "EncodeError",
    "EntryTooLarge",
    "InactiveSetting",
    "InvalidArgument",
    "InvalidKey",
    "InvalidPattern",
    "LoadCancelled",
    "LoadError",
    "LoadTimeout",
    "LoaderSuspended",
    "MissingExtra",
    "MissingVariable",
    "NoStorage",
    "NotSupported",
    "NotSupportedOnRing",
    "OutOfMemory",
    "OutcomeUnknown",
    "Overloaded",
    "ReentrantCall",
    "ReentrantLoad",
    "RestoreStopped",
    "RowRefused",
    "ScanTimeout",
    "ServerError",
    "SharedValueMutated",
    "StorageUnavailable",
    "TypeMismatch",
    "TypeRequired",
    "Undecodable",
    "UnknownBackup",
    "UnknownRegion",
    "WrongKey",
    "WrongLoop",
]


_LONG: Final = 80
"""Characters of a key that a message shows."""


class CacheError(Exception):
    """Root of every error this package raises."""


class InvalidArgument(CacheError, ValueError):
    """An argument breaks a rule; nothing was changed."""


class InvalidKey(InvalidArgument):
    """A key breaks one of the key rules (see :mod:`clusterdb.cache.keys`)."""


class InvalidPattern(InvalidArgument):
    """A glob pattern can't be read."""


class EntryTooLarge(InvalidArgument):
    """An entry is heavier than its region may ever hold; the old entry, if any, stays.

    ``key``, ``weight`` and ``limit`` (bytes, or units of the region's weigher).
    """

    def __init__(self, key: str, weight: int, limit: int) -> None:
        super().__init__(
            f"out of memory: entry {key!r} weighs {weight} and its region may hold {limit} in all; "
            f"raise the region's size, or store something smaller"
        )
        self.key, self.weight, self.limit = key, weight, limit


class OutOfMemory(CacheError, MemoryError):
    """The process holds as much memory as it may; a new entry was not stored.

    ``cause``, ``solution``, and in bytes ``used`` and ``limit``.
    """

    def __init__(self, used: int, limit: int) -> None:
        self.used, self.limit = used, limit
        self.cause = f"cache size exceeded: the process holds {used} bytes and may hold {limit}"
        self.solution = "increase max_process_memory, or evict: smaller regions, shorter TTLs"
        super().__init__(f"out of memory; cause: {self.cause}; solution: {self.solution}")


class EncodeError(InvalidArgument):
    """A value has no form in the region's format; nothing was stored.

    ``path`` is the way to the part at fault inside the value (``$.users[3].photo``), ``kind`` its
    type.
    """

    def __init__(self, path: str, kind: str, reason: str) -> None:
        self.path = path
        self.kind = kind
        self.reason = reason
        super().__init__(f"can't store the {kind} at {path}: {reason}")


class CrossSlotError(InvalidArgument):
    """Keys that live on different servers can't be changed all or none; nothing was changed.

    ``keys`` are those of the call.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        shown = ", ".join([repr(key) for key in keys[:5]]) + (", ..." if len(keys) > 5 else "")
        super().__init__(
            f"{shown} are in different slots, so no server can change them together: give them "
            f"one {{tag}}, as in 'user:{{42}}:name' and 'user:{{42}}:mail'"
        )
        self.keys = tuple(keys)


class ConfigError(InvalidArgument):
    """A setting is wrong; ``path`` is where, for example ``cache.backend.pool``."""

    def __init__(self, message: str, *, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class MissingVariable(ConfigError):
    """``${VAR}`` in a configuration names an environment variable that is not set."""


class UnknownRegion(CacheError, LookupError):
    """No region of this name exists."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(
            f"no region {name!r} (there are: {', '.join(sorted(known))}); "
            f"configure it, or add it with create_region()"
        )
        self.name = name


class TypeMismatch(CacheError, TypeError):
    """The stored value is not of the type that the call asked for or needs."""


class TypeRequired(TypeMismatch):
    """A backend that encodes can't give back this value's type without ``type=``."""


class Undecodable(CacheError):
    """Stored bytes can't be read: corrupted, foreign, swapped, badly signed, of a newer release.

    Reads count a miss instead of raising it.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"stored bytes can't be read: {reason}")


class MissingExtra(CacheError, ImportError):
    """An optional dependency is missing."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an extra: pip install 'clusterdb-cache[{extra}]'")
        self.extra = extra


class NotSupported(CacheError):
    """This backend, or this version, can't do what was asked."""


class NotSupportedOnRing(NotSupported):
    """It needs one server that decides, and a ring of several copies has none; nothing was done.

    ``copies`` is how many servers hold each key.
    """

    def __init__(self, what: str, copies: int) -> None:
        super().__init__(
            f"{what} needs one server that decides, and this ring keeps {copies} copies of each "
            f"key on independent servers: use a Redis Cluster (backend.cluster: true), or one copy "
            f"(partitioning.strategy.replicas: 1)"
        )
        self.copies = copies


class CacheClosed(CacheError, RuntimeError):
    """The cache was closed; build a new one."""

    def __init__(self, name: str) -> None:
        super().__init__(f"cache {name!r} is closed; build a new Cache to go on")


class WrongLoop(CacheError, RuntimeError):
    """A cache that lives in one running event loop was used from another, or ``cache.sync`` from
    inside one.
    """


class ReentrantCall(CacheError, RuntimeError):
    """A cache was to be changed by code that runs in the middle of a change of it, in the same
    thread: a finalizer of cyclic garbage, or a signal handler.
    """

    def __init__(self) -> None:
        super().__init__(
            "this thread is in the middle of changing the cache: a finalizer or signal handler "
            "must not change it too; hand the call to another thread, or to the event loop"
        )


class BackendUnavailable(CacheError, ConnectionError):
    """The backend can't be reached, or did not answer within its deadline."""


class Degraded(BackendUnavailable):
    """Fewer copies took the write than were asked for; on the others it was done and stays.

    ``acknowledged`` of ``wanted`` servers took it; ``reply`` is what the first of them answered.
    A copy that was missed may be old: it lives at most as long as its TTL.
    """

    def __init__(
        self, acknowledged: int, wanted: int, reason: str = "", *, reply: object = None
    ) -> None:
        because = f": {reason}" if reason else ""
        super().__init__(f"{acknowledged} of {wanted} copies took the write{because}")
        self.acknowledged, self.wanted, self.reply = acknowledged, wanted, reply


class BackendSuspended(BackendUnavailable):
    """The circuit breaker of the backend is open: it was not asked. ``retry_in`` is in seconds,
    0 while others try whether it is back.
    """

    def __init__(self, kind: str, failures: int, retry_in: float) -> None:
        super().__init__(
            f"backend {kind!r} is not asked: its circuit breaker is open, {failures} calls in a "
            f"row have failed; {_next_try(retry_in)}"
        )
        self.retry_in = retry_in


class OutcomeUnknown(BackendUnavailable):
    """A write was sent and its reply never came: it may or may not have been carried out."""


class StorageUnavailable(CacheError, ConnectionError):
    """The database behind the cache can't be reached, was too slow, or ended the transaction:
    nothing was written.
    """


class Overloaded(CacheError):
    """So much waits to be written behind that nothing more is accepted; nothing was written.

    ``pending`` rows wait, of ``limit`` or of too many bytes.
    """

    def __init__(self, pending: int, limit: int) -> None:
        super().__init__(
            f"{pending} rows wait to be written to storage, and no more than {limit} rows, or 64 "
            f"MiB, may: storage does not keep up, or is away; write less, or try again later"
        )
        self.pending, self.limit = pending, limit


class NoStorage(CacheError):
    """A write through the cache was asked for, and no storage is behind it."""


class RowRefused(CacheError):
    """The database does not take this row, today or later, as it is: ``code`` is its own."""

    def __init__(self, key: str, code: str, reason: str) -> None:
        named = key if len(key) <= _LONG else f"{key[:_LONG]}..."
        super().__init__(f"storage refuses the row of {named!r} ({code}): {reason}")
        self.key = key
        self.code = code


class ChangesLost(CacheError):
    """Storage no longer tells all that changed since a position: what may be older has to go."""


class ServerError(CacheError):
    """A server answered a command with an error: it did not carry it out.

    ``code`` is the first word of its answer: ``MOVED``, ``NOSCRIPT``, ``OOM``, ``READONLY``,
    ``NOPERM``, ``ERR`` ...
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.code = text.partition(" ")[0]


class LoadError(CacheError):
    """A load could not give a value, for a reason other than the loader's own exception."""


class LoadTimeout(LoadError, TimeoutError):
    """The loader ran past its hard deadline (seconds); it was cancelled and its claim released."""

    def __init__(self, keys: Sequence[str], deadline: float) -> None:
        shown = ", ".join(repr(key) for key in keys[:3]) + (", ..." if len(keys) > 3 else "")
        super().__init__(
            f"the loader of {shown} took longer than its hard deadline of {deadline:g} s; "
            f"raise loads.hard_deadline, or bound the loader's own calls"
        )
        self.deadline = deadline


class LoadCancelled(LoadError):
    """The loader was cancelled from inside, not by its callers."""

    def __init__(self, keys: Sequence[str], reason: str = "") -> None:
        shown = ", ".join(repr(key) for key in keys[:3])
        super().__init__(
            reason or f"the loader of {shown} was cancelled from inside; nothing was stored"
        )


class LoaderSuspended(LoadError):
    """The circuit breaker of a region's loaders is open: none was called. ``retry_in`` is in
    seconds, 0 while others try whether the origin is back.
    """

    def __init__(self, region: str, failures: int, retry_in: float) -> None:
        super().__init__(
            f"no loader of region {region!r} is called: their circuit breaker is open, {failures} "
            f"calls in a row have failed; {_next_try(retry_in)}"
        )
        self.retry_in = retry_in


def _next_try(retry_in: float) -> str:
    if retry_in > 0:
        return f"the next is let through in {retry_in:.3g} s"
    return "others are trying just now whether it is back"


class ReentrantLoad(LoadError):
    """A loader asked for a key whose load waits for it; ``chain`` lists the keys in order."""

    def __init__(self, chain: Sequence[str]) -> None:
        super().__init__(
            "a loader waits for itself: "
            + " -> ".join(repr(key) for key in chain)
            + "; load the inner key by its own name, or call its source directly"
        )
        self.chain = tuple(chain)


class BackupError(CacheError):
    """A backup was not made, read or restored."""


class BackupUnavailable(BackupError, ConnectionError):
    """The place where backups are kept can't be reached, is full, or refuses."""


class BackupCorrupt(BackupError):
    """A file of a backup is damaged, truncated, foreign, missing, or of a newer release; nothing
    of the damaged part was used. ``file`` is its name.
    """

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(
            f"backup file {file!r} {reason}; restore another backup ('cache backup list'), and "
            f"look for the cause with 'cache backup verify'"
        )
        self.file, self.reason = file, reason


class WrongKey(BackupError):
    """A backup was encrypted with a key that is not configured; ``key_id`` is the name of it."""

    def __init__(self, backup: str, key_id: str, known: Sequence[str]) -> None:
        have = f"configured: {', '.join(known)}" if known else "none is configured"
        super().__init__(
            f"backup {backup!r} was encrypted with key {key_id}, and {have}: "
            f"add the key to backup.encryption.keys"
        )
        self.key_id = key_id


class UnknownBackup(BackupError, LookupError):
    """No complete backup of that name, or none at all, is there."""


class RestoreStopped(BackupError):
    """A restore ended early. What it had restored stays, and a second run goes on from there;
    ``report`` says what was restored.
    """

    def __init__(self, reason: str, report: Any) -> None:
        super().__init__(
            f"the restore stopped after {report.restored} entries, which stay: {reason}"
        )
        self.report = report


class ScanTimeout(CacheError, TimeoutError):
    """A scan ran past its timeout (seconds); the keys it gave so far are right."""

    def __init__(self, timeout: float, seen: int) -> None:
        super().__init__(
            f"scan ran past its timeout of {timeout:g} s after {seen} keys; "
            f"narrow the pattern or allow more time"
        )
        self.timeout, self.seen = timeout, seen


class SharedValueMutated(CacheError):
    """A caller changed a value that others share (``isolation="check"``).

    ``suspects`` are the places (``file:line``) that were given the value since it was last seen
    unchanged.
    """

    def __init__(self, key: str, suspects: Sequence[str]) -> None:
        given = "; it was given to: " + ", ".join(suspects) if suspects else ""
        super().__init__(
            f"the shared value under {key!r} was changed in place{given}. "
            f"Copy it before changing it, or use isolation='copy'"
        )
        self.key, self.suspects = key, tuple(suspects)


class BatchError(CacheError):
    """A bulk call failed for some of its keys.

    ``ok`` maps the keys that worked to their results, ``failed`` the others to their exceptions.
    """

    def __init__(self, ok: Mapping[str, Any], failed: Mapping[str, Exception]) -> None:
        key, first = next(iter(failed.items()))
        super().__init__(
            f"{len(failed)} of {len(ok) + len(failed)} keys failed, first {key!r}: {first}"
        )
        self.ok, self.failed = dict(ok), dict(failed)


class InactiveSetting(UserWarning):
    """A setting was checked and kept, and has no effect where it stands."""
