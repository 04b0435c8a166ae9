"""A table of the user's own, with its own columns.

Rows are really deleted; what version one had, the outbox says as long as it is kept. Values go in
as a JSON document of the columns, which the server turns into what the columns hold.
"""

from __future__ import annotations

import datetime as dt
import enum
import json
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from ...config import RowMapping
from ...errors import CacheError, RowRefused
from ...rows import Row, RowChange, StorageCapability
from ...types import MISSING
from ..mapping import KeyKind, Mapped
from ..names import Names, literal, quoted
from .outbox import prune_lines, told_in
from .schema import channel, mapped_triggers, outbox_tables
from .table import Put, waking

__all__ = ["MappedTable"]

_KINDS: Final[Mapping[str, KeyKind]] = {
    "smallint": "integer",
    "integer": "integer",
    "bigint": "integer",
    "uuid": "uuid",
    "text": "text",
    "character varying": "text",
}
_TYPES: Final[Mapping[KeyKind, str]] = {"integer": "int8", "uuid": "uuid", "text": "text"}


class MappedTable:
    """Its SQL, and how values go in and come out. Both are known once ``check`` saw the table."""

    makes_table: bool = False
    read = page = lock = put = clear = prune = figures = ""

    def __init__(self, names: Names, config: RowMapping) -> None:
        self.names = names
        self._mapped = Mapped(config)
        self._json: tuple[str, ...] = ()

    @property
    def capabilities(self) -> frozenset[StorageCapability]:
        return self._mapped.capabilities

    def tables(self) -> list[str]:
        if self._mapped.config.version_column is None:
            return []
        index = f"{self.names.local('_outbox_key')} ON {self.names.outbox}"
        return [
            *outbox_tables(self.names),
            f"CREATE INDEX IF NOT EXISTS {index} (region, (keys[1]), (row_versions[1]))",
        ]

    def triggers(self) -> list[str]:
        if self._mapped.config.version_column is None:
            return []
        return mapped_triggers(self.names, self._mapped.config)

    def check(self, columns: dict[str, str], unique: set[str]) -> str:
        config = self._mapped.config
        own = [name for name in (config.version_column, config.expires_column) if name]
        for name in (config.key_column, *config.columns, *own):
            if name not in columns:
                return f"has no column {name!r}" if columns else "is not there"
        kind = columns[config.key_column].partition("(")[0]
        if kind not in _KINDS:
            return (
                f"has a key_column {config.key_column!r} of type {kind}: it must be text, an "
                f"integer or a uuid"
            )
        if config.key_column not in unique:
            return f"has a key_column {config.key_column!r} that is not unique"
        version = config.version_column
        if version and columns[version] != "bigint":  # what is written behind has large ones
            return f"has a version_column {version!r} of type {columns[version]}: it must be bigint"
        self._mapped.kind = _KINDS[kind]
        self._json = tuple(
            name for name in self._mapped.columns if columns[name] in ("json", "jsonb")
        )
        self._write(_Sql(self.names, self._mapped))
        return ""

    def _write(self, sql: _Sql) -> None:
        self.read, self.page, self.figures = sql.read(), sql.page(), sql.figures()
        self.lock, self.put, self.clear, self.prune = (
            sql.lock(),
            sql.put(),
            sql.clear(),
            sql.prune(),
        )

    def check_region(self, region: str) -> None:
        self._mapped.check_region(region)

    def refusal(self, change: RowChange) -> CacheError | None:
        refused = self._mapped.refusal(change)
        if refused is None and "\0" in change.key:
            refused = RowRefused(change.key, "22021", "a text column takes no NUL character")
        return refused

    def stored(self, key: str) -> Any:
        return None if "\0" in key else self._mapped.stored(key)

    def row(self, found: Any) -> Row:
        *contents, version, ttl = found
        names = (self._mapped.config.key_column, *self._mapped.columns)
        opened = [
            json.loads(each) if name in self._json and each is not None else each
            for name, each in zip(names, contents, strict=True)
        ]
        return Row(self._mapped.key(contents[0]), self._mapped.value(opened), version, ttl)

    def upsert(self, changes: Sequence[RowChange]) -> None:
        """None: a table of the user's own is looked at first, always."""

    def arguments(self, puts: Sequence[Put]) -> list[list[Any]]:
        return [list(column) for column in zip(*map(self._columns, puts), strict=True)]

    def _columns(self, put: Put) -> tuple[object, ...]:
        change = put.change
        gone = change.value is MISSING
        return (
            change.region,
            self.stored(change.key),
            put.version,
            put.known,
            gone,
            change.version is not None,
            put.kept,
            None if put.kept is not None else change.ttl,
            "{}" if gone else self._document(change),
        )

    def _document(self, change: RowChange) -> str:
        contents = dict(zip(self._mapped.columns, self._mapped.contents(change), strict=True))
        try:
            return json.dumps(_plain(contents), default=_described)
        except (TypeError, ValueError) as error:
            raise RowRefused(change.key, "mapping", str(error)) from error


