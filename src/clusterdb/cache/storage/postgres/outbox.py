"""The outbox of a storage in PostgreSQL: what was changed, in one order for everybody."""

from __future__ import annotations

from typing import Any

from ...errors import ChangesLost
from ...rows import RowChanged
from ..names import Names

__all__ = ["OutboxSql", "check_position", "prune_lines", "read_position", "told"]


class OutboxSql:
    """The SQL of an outbox."""

    def __init__(self, names: Names) -> None:
        self.position = (
            f"SELECT generation, pg_snapshot_xmin(pg_current_snapshot())::text::int8 "
            f"FROM {names.meta}"
        )
        self.changes = _changes(names)
        self.holders = (
            "SELECT pid, extract(epoch FROM clock_timestamp() - xact_start)::float8 "
            "FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid() "
            "ORDER BY xact_start LIMIT 1"
        )
        self.schema_version = f"SELECT schema_version FROM {names.meta}"


def _changes(names: Names) -> str:
    """One query: where the stream ends, what is kept, whether more waits, and the changes, each
    column of them an array. A line is numbered under the lock of its row: by numbers, versions of
    a key are in order.
    """
    outbox, meta = names.outbox, names.meta
    return f"""
WITH edge AS (
    SELECT m.generation, m.horizon_xid, m.horizon_id,
        pg_snapshot_xmin(pg_current_snapshot()) AS xmin FROM {meta} AS m
)
SELECT edge.generation, edge.xmin::text::int8 AS xmin,
    edge.horizon_xid::text::int8 AS horizon_xid, edge.horizon_id,
    EXISTS (SELECT FROM {outbox} AS later WHERE later.xid >= edge.xmin) AS held_back,
    lines.*
FROM edge CROSS JOIN LATERAL (
    SELECT array_agg(o.xid::text::int8 ORDER BY o.id) AS xids, array_agg(o.id ORDER BY o.id) AS ids,
        array_agg(o.region ORDER BY o.id) AS regions, array_agg(o.key ORDER BY o.id) AS keys,
        array_agg(o.row_version ORDER BY o.id) AS row_versions,
        array_agg(o.origin ORDER BY o.id) AS origins,
        array_agg(extract(epoch FROM o.changed_at)::float8 ORDER BY o.id) AS times
    FROM (
        SELECT * FROM {outbox} AS b
        WHERE (b.xid, b.id) > ($1::int8::text::xid8, $2::int8) AND b.xid < edge.xmin
        ORDER BY b.xid, b.id LIMIT $3
    ) AS o
) AS lines"""


def prune_lines(names: Names) -> str:
    """What is told in order is forgotten in order: up to the first line that is not old yet."""
    outbox, meta = names.outbox, names.meta
    return f"""young AS (
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
)"""


def read_position(after: str) -> tuple[int, int]:
    """The numbers of a position. Raises :class:`ChangesLost` for what is none."""
    _, *numbers = after.split(":")
    if len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
        raise ChangesLost(f"{after!r} is not a position of this storage")
    return int(numbers[0]), int(numbers[1])


def check_position(after: str, start: tuple[int, int], edge: Any) -> None:
    """Raise :class:`ChangesLost` for a position that can't be gone on from."""
    if not after.startswith(f"{edge['generation']}:"):
        raise ChangesLost(f"position {after!r} is not one of this database: it was made anew")
    if start < (edge["horizon_xid"], edge["horizon_id"]):
        raise ChangesLost(
            f"changes behind position {after!r} are no longer kept: what was cached before has to "
            f"go; prune less, or read them more often"
        )
    if start[0] > edge["xmin"]:
        raise ChangesLost(f"position {after!r} is not reached yet: the database was set back")


def told(found: Any) -> list[RowChanged]:
    """The lines of an answer, as they are told."""
    columns = [found[name] for name in ("regions", "keys", "row_versions", "origins", "times")]
    return [RowChanged(*line) for line in zip(*columns, strict=True)]
