"""The operations on entries of a region: read, store, delete, touch, add, list.

An entity tag is the entry's version. ``If-Match`` makes a write depend on it, atomically in the
backend; ``If-None-Match: *`` on there being no entry.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, Final

from starlette.responses import Response

from ..errors import InvalidArgument
from ..inspecting import described, peek, read
from ..keys import check_key
from ..options import resolve_set
from ..types import Record
from .asking import Asked, answer, etag
from .documents import CounterBody, CounterSum, Entry, EntryBody, KeyList, StoredEntry, TouchBody
from .problems import Refused

__all__ = [
    "MOST_KEYS",
    "MOST_SHOWN",
    "delete_entry",
    "get_entry",
    "increment",
    "list_keys",
    "put_entry",
    "touch",
]

MOST_KEYS: Final = 10_000
MOST_SHOWN: Final = 2**30


async def get_entry(asked: Asked) -> Response:
    """The entry under a key, or 304 where the client has its version."""
    look = peek if asked.flag("peek") else read
    limit = asked.number("limit", MOST_SHOWN, MOST_SHOWN)
    record = await look(asked.region, asked.key)
    if record is None:
        raise Refused("no-entry", f"region {asked.region.name!r} has no entry {asked.key[:200]!r}")
    if asked.knows(record.version):
        return Response(status_code=304, headers={"ETag": etag(record.version)})
    entry = _entry(asked.region.name, record, limit)
    return answer(entry, ETag=etag(record.version))


def _entry(region: str, record: Record, limit: int) -> Entry:
    shown = described(record.value)
    value: Any = shown["value"]
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    content = text.encode("utf-8", "surrogatepass")
    size = len(record.value) if isinstance(record.value, bytes) else len(content)
    truncated = len(content) > limit
    return Entry(
        region=region,
        key=record.key,
        type=shown["type"],
        value=content[:limit].decode("utf-8", "replace") if truncated else value,
        size=size,
        truncated=truncated,
        version=record.version,
        expires_in=record.expires_in,
        age_bound=record.age_bound,
        tags=record.tags,
        tier=record.tier,
    )


async def put_entry(asked: Asked) -> Response:
    """Store a value, if the conditions of the request hold."""
    body = await asked.body(EntryBody)
    value, wanted, absent = _value(body), asked.version_wanted(), asked.wants_absent()
    if wanted is not None and absent:
        raise Refused("invalid-request", "If-Match and If-None-Match exclude each other")
    key, region = asked.key, asked.region
    if isinstance(wanted, int):
        if body.keep_ttl:
            raise InvalidArgument("keep_ttl can't be had under If-Match with a version: give a ttl")
        changes = region.atomic().check_version(key, wanted)
        _require(await changes.set(key, value, ttl=body.ttl, tags=body.tags).execute())
        return answer(StoredEntry(region=region.name, key=key, version=None))
    options = resolve_set(None, body.ttl, absent, wanted == "*", body.keep_ttl, body.tags)
    put = await region.access.write_one(region.access.put(check_key(key), value, options))
    _require(put.applied)
    stored = StoredEntry(region=region.name, key=key, version=put.version)
    return answer(stored, ETag=etag(put.version))


def _value(body: EntryBody) -> Any:
    if body.type == "json":
        return body.value
    if not isinstance(body.value, str):
        raise Refused("invalid-request", f"a value of type {body.type} is a JSON string")
    if body.type == "text":
        return body.value
    try:
        return base64.b64decode(body.value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused("invalid-request", f"the value is not base64: {error}") from None


def _require(held: bool) -> None:
    if not held:
        raise Refused("precondition-failed", "nothing was changed: read the entry again")


async def delete_entry(asked: Asked) -> None:
    """Delete an entry, if the condition of the request holds."""
    wanted, key, region = asked.version_wanted(), asked.key, asked.region
    if isinstance(wanted, int):
        _require(await region.atomic().check_version(key, wanted).delete(key).execute())
    elif not await region.delete(key):
        raise Refused("no-entry", f"region {region.name!r} has no entry {key[:200]!r}")


async def touch(asked: Asked) -> None:
    """Give an entry a new time to live."""
    body = await asked.body(TouchBody)
    if not await asked.region.touch(asked.key, body.ttl):
        raise Refused("no-entry", f"region {asked.region.name!r} has no entry {asked.key[:200]!r}")


async def increment(asked: Asked) -> CounterSum:
    """Add to a whole number, atomically."""
    body, region = await asked.body(CounterBody), asked.region
    total = await region.increment(asked.key, body.delta, initial=body.initial, ttl=body.ttl)
    return CounterSum(region=region.name, key=asked.key, value=total)


async def list_keys(asked: Asked) -> KeyList:
    """Keys that match a glob, up to a limit."""
    limit = asked.number("limit", 1000, MOST_KEYS)
    found: list[str] = []
    scan = asked.region.scan(asked.text("pattern", "*"), timeout=asked.settings.timeout)
    async for key in scan:
        if len(found) == limit:
            return KeyList(region=asked.region.name, keys=tuple(found), complete=False)
        found.append(key)
    return KeyList(region=asked.region.name, keys=tuple(found), complete=True)
