"""A table of the storage's own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from ...codec import Encoded
from ...errors import CacheError, RowRefused
from ...rows import Row, RowChange, StorageCapability
from ...types import MISSING
from ..names import Names
from .outbox import LINE, prune_lines, told_in
from .schema import COLUMNS, channel, outbox_tables, tables, triggers
from .table import Put, Statement, waking

__all__ = ["OwnTable"]

_LIVE: Final = "NOT t.deleted AND (t.expires_at IS NULL OR t.expires_at > clock_timestamp())"
_ROW: Final = (
    "t.key, t.value, t.codec, t.flags, t.row_version, "
    "extract(epoch FROM t.expires_at - clock_timestamp())::float8 AS ttl, t.tags"
)


class OwnTable:
    """Its SQL, and how values go in and come out."""

    makes_table: bool = True
    capabilities: frozenset[StorageCapability] = frozenset(
        {"conditions", "versions", "atomic", "changes", "expiry", "tags"}
    )

    def __init__(self, names: Names) -> None:
        self.names = names
        table = names.table
        self.read = (
            f"SELECT {_ROW} FROM {table} AS t WHERE region = $1 AND key = ANY($2) AND {_LIVE}"
        )
        self.page = (
            f"SELECT {_ROW} FROM {table} AS t WHERE region = $1 AND ($2::text IS NULL OR key > $2) "
            f"AND {_LIVE} ORDER BY t.key LIMIT $3"
        )
        self.lock = _lock(names)
        self.put = _put(names)
        self._upsert = _upsert(names, _ASKED)
        self._upsert_alike = _upsert(names, _ALIKE)
        self.clear = _clear(names)
        self.prune = _prune(names)
        self.figures = (
            f"SELECT count(*) FILTER (WHERE {_LIVE}), count(*) FILTER (WHERE t.deleted), "
            f"({told_in(names)}) FROM {table} AS t"
        )

    def tables(self) -> list[str]:
        return [*tables(self.names), *outbox_tables(self.names)]

    def triggers(self) -> list[str]:
        return triggers(self.names)

    def check(self, columns: dict[str, str], unique: set[str]) -> str:
        del unique
        missing = [name for name in COLUMNS if name not in columns]
        return f"has no column {missing[0]!r}: it is another program's" if missing else ""

    def check_region(self, region: str) -> None:
        """Any region may have rows here."""

    def refusal(self, change: RowChange) -> CacheError | None:
        if "\0" in change.key or "\0" in change.region or "\0" in "".join(change.tags):
            reason = "a text column takes no NUL character; use another key, or no such tag"
            return RowRefused(change.key, "22021", reason)
        return None

    def stored(self, key: str) -> Any:
        return None if "\0" in key else key

    def row(self, found: Any) -> Row:
        key, value, codec, flags, version, ttl, tags = found
        return Row(key, Encoded(value or b"", codec, flags), version, ttl, tuple(tags))

    def arguments(self, puts: Sequence[Put]) -> list[Any]:
        return [list(column) for column in zip(*map(_columns, puts), strict=True)]

    def upsert(self, changes: Sequence[RowChange]) -> Statement:
        if _are_alike(changes):
            return self._upsert_alike, _columns_alike(changes)
        puts = [Put(at, change, 0, False, None) for at, change in enumerate(changes)]
        return self._upsert, self.arguments(puts)


def _are_alike(changes: Sequence[RowChange]) -> bool:
    """Whether rows that are stored differ in key and value only."""
    first = changes[0]
    region, ttl, tags = first.region, first.ttl, first.tags
    codec, flags = first.value.codec, first.value.flags
    for change in changes:
        value: Encoded = change.value
        if (
            value.codec != codec
            or value.flags != flags
            or change.ttl != ttl
            or change.region != region
            or change.tags != tags
        ):
            return False
    return True


def _columns_alike(changes: Sequence[RowChange]) -> list[Any]:
    """What rows that are alike have in common, once, and the rest as columns: the driver looks at
    each item of a column.
    """
    first = changes[0]
    return [
        first.region,
        [change.key for change in changes],
        [change.value.payload for change in changes],
        first.value.codec,
        first.value.flags,
        first.ttl,
        first.tags,
    ]


def _columns(put: Put) -> tuple[object, ...]:
    """A row, in the order of the statement's parameters."""
    change = put.change
    gone = change.value is MISSING
    encoded: Encoded = Encoded(b"", 0) if gone else change.value
    return (
        change.region,
        change.key,
        None if gone else encoded.payload,
        encoded.codec,
        encoded.flags,
        put.version,
        put.known,
        gone,
        None if gone else put.kept,
        None if gone or put.kept is not None else change.ttl,
        json.dumps(change.tags) if change.tags and not gone else "[]",
    )


def _lock(names: Names) -> str:
    """Rows are locked in the order of their keys, so that two writers don't wait in a circle."""
    table = names.table
    return f"""
SELECT t.region, t.key, t.row_version, {_LIVE} AS live, t.expires_at, true
FROM {table} AS t JOIN unnest($1::text[], $2::text[]) AS asked (region, key)
    ON t.region = asked.region AND t.key = asked.key
ORDER BY t.region, t.key FOR UPDATE OF t"""