class _Sql:
    """The statements of one mapping."""

    def __init__(self, names: Names, mapped: Mapped) -> None:
        config = mapped.config
        self._names = names
        self._type = _TYPES[mapped.kind]
        self._key = quoted(config.key_column)
        self._columns = [quoted(name) for name in mapped.columns]
        self._version = config.version_column and quoted(config.version_column)
        self._expires = config.expires_column and quoted(config.expires_column)
        self._prefix = literal(config.prefix)
        self._region = literal(config.region)
        self._number = f"coalesce(t.{self._version}, 1)::int8" if self._version else "0::int8"
        self._live = "true"
        if self._expires:
            self._live = f"(t.{self._expires} IS NULL OR t.{self._expires} > clock_timestamp())"

    def _row(self) -> str:
        ttl = "NULL::float8"
        if self._expires:
            ttl = f"extract(epoch FROM t.{self._expires} - clock_timestamp())::float8"
        columns = [f"t.{name}" for name in (self._key, *self._columns)]
        return ", ".join([*columns, self._number, ttl])

    def read(self) -> str:
        return (
            f"SELECT {self._row()} FROM {self._names.table} AS t "
            f"WHERE $1::text IS NOT NULL AND t.{self._key} = ANY($2::{self._type}[]) "
            f"AND {self._live}"
        )

    def page(self) -> str:
        return (
            f"SELECT {self._row()} FROM {self._names.table} AS t WHERE $1::text IS NOT NULL "
            f"AND ($2::{self._type} IS NULL OR t.{self._key} > $2) AND {self._live} "
            f"ORDER BY t.{self._key} LIMIT $3"
        )

    def figures(self) -> str:
        lines = f"({told_in(self._names)})" if self._version else "NULL::int8"
        return (
            f"SELECT count(*) FILTER (WHERE {self._live}), NULL::int8, {lines} "
            f"FROM {self._names.table} AS t"
        )

    def lock(self) -> str:
        key = f"{self._prefix} || a.stored::text"
        told = "NULL::int8"
        if self._version:
            told = (
                f"(SELECT max(o.row_versions[1]) FROM {self._names.outbox} AS o "
                f"WHERE o.region = a.region AND o.keys[1] = {key})"
            )
        return f"""
WITH asked AS (
    SELECT * FROM unnest($1::text[], $2::{self._type}[]) AS a (region, stored)
), held AS MATERIALIZED (
    SELECT t.{self._key} AS stored, {self._number} AS version, {self._live} AS live,
        {f"t.{self._expires}" if self._expires else "NULL::timestamptz"} AS expiry
    FROM {self._names.table} AS t JOIN asked ON t.{self._key} = asked.stored
    ORDER BY t.{self._key} FOR UPDATE OF t
)
SELECT a.region, {key}, coalesce(h.version, {told}, 0), coalesce(h.live, false), h.expiry,
    h.stored IS NOT NULL
FROM asked AS a LEFT JOIN held AS h ON h.stored = a.stored"""

    def put(self) -> str:
        table = self._names.table
        columns, values, changes = [self._key, *self._columns], ["a.stored"], []
        values += [f"r.{name}" for name in self._columns]
        changes += [f"{name} = r.{name}" for name in self._columns]
        if self._version:
            columns, values = [*columns, self._version], [*values, "a.version"]
            changes.append(f"{self._version} = a.version")
        if self._expires:
            columns, values = [*columns, self._expires], [*values, "a.until"]
            changes.append(f"{self._expires} = a.until")
        if not changes:
            changes.append(f"{self._key} = t.{self._key}")
        populated = f"LATERAL jsonb_populate_record(NULL::{table}, a.document::jsonb) AS r"
        return f"""
WITH asked AS (
    SELECT a.region, a.stored, {self._counted()} AS version, a.known, a.gone, a.document,
        coalesce(a.kept, clock_timestamp() + a.ttl * interval '1 second') AS until
    FROM unnest($1::text[], $2::{self._type}[], $3::int8[], $4::bool[], $5::bool[], $6::bool[],
        $7::timestamptz[], $8::float8[], $9::text[])
        AS a (region, stored, version, known, gone, given, kept, ttl, document)
    ORDER BY a.stored
), made AS (
    INSERT INTO {table} AS t ({", ".join(columns)})
    SELECT {", ".join(values)} FROM asked AS a, {populated} WHERE NOT a.known AND NOT a.gone
    ON CONFLICT ({self._key}) DO NOTHING RETURNING t.{self._key} AS stored
), changed AS (
    UPDATE {table} AS t SET {", ".join(changes)} FROM asked AS a, {populated}
    WHERE a.known AND NOT a.gone AND t.{self._key} = a.stored RETURNING a.stored
), removed AS (
    DELETE FROM {table} AS t USING asked AS a
    WHERE a.known AND a.gone AND t.{self._key} = a.stored RETURNING a.stored
), done AS (
    SELECT a.region, {self._prefix} || a.stored::text AS key, a.version FROM asked AS a
    WHERE a.stored IN (SELECT stored FROM made UNION ALL SELECT stored FROM changed
        UNION ALL SELECT stored FROM removed) OR (a.gone AND NOT a.known)
){self._told("done")}
SELECT region, array_agg(key), array_agg(version), {self._woken()} FROM done GROUP BY region"""

    def _counted(self) -> str:
        """The version of a row; one that was deleted while we waited for its lock has one, too."""
        if not self._version:
            return "0::int8"
        last = (
            f"(SELECT max(o.row_versions[1]) FROM {self._names.outbox} AS o "
            f"WHERE o.region = a.region AND o.keys[1] = {self._prefix} || a.stored::text)"
        )
        newest = f"greatest(a.version, 1 + coalesce({last}, 0))"
        return f"CASE WHEN a.known OR a.given THEN a.version ELSE {newest} END"

    def _told(self, source: str) -> str:
        """The part that writes the outbox, whose origin is the last parameter: a line a change, as
        the last version of a key is looked up in it.
        """
        if self._version:
            return f""", told AS (
    INSERT INTO {self._names.outbox} (region, keys, row_versions, origin)
    SELECT region, ARRAY[key], ARRAY[version], ${10 if source == "done" else 2} FROM {source}
)"""
        return f""", told AS (SELECT ${10 if source == "done" else 2}::text)"""

    def _woken(self) -> str:
        return waking(channel(self._names)) if self._version else "true"

    def clear(self) -> str:
        return f"""
WITH held AS (
    SELECT t.{self._key} AS stored FROM {self._names.table} AS t
    WHERE {self._region} = ANY($1::text[]) AND {self._live} ORDER BY t.{self._key} FOR UPDATE
), removed AS (
    DELETE FROM {self._names.table} AS t USING held WHERE t.{self._key} = held.stored
    RETURNING {self._region}::text AS region, {self._prefix} || held.stored::text AS key,
        {self._number} + 1 AS version
){self._told("removed")}
SELECT count(*), {self._woken()} FROM removed"""

    def prune(self) -> str:
        """Lines of the outbox; the rows are the user's."""
        if not self._version:
            return "SELECT 0 WHERE $1::float8 IS NOT NULL"
        return f"WITH {prune_lines(self._names)} SELECT coalesce(sum(changes), 0)::int8 FROM lines"


def _plain(value: Any) -> Any:
    """A value in which nothing is left that JSON has no form for, or another one."""
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _described(value: Any) -> Any:
    """The text from which the server makes a value again."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"\\x{bytes(value).hex()}"
    if isinstance(value, (dt.date, dt.time)):
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        return f"{value.total_seconds()} seconds"
    if isinstance(value, (UUID, Decimal)):
        return str(value)
    if isinstance(value, enum.Enum):
        return value.value
    raise TypeError(f"no column holds a {type(value).__qualname__}")
