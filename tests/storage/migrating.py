"""Brings tables to a form that only tests have: `python -m tests.storage.migrating CONFIG`.

The step can be taken once only: a second time the column is there already.
"""

import asyncio
import sys

from tests.storage.worker import config_of

from clusterdb.cache.clock import SystemClock
from clusterdb.cache.factory import make_setup
from clusterdb.cache.storage import migrations
from clusterdb.cache.storage.migrations import Step
from clusterdb.cache.storage.names import Names

__all__ = ["STEPS"]


def noted(names: Names) -> list[str]:
    return [
        f"ALTER TABLE {names.table} ADD COLUMN note text",
        f"UPDATE {names.table} SET note = 'of form 1'",
    ]


def weighed(names: Names) -> list[str]:
    return [f"ALTER TABLE {names.outbox} ADD COLUMN weight integer"]


STEPS = (Step(2, table=noted), Step(3, outbox=weighed))


def main(config: str) -> None:
    migrations.POSTGRES = migrations.SQLITE = STEPS
    print("ready", flush=True)
    sys.stdin.readline()
    asyncio.run(make_setup(config_of(config), SystemClock()).init(with_triggers=True))
    print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