_ASKED: Final = """
    SELECT a.region, a.key, a.value, a.codec, a.flags, a.row_version, a.known, a.deleted,
        coalesce(a.kept, clock_timestamp() + a.ttl * interval '1 second') AS expires_at,
        CASE WHEN a.tags = '[]' THEN '{}'::text[]
            ELSE ARRAY(SELECT jsonb_array_elements_text(a.tags::jsonb)) END AS tags
    FROM unnest($1::text[], $2::text[], $3::bytea[], $4::int2[], $5::int2[], $6::int8[],
        $7::bool[], $8::bool[], $9::timestamptz[], $10::float8[], $11::text[])
        AS a (region, key, value, codec, flags, row_version, known, deleted, kept, ttl, tags)
    ORDER BY a.region COLLATE "C", a.key COLLATE "C"
"""
"""What is to be written, in the order in which rows are locked."""


_ALIKE: Final = """
    SELECT $1::text AS region, a.key, a.value, $4::int2 AS codec, $5::int2 AS flags,
        clock_timestamp() + $6::float8 * interval '1 second' AS expires_at, $7::text[] AS tags
    FROM unnest($2::text[], $3::bytea[]) AS a (key, value) ORDER BY a.key COLLATE "C"
"""
"""The same of live rows that differ in key and value only."""


def _told(names: Names, origin: str) -> str:
    """The outbox is told of what is ``done``, in one line, and who listens to it woken."""
    return f"""told AS (
    INSERT INTO {names.outbox} (region, keys, row_versions, origin)
    SELECT region, array_agg(key), array_agg(row_version), {origin} FROM done GROUP BY region
    RETURNING region, keys, row_versions
)
SELECT region, keys, row_versions, {waking(channel(names))} FROM told"""


def _put(names: Names) -> str:
    """A row that was not there when we looked may be now: then it is not in the answer."""
    table = names.table
    return f"""
WITH asked AS ({_ASKED}), made AS (
    INSERT INTO {table} AS t (region, key, value, codec, flags, row_version, expires_at, tags,
        created_at, updated_at, deleted)
    SELECT region, key, value, codec, flags, row_version, expires_at, tags,
        clock_timestamp(), clock_timestamp(), deleted FROM asked WHERE NOT known
    ON CONFLICT DO NOTHING RETURNING t.region, t.key, t.row_version
), changed AS (
    UPDATE {table} AS t SET value = a.value, codec = a.codec, flags = a.flags,
        row_version = a.row_version, expires_at = a.expires_at, tags = a.tags,
        created_at = CASE WHEN t.deleted THEN clock_timestamp() ELSE t.created_at END,
        updated_at = clock_timestamp(), deleted = a.deleted
    FROM asked AS a WHERE a.known AND t.region = a.region AND t.key = a.key
    RETURNING t.region, t.key, t.row_version
), done AS (
    SELECT * FROM made UNION ALL SELECT * FROM changed
), {_told(names, "$12")}"""


def _upsert(names: Names, asked: str) -> str:
    """Rows that are written whatever is there: nothing has to be looked at before."""
    origin = "$8" if asked is _ALIKE else "$12"
    return f"""
WITH asked AS ({asked}), done AS (
    INSERT INTO {names.table} AS t (region, key, value, codec, flags, row_version, expires_at, tags,
        created_at, updated_at, deleted)
    SELECT region, key, value, codec, flags, 1, expires_at, tags,
        clock_timestamp(), clock_timestamp(), false FROM asked
    ON CONFLICT (region, key) DO UPDATE SET value = excluded.value, codec = excluded.codec,
        flags = excluded.flags, row_version = t.row_version + 1,
        expires_at = excluded.expires_at, tags = excluded.tags,
        created_at = CASE WHEN t.deleted THEN clock_timestamp() ELSE t.created_at END,
        updated_at = clock_timestamp(), deleted = false
    RETURNING t.region, t.key, t.row_version
), {_told(names, origin)}"""


def _clear(names: Names) -> str:
    """All live rows of regions become deleted ones; how many."""
    table, outbox = names.table, names.outbox
    return f"""
WITH held AS (
    SELECT t.region, t.key FROM {table} AS t WHERE t.region = ANY($1) AND {_LIVE}
    ORDER BY t.region, t.key FOR UPDATE
), changed AS (
    UPDATE {table} AS t SET value = NULL, codec = 0, flags = 0, tags = '{{}}', expires_at = NULL,
        row_version = t.row_version + 1, updated_at = clock_timestamp(), deleted = true
    FROM held WHERE t.region = held.region AND t.key = held.key
    RETURNING t.region, t.key, t.row_version
), told AS (
    INSERT INTO {outbox} (region, keys, row_versions, origin)
    SELECT region, array_agg(key), array_agg(row_version), $2 FROM (
        SELECT *, row_number() OVER (PARTITION BY region) / {LINE} AS line FROM changed
    ) AS numbered GROUP BY region, line
)
SELECT count(*), {waking(channel(names))} FROM changed"""


def _prune(names: Names) -> str:
    """Deleted rows and expired ones, and lines of the outbox."""
    age = "clock_timestamp() - $1 * interval '1 second'"
    return f"""
WITH {prune_lines(names)}, rows AS (
    DELETE FROM {names.table} AS t
    WHERE (t.deleted AND t.updated_at < {age}) OR t.expires_at < {age}
    RETURNING 1
)
SELECT (SELECT coalesce(sum(changes), 0)::int8 FROM lines) + (SELECT count(*) FROM rows)"""
