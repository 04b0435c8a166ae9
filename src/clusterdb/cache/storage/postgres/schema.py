"""The tables of a storage in PostgreSQL, and the triggers that watch for plain SQL.

The outbox is ordered by (``xid``, ``id``): a row may be told once every transaction that began
before its own has ended, as no row can come before it any more. Our own transactions say who they
are by a setting, ``clusterdb_cache.writer``; the triggers pass them by.

A row that is written again keeps its place in every index (a "heap-only tuple"), as long as no
column changes that an index has, or its condition looks at: so none has ``updated_at``.
"""

from __future__ import annotations

from typing import Final

from ...config import RowMapping
from .. import migrations
from ..names import Names, literal, quoted

__all__ = [
    "COLUMNS",
    "LOCK",
    "TRIGGERS",
    "channel",
    "mapped_triggers",
    "outbox_tables",
    "tables",
    "triggers",
]

COLUMNS: Final = (
    "region",
    "key",
    "value",
    "codec",
    "flags",
    "row_version",
    "expires_at",
    "tags",
    "created_at",
    "updated_at",
    "deleted",
)

TRIGGERS: Final = ("_bump", "_told", "_emptied")
"""The ends of the triggers' names."""

LOCK: Final = "SELECT pg_advisory_xact_lock(hashtext('clusterdb.cache storage'))"
"""Two that make the same tables at once would refuse each other."""


def channel(names: Names) -> str:
    """What is notified of each commit. One of another schema's tables may be, too: a look more."""
    return f"{names.bare}_outbox"


def tables(names: Names) -> list[str]:
    """The statements that make the tables where they are missing."""
    return [
        LOCK,
        f"""CREATE TABLE IF NOT EXISTS {names.table} (
    region text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    value bytea,
    codec smallint NOT NULL DEFAULT 3,
    flags smallint NOT NULL DEFAULT 0,
    row_version bigint NOT NULL DEFAULT 1,
    expires_at timestamptz,
    tags text[] NOT NULL DEFAULT '{{}}',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted boolean NOT NULL DEFAULT false,
    PRIMARY KEY (region, key)
) WITH (fillfactor = 90)""",
        (
            f"CREATE INDEX IF NOT EXISTS {names.local('_expiry')} ON {names.table} (expires_at) "
            f"WHERE expires_at IS NOT NULL"
        ),
        (
            f"CREATE INDEX IF NOT EXISTS {names.local('_deleted')} ON {names.table} (region, key) "
            f"WHERE deleted"
        ),
    ]


def outbox_tables(names: Names) -> list[str]:
    """The statements that make the outbox where it is missing."""
    form = migrations.newest(migrations.POSTGRES)
    return [
        LOCK,
        f"""CREATE TABLE IF NOT EXISTS {names.outbox} (
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    id bigint GENERATED ALWAYS AS IDENTITY,
    region text NOT NULL,
    keys text[] NOT NULL,
    row_versions bigint[] NOT NULL,
    origin text NOT NULL DEFAULT '',
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (xid, id)
) WITH (toast_tuple_target = 8160)""",
        f"""CREATE TABLE IF NOT EXISTS {names.meta} (
    one smallint PRIMARY KEY CHECK (one = 1),
    schema_version integer NOT NULL,
    generation text NOT NULL,
    horizon_xid xid8 NOT NULL DEFAULT '0',
    horizon_id bigint NOT NULL DEFAULT 0
)""",
        (
            f"INSERT INTO {names.meta} (one, schema_version, generation) "
            f"VALUES (1, {form}, md5(random()::text || clock_timestamp()::text)) "
            f"ON CONFLICT DO NOTHING"
        ),
    ]


def triggers(names: Names) -> list[str]:
    """The statements that make the triggers anew."""
    return _made(names, _bodies(names))


def mapped_triggers(names: Names, mapping: RowMapping) -> list[str]:
    """The same for a table of the user's own."""
    return _made(names, _mapped_bodies(names, mapping))


