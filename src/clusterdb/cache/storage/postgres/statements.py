"""The statements, each one round trip whatever the number of rows."""

from __future__ import annotations

from typing import Final

from ..names import Names
from .schema import channel

__all__ = ["Statements"]

_LIVE: Final = "NOT t.deleted AND (t.expires_at IS NULL OR t.expires_at > clock_timestamp())"
_ROW: Final = (
    "t.key, t.value, t.codec, t.flags, t.row_version, "
    "extract(epoch FROM t.expires_at - clock_timestamp())::float8 AS ttl, t.tags"
)


class Statements:
    """The SQL of one storage."""

    def __init__(self, names: Names) -> None:
        table, outbox, meta = names.table, names.outbox, names.meta
        self.read = (
            f"SELECT {_ROW} FROM {table} AS t WHERE region = $1 AND key = ANY($2) AND {_LIVE}"
        )
        self.page = (
            f"SELECT {_ROW} FROM {table} AS t WHERE region = $1 AND key > $2 AND {_LIVE} "
            f"ORDER BY t.key LIMIT $3"
        )
        self.lock = _lock(names)
        self.put = _put(names)
        self.clear = _clear(names)
        self.position = (
            f"SELECT generation, pg_snapshot_xmin(pg_current_snapshot())::text::int8 FROM {meta}"
        )
        self.changes = _changes(names)
        self.prune = _prune(names)
        self.figures = (
            f"SELECT count(*) FILTER (WHERE {_LIVE}), count(*) FILTER (WHERE t.deleted), "
            f"(SELECT count(*) FROM {outbox}) FROM {table} AS t"
        )
        self.columns = (
            "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass($1) "
            "AND attnum > 0 AND NOT attisdropped"
        )
        self.schema_version = f"SELECT schema_version FROM {meta}"


def _lock(names: Names) -> str:
    """Rows are locked in the order of their keys, so that two writers don't wait in a circle."""
    table = names.table
    return f"""
SELECT t.region, t.key, t.row_version, {_LIVE} AS live, t.expires_at
FROM {table} AS t JOIN unnest($1::text[], $2::text[]) AS asked (region, key)
    ON t.region = asked.region AND t.key = asked.key
ORDER BY t.region, t.key FOR UPDATE OF t"""


def _put(names: Names) -> str:
    """A row that was not there when we looked may be now: then it is not in the answer."""
    table, outbox = names.table, names.outbox
    return f"""
WITH asked AS (
    SELECT a.region, a.key, a.value, a.codec, a.flags, a.row_version, a.known, a.deleted,
        coalesce(a.kept, clock_timestamp() + a.ttl * interval '1 second') AS expires_at,
        CASE WHEN a.tags = '[]' THEN '{{}}'::text[]
            ELSE ARRAY(SELECT jsonb_array_elements_text(a.tags::jsonb)) END AS tags
    FROM unnest($1::text[], $2::text[], $3::bytea[], $4::int2[], $5::int2[], $6::int8[],
        $7::bool[], $8::bool[], $9::timestamptz[], $10::float8[], $11::text[])
        AS a (region, key, value, codec, flags, row_version, known, deleted, kept, ttl, tags)
    ORDER BY a.region COLLATE "C", a.key COLLATE "C"
), made AS (
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
), told AS (
    INSERT INTO {outbox} (region, key, row_version, origin)
    SELECT region, key, row_version, $12 FROM done
)
SELECT region, key, (SELECT pg_notify('{channel(names)}', '')) IS NULL FROM done"""


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
    INSERT INTO {outbox} (region, key, row_version, origin)
    SELECT region, key, row_version, $2 FROM changed
)
SELECT count(*), (SELECT pg_notify('{channel(names)}', '')) IS NULL FROM changed"""


def _changes(names: Names) -> str:
    """One query: where the stream ends, what is kept, whether more waits, and the changes."""
    outbox, meta = names.outbox, names.meta
    return f"""
WITH edge AS (
    SELECT m.generation, m.horizon_xid, m.horizon_id,
        pg_snapshot_xmin(pg_current_snapshot()) AS xmin FROM {meta} AS m
)
SELECT edge.generation, edge.xmin::text::int8 AS xmin,
    edge.horizon_xid::text::int8 AS horizon_xid, edge.horizon_id,
    EXISTS (SELECT FROM {outbox} AS later WHERE later.xid >= edge.xmin) AS held_back,
    o.xid::text::int8 AS xid, o.id, o.region, o.key, o.row_version, o.origin,
    extract(epoch FROM o.changed_at)::float8 AS time
FROM edge LEFT JOIN LATERAL (
    SELECT * FROM {outbox} AS b
    WHERE (b.xid, b.id) > ($1::int8::text::xid8, $2::int8) AND b.xid < edge.xmin
    ORDER BY b.xid, b.id LIMIT $3
) AS o ON true
ORDER BY o.xid, o.id"""


def _prune(names: Names) -> str:
    """What is told in order is forgotten in order: up to the first line that is not old yet."""
    table, outbox, meta = names.table, names.outbox, names.meta
    return f"""
WITH young AS (
    SELECT xid, id FROM {outbox} WHERE changed_at >= clock_timestamp() - $1 * interval '1 second'
    ORDER BY xid, id LIMIT 1
), lines AS (
    DELETE FROM {outbox} WHERE xid < pg_snapshot_xmin(pg_current_snapshot())
        AND (xid, id) < (coalesce((SELECT xid FROM young), pg_snapshot_xmin(pg_current_snapshot())),
            coalesce((SELECT id FROM young), 0))
    RETURNING xid, id
), horizon AS (
    UPDATE {meta} AS m SET horizon_xid = last.xid, horizon_id = last.id
    FROM (SELECT xid, id FROM lines ORDER BY xid DESC, id DESC LIMIT 1) AS last
    WHERE (last.xid, last.id) > (m.horizon_xid, m.horizon_id)
), rows AS (
    DELETE FROM {table} AS t WHERE (t.deleted
        AND t.updated_at < clock_timestamp() - $1 * interval '1 second')
        OR t.expires_at < clock_timestamp() - $1 * interval '1 second'
    RETURNING 1
)
SELECT (SELECT count(*) FROM lines) + (SELECT count(*) FROM rows)"""
