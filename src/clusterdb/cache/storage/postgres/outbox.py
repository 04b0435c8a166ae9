"""The outbox of a storage in PostgreSQL: what was changed, in one order for everybody."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ...errors import ChangesLost
from ...rows import RowChanged
from ..names import Names

__all__ = [
    "LINE",
    "OutboxSql",
    "check_position",
    "prune_lines",
    "read_position",
    "told",
    "told_in",
]

LINE: Final = 1_000
"""Changes of a line, where one statement makes any number of them."""


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


def told_in(names: Names) -> str:
    """How many changes an outbox has."""
    return f"SELECT coalesce(sum(cardinality(keys)), 0)::int8 FROM {names.outbox}"


def _changes(names: Names) -> str:
    """One query: where the stream ends, what is kept, whether more waits, and the lines that hold
    as many changes as are asked for. A line is numbered under the locks of its rows: by numbers,
    versions of a key are in order. Where no line is, what there is else is told once.
    """
    outbox, meta = names.outbox, names.meta
    return f"""
WITH edge AS (
    SELECT m.generation, m.horizon_xid, m.horizon_id,
        pg_snapshot_xmin(pg_current_snapshot()) AS xmin FROM {meta} AS m
)
SELECT edge.generation, edge.xmin::text::int8 AS xmin,
    edge.horizon_xid::text::int8 AS horizon_xid, edge.horizon_id,
    coalesce((SELECT xid FROM {outbox} ORDER BY xid DESC, id DESC LIMIT 1) >= edge.xmin, false)
        AS held_back,
    lines.xid::text::int8 AS xid, lines.id, lines.region, lines.keys, lines.row_versions,
    lines.origin, extract(epoch FROM lines.changed_at)::float8 AS time
FROM edge LEFT JOIN LATERAL (
    SELECT *, sum(cardinality(b.keys)) OVER (ORDER BY b.xid, b.id) AS through FROM (
        SELECT * FROM {outbox} AS a
        WHERE (a.xid, a.id) > ($1::int8::text::xid8, $2::int8) AND a.xid < edge.xmin
        ORDER BY a.xid, a.id LIMIT $3
    ) AS b
) AS lines ON lines.through - cardinality(lines.keys) < $3
ORDER BY lines.id"""


def prune_lines(names: Names) -> str:
    """What is told in order is forgotten in order: up to the first line that is not old yet. Each
    of ``lines`` has some ``changes``.
    """
    outbox, meta = names.outbox, names.meta
    return f"""young AS (
    SELECT xid, id FROM {outbox} WHERE changed_at >= clock_timestamp() - $1 * interval '1 second'
    ORDER BY xid, id LIMIT 1
), lines AS (
    DELETE FROM {outbox} WHERE xid < pg_snapshot_xmin(pg_current_snapshot())
        AND (xid, id) < (coalesce((SELECT xid FROM young), pg_snapshot_xmin(pg_current_snapshot())),
            coalesce((SELECT id FROM young), 0))
    RETURNING xid, id, cardinality(keys) AS changes
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


def told(lines: Sequence[Any]) -> list[RowChanged]:
    """What lines tell of, in their order."""
    changes: list[RowChanged] = []
    for line in lines:
        region, origin, time = line["region"], line["origin"], line["time"]
        for key, version in zip(line["keys"], line["row_versions"], strict=True):
            changes.append(RowChanged(region, key, version, origin, time))
    return changes
