"""The suite is worth what it catches: each mutant breaks one rule, and a clause must notice it.

A mutant is a patch of the storage in SQLite, or of the rules that all storages share. That the
clauses pass without it is in test_sqlite.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace as with_fields
from tests.storage.test_sqlite import harness

from clusterdb.cache.errors import CacheError
from clusterdb.cache.rows import RowWritten
from clusterdb.cache.storage.sqlite import statements, storage
from clusterdb.cache.storage.sqlite.outbox import Outbox
from clusterdb.cache.storage.sqlite.own import OwnRows
from clusterdb.cache.storage.sqlite.statements import Statements
from clusterdb.cache.storage.sqlite.storage import SQLiteStorage
from clusterdb.cache.testing.storage import CLAUSES, run
from clusterdb.cache.types import MISSING

BY_NAME = {clause.name: clause for clause in CLAUSES}
MUTANTS: list[Any] = []


def replace(owner: Any, name: str, *caught_by: str) -> Callable[[Any], Any]:
    """The decorated function takes the original first and stands in for it."""

    def register(instead: Any) -> Any:
        original = getattr(owner, name)

        def patch(*args: Any, **kwargs: Any) -> Any:
            return instead(original, *args, **kwargs)

        MUTANTS.append(pytest.param(owner, name, patch, caught_by, id=instead.__name__))
        return instead

    return register


@pytest.mark.parametrize(("owner", "name", "patch", "caught_by"), MUTANTS)
async def test_a_mutant_is_caught(
    owner: Any,
    name: str,
    patch: Any,
    caught_by: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    assert caught_by
    monkeypatch.setattr(owner, name, patch)
    noticed = []
    for at, clause in enumerate(caught_by):
        try:
            await run(BY_NAME[clause], harness(tmp_path / f"{at}.db"))
        except (AssertionError, CacheError, TimeoutError):
            noticed.append(clause)

    assert noticed == list(caught_by)


# -- the rules


@replace(statements, "judge", "absent_writes_only_where_nothing_is")
def ignores_when(original, change, held):
    return original(with_fields(change, when="always"), held)


@replace(statements, "judge", "an_expected_version_must_be_there", "racing_writers_lose_no_update")
def ignores_expect(original, change, held):
    return original(with_fields(change, expect=None), held)


@replace(statements, "judge", "a_given_version_is_taken_once")
def takes_any_given_version(original, change, held):
    return original(change, with_fields(held, version=0) if change.version else held)


@replace(statements, "judge", "a_deletion_with_a_version_stays")
def forgets_deletions_of_nothing(original, change, held):
    if change.value is MISSING and not held.live:
        change = with_fields(change, version=None)
    return original(change, held)


@replace(statements, "judge", "versions_grow_by_one", "an_expired_row_keeps_its_version")
def restarts_versions(original, change, held):
    return original(change, held if held.live else with_fields(held, version=0))


@replace(statements, "judge", "expired_is_absent")
def takes_all_rows_for_live(original, change, held):
    return original(change, with_fields(held, live=held.version > 0))


@replace(statements, "judge", "a_deletion_of_nothing_changes_no_version")
def deletes_what_is_not_there(original, change, held):
    return original(change, with_fields(held, live=True))


# -- rows


@replace(OwnRows, "find", "a_row_expires")
def never_expires(original, self, connection, region, keys, now):
    return original(self, connection, region, keys, 0.0)


@replace(OwnRows, "find", "tags_come_back")
def forgets_tags(original, *args):
    return [with_fields(row, tags=()) for row in original(*args)]


@replace(OwnRows, "find", "regions_are_disjoint")
def mixes_regions(original, self, connection, region, keys, now):
    return original(self, connection, "main", keys, now)


@replace(Statements, "read", "reads_answer_in_order")
def answers_in_another_order(original, self, connection, region, keys, now):
    return original(self, connection, region, sorted(keys), now)


@replace(Statements, "page", "a_scan_gives_all_rows_by_key")
def scans_skip_a_row(original, *args):
    return original(*args)[:-1]


@replace(Statements, "write", "all_changes_or_none")
def ignores_atomic(original, self, connection, changes, atomic, now):
    return original(self, connection, changes, False, now)


@replace(Statements, "write", "what_is_not_made_has_no_commit")
def commits_nothing(original, self, connection, changes, atomic, now):
    outcomes, _ = original(self, connection, changes, atomic, now)
    return outcomes, True


@replace(Statements, "clear", "a_clear_leaves_other_regions")
def clears_all(original, self, connection, regions, now):
    return original(self, connection, ["main", "other"], now)


# -- transactions


@replace(storage, "_roll_back", "an_error_before_the_commit_undoes_all")
def commits_instead(original, connection):
    if connection.in_transaction:
        connection.execute("COMMIT")


@replace(SQLiteStorage, "_bounded", "before_the_commit_outcomes_are_told")
async def does_not_ask(original, self, what):
    what.close()


@replace(SQLiteStorage, "_transaction", "nothing_is_seen_before_the_commit")
async def asks_after_the_commit(original, self, make, before_commit):
    made = await original(self, make, None)
    if before_commit is not None:
        await before_commit(made)
    return made


# -- changes


@replace(Outbox, "tell", "changes_are_told_in_order", "the_origin_tells_who_wrote")
def tells_no_origin(original, self, *args):
    self._origin = ""
    return original(self, *args)


@replace(Outbox, "changes", "changes_are_told_in_order")
def tells_twice(original, self, connection, after, limit):
    changes, _ = original(self, connection, after, limit)
    return changes, after


@replace(Outbox, "prune", "what_is_old_is_forgotten")
def forgets_without_a_horizon(original, self, connection, before):
    sql = f"DELETE FROM {self._names.outbox} WHERE changed_at < ?"
    return connection.execute(sql, (before,)).rowcount


@replace(OwnRows, "prune", "what_is_old_is_forgotten")
def forgets_live_rows(original, self, connection, before):
    sql = f"DELETE FROM {self.names.table} WHERE updated_at < ?"
    return connection.execute(sql, (before,)).rowcount


@replace(SQLiteStorage, "wait", "waiting_ends_with_a_change")
async def never_wakes(original, self, timeout):
    if timeout > 1:
        raise TimeoutError
    await original(self, timeout)


@replace(Statements, "_make", "a_failing_row_fails_alone")
def fails_all(original, self, connection, change, held, now):
    outcome = original(self, connection, change, held, now)
    if isinstance(outcome, CacheError):
        raise outcome
    return outcome


@replace(Statements, "_make", "two_storages_count_together", "writes_of_a_crowd_are_all_made")
def draws_no_versions(original, self, connection, change, held, now):
    outcome = original(self, connection, change, with_fields(held, version=0), now)
    assert isinstance(outcome, RowWritten)
    return outcome