def _made(names: Names, bodies: list[tuple[str, str]]) -> list[str]:
    foreign = "coalesce(current_setting('clusterdb_cache.writer', true), '') <> 'on'"
    made: list[str] = []
    for end, (body, when) in zip(TRIGGERS, bodies, strict=True):
        function = names.of(end)
        made += [
            (
                f"CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS "
                f"$body$\nBEGIN\n    IF {foreign} THEN\n{body}\n    END IF;\n"
                f"    RETURN coalesce(NEW, OLD);\nEND\n$body$"
            ),
            f"DROP TRIGGER IF EXISTS {names.local(end)} ON {names.table}",
            f"CREATE TRIGGER {names.local(end)} {when} EXECUTE FUNCTION {function}()",
        ]
    return made


def _bodies(names: Names) -> list[tuple[str, str]]:
    tell = f"INSERT INTO {names.outbox} (region, keys, row_versions) VALUES"
    wake = f"PERFORM pg_notify('{channel(names)}', '');"
    keep = (
        f"INSERT INTO {names.table} (region, key, row_version, deleted) "
        f"VALUES (OLD.region, OLD.key, OLD.row_version + 1, true) ON CONFLICT DO NOTHING;"
    )
    return [
        (
            """        IF NOT (OLD.deleted AND NEW.deleted) THEN
            NEW.row_version := greatest(NEW.row_version, OLD.row_version + 1);
            NEW.updated_at := clock_timestamp();
        END IF;""",
            f"BEFORE UPDATE ON {names.table} FOR EACH ROW",
        ),
        (
            f"""        IF TG_OP <> 'DELETE' AND NOT NEW.deleted THEN
            {tell} (NEW.region, ARRAY[NEW.key], ARRAY[NEW.row_version]);
            {wake}
        END IF;
        IF TG_OP <> 'INSERT' AND NOT OLD.deleted
            AND (TG_OP = 'DELETE' OR (NEW.region, NEW.key) <> (OLD.region, OLD.key)
                OR NEW.deleted) THEN
            {tell} (OLD.region, ARRAY[OLD.key], ARRAY[OLD.row_version + 1]);
            {wake}
            {keep}
        END IF;""",
            f"AFTER INSERT OR UPDATE OR DELETE ON {names.table} FOR EACH ROW",
        ),
        _emptied(names),
    ]


def _emptied(names: Names) -> tuple[str, str]:
    """Nobody can tell of each row then: all that was told before is lost."""
    return (
        f"""        UPDATE {names.meta}
        SET horizon_xid = pg_current_xact_id(), horizon_id = 9223372036854775807;
        PERFORM pg_notify('{channel(names)}', '');""",
        f"AFTER TRUNCATE ON {names.table} FOR EACH STATEMENT",
    )


def _mapped_bodies(names: Names, mapping: RowMapping) -> list[tuple[str, str]]:
    assert mapping.version_column is not None
    key, version = quoted(mapping.key_column), quoted(mapping.version_column)
    region, prefix = literal(mapping.region), literal(mapping.prefix)
    new_key, old_key = f"{prefix} || NEW.{key}::text", f"{prefix} || OLD.{key}::text"
    new_version, old_version = f"coalesce(NEW.{version}, 1)", f"coalesce(OLD.{version}, 1)"
    tell = f"INSERT INTO {names.outbox} (region, keys, row_versions) VALUES"
    wake = f"PERFORM pg_notify('{channel(names)}', '');"
    return [
        (
            f"""        IF TG_OP = 'UPDATE' THEN
            NEW.{version} := greatest({new_version}, {old_version} + 1);
        ELSE
            NEW.{version} := greatest({new_version}, 1 + coalesce((SELECT max(row_versions[1])
                FROM {names.outbox} WHERE region = {region} AND keys[1] = {new_key}), 0));
        END IF;""",
            f"BEFORE INSERT OR UPDATE ON {names.table} FOR EACH ROW",
        ),
        (
            f"""        IF TG_OP <> 'DELETE' THEN
            {tell} ({region}, ARRAY[{new_key}], ARRAY[{new_version}]);
        END IF;
        IF TG_OP = 'DELETE' OR (TG_OP = 'UPDATE' AND NEW.{key} <> OLD.{key}) THEN
            {tell} ({region}, ARRAY[{old_key}], ARRAY[{old_version} + 1]);
        END IF;
        {wake}""",
            f"AFTER INSERT OR UPDATE OR DELETE ON {names.table} FOR EACH ROW",
        ),
        _emptied(names),
    ]
