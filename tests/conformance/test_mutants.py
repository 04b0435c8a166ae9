"""The suite is worth what it catches: each mutant breaks one rule, and a clause must notice it.

A mutant is a patch of one method of the embedded backend. It names the clauses that are about the
rule it breaks; at least one of them has to fail. That they pass without it is in test_memory.
"""

import copy
import unicodedata
from collections.abc import Callable, Iterator
from itertools import count, repeat
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace as replace_field
from tests.builds import needs_pure
from tests.conformance.test_memory import MemoryHarness

import clusterdb.cache.backends.memory as memory_module
from clusterdb.cache.backends import moving
from clusterdb.cache.backends.memory import MemoryBackend
from clusterdb.cache.claims import Claims
from clusterdb.cache.entries import TagState
from clusterdb.cache.errors import CacheError
from clusterdb.cache.intake import Intake
from clusterdb.cache.keys import matcher
from clusterdb.cache.policy import Fifo, Lfu, Lru
from clusterdb.cache.residents import Residents
from clusterdb.cache.table import Table
from clusterdb.cache.tags import TagStates
from clusterdb.cache.testing import ManualClock
from clusterdb.cache.testing.conformance import CLAUSES, run
from clusterdb.cache.types import FOREVER, MISSING, RemovalCause

Patch = Callable[[pytest.MonkeyPatch], None]
BY_NAME = {clause.name: clause for clause in CLAUSES}
MUTANTS: list[Any] = []


def mutant(*caught_by: str) -> Callable[[Patch], Patch]:
    def register(patch: Patch) -> Patch:
        MUTANTS.append(pytest.param(patch, caught_by, id=patch.__name__))
        return patch

    return register


def replace(owner: object, name: str, *caught_by: str) -> Callable[[Any], Any]:
    """The decorated function takes the original first and stands in for it."""

    def register(instead: Any) -> Any:
        original = getattr(owner, name)

        def patch(monkeypatch: pytest.MonkeyPatch) -> None:
            monkeypatch.setattr(
                owner, name, lambda *args, **kwargs: instead(original, *args, **kwargs)
            )

        MUTANTS.append(pytest.param(patch, caught_by, id=instead.__name__))
        return instead

    return register


@needs_pure
@pytest.mark.parametrize(("patch", "caught_by"), MUTANTS)
async def test_a_mutant_is_caught(
    patch: Patch, caught_by: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
):
    assert caught_by
    patch(monkeypatch)
    noticed = [name for name in caught_by if await breaks(name)]

    assert noticed == list(caught_by)


async def breaks(name: str) -> bool:
    clock = ManualClock()
    try:
        await run(BY_NAME[name], MemoryHarness(MemoryBackend(clock), clock))
    except (AssertionError, CacheError, LookupError, RuntimeError, TypeError):
        return True
    return False


# -- reading


@replace(Table, "read", "read_gives_what_was_written")
def forgets_tags(original, *args):
    record = original(*args)
    return record and type(record)(
        record.key, record.value, record.version, record.expires_in, (), record.tier
    )


@replace(MemoryBackend, "read", "read_answers_in_order")
async def answers_in_another_order(original, self, region, keys, **options):
    return await original(self, region, sorted(keys), **options)


@replace(MemoryBackend, "read", "every_value_is_a_value")
async def takes_none_for_absence(original, *args, **options):
    records = await original(*args, **options)
    return [None if record is None or record.value is None else record for record in records]


@replace(Table, "put", "objects_come_back_themselves")
def copies_objects(original, self, key, value, **options):
    return original(self, key, copy.copy(value) if value.__class__ is not object else [], **options)


@replace(Table, "read", "expiry_is_exact")
def reads_an_instant_too_long(original, self, key, now, stale=False):
    return original(self, key, now - 2**-20, stale)


@replace(Table, "peek", "expiry_is_exact")
def looks_an_instant_too_long(original, self, key, now, stale=False):
    return original(self, key, now - 2**-20, stale)


@replace(Table, "read", "expiry_is_exact")
def reads_an_instant_too_short(original, self, key, now, stale=False):
    return original(self, key, now + 2**-9, stale)


@replace(Table, "read", "grace_serves_stale_only_on_request")
def serves_stale_unasked(original, self, key, now, stale=False):
    return original(self, key, now, True)


@replace(Table, "peek", "peek_leaves_no_trace")
def counts_looks(original, *args):
    return Table.read(*args)


@replace(Table, "peek", "grace_ends")
def never_ends_grace(original, self, key, now, stale=False):
    return original(self, key, min(now, self._entries[key].deadline) if stale else now, stale)


@replace(Table, "get", "a_table_agrees_with_reads")
def table_ignores_expiry(original, self, key, now):
    return original(self, key, 0.0)


@replace(Table, "get", "a_table_agrees_with_reads")
def table_ignores_tags(original, self, key, now):
    entry = self._entries.get(key)
    return MISSING if entry is None or entry.deadline <= now else entry.value


# -- writing


@mutant("versions_grow")
def versions_stand_still(monkeypatch):
    init = MemoryBackend.__init__

    def changed(self, clock):
        init(self, clock)
        self._versions = repeat(1)

    monkeypatch.setattr(MemoryBackend, "__init__", changed)


@replace(MemoryBackend, "_make_table", "versions_grow")
def versions_of_each_region(original, self, settings):
    self._versions = count(1)
    return original(self, settings)


@replace(Table, "put", "absent_writes_only_where_nothing_is", "changes_are_made_in_order")
def ignores_absent(original, self, key, value, *, when="always", **options):
    return original(self, key, value, when="always" if when == "absent" else when, **options)


@replace(Table, "put", "present_writes_only_over_something")
def ignores_present(original, self, key, value, *, when="always", **options):
    return original(self, key, value, when="always" if when == "present" else when, **options)


@replace(Residents, "alive", "absent_takes_expired_for_absent", "present_takes_stale_for_absent")
def takes_expired_for_alive(original, self, key, now):
    return original(self, key, 0.0)


@replace(Residents, "alive", "what_ended_is_absent_to_all", "absence_is_what_no_read_finds")
def takes_ended_for_alive(original, self, key, now):
    entry = self.entries.get(key)
    return entry if entry is not None and entry.deadline > now else None


@replace(Table, "put", "keep_ttl_keeps_the_expiry")
def forgets_keep_ttl(original, self, key, value, *, keep_deadline=False, **options):
    return original(self, key, value, **options)


@replace(Table, "put", "an_overwrite_replaces_all", "an_overwrite_outlives_the_old_expiry")
def always_keeps_the_expiry(original, self, key, value, *, keep_deadline=False, **options):
    return original(self, key, value, keep_deadline=True, **options)


@replace(Table, "put", "keep_ttl_needs_a_live_entry")
def keeps_a_dead_expiry(original, self, key, value, *, keep_deadline, deadline, **options):
    old = self._entries.get(key)
    kept = old.deadline if keep_deadline and old is not None else deadline
    return original(self, key, value, deadline=kept, **options)


@replace(Residents, "overwrite", "an_overwrite_leaves_its_old_tags")
def keeps_old_tags(original, self, entry, value, weight, tags, deadline):
    self._tags.retain(entry.tags)
    original(self, entry, value, weight, tags + entry.tags, deadline)


@replace(Residents, "schedule", "an_overwrite_outlives_the_old_expiry")
def leaves_the_old_timer(original, self, entry, deadline):
    entry.deadline = min(entry.deadline, deadline)


@replace(MemoryBackend, "write", "changes_are_made_in_order")
async def writes_backwards(original, self, region, changes):
    return (await original(self, region, changes[::-1]))[::-1]


@replace(MemoryBackend, "write", "one_failure_harms_no_other", "add_needs_an_integer")
async def raises_the_first_error(original, *args):
    outcomes = await original(*args)
    for outcome in outcomes:
        if isinstance(outcome, CacheError):
            raise outcome
    return outcomes


@replace(Table, "remove", "a_drop_removes_what_lives")
def drops_everything_successfully(original, *args):
    original(*args)
    return True


@replace(Table, "remove", "a_drop_removes_what_is_stale")
def leaves_what_is_stale(original, self, key, cause, now):
    return self._residents.alive(key, now) is not None and original(self, key, cause, now)


@replace(Table, "touch", "touch_needs_a_live_entry")
def touch_revives(original, self, key, deadline, now):
    return original(self, key, deadline, 0.0)


@replace(Table, "touch", "touch_changes_only_the_expiry")
def touch_is_lazy(original, self, key, deadline, now):
    entry = self._residents.alive(key, now)
    return 0 if entry is None else entry.version


@replace(Table, "touch", "touch_changes_only_the_expiry", "touches_and_sums_keep_tags")
def touch_loses_tags(original, self, key, deadline, now):
    entry = self._residents.alive(key, now)
    if entry is not None:
        self._tags.release(entry.tags)
        entry.tags = ()
    return original(self, key, deadline, now)


@replace(Table, "swap", "add_keeps_expiry_and_tags")
def add_renews_the_expiry(original, self, key, seen, value, *, deadline, **options):
    version = original(self, key, seen, value, deadline=deadline, **options)
    self._residents.schedule(self._entries[key], deadline)
    return version


@replace(memory_module, "_add", "add_starts_from_initial")
def add_forgets_initial(original, table, settings, change, deadline, now):
    return original(table, settings, replace_field(change, initial=0), deadline, now)


@replace(memory_module, "_add", "add_starts_from_initial")
def add_counts_on_what_expired(original, table, settings, change, deadline, now):
    return original(table, settings, change, deadline, 0.0)


@mutant("add_stays_in_64_bits")
def add_knows_no_bounds(monkeypatch):
    monkeypatch.setattr(memory_module, "bounded", lambda key, total: total)


@replace(memory_module, "_add", "add_needs_an_integer")
def add_takes_a_bool_for_one(original, table, settings, change, deadline, now):
    entry = table._entries.get(change.key)
    if entry is not None and isinstance(entry.value, bool):
        entry.value = int(entry.value)
    return original(table, settings, change, deadline, now)


@replace(MemoryBackend, "_make_table", "regions_are_disjoint", "clear_empties_its_regions_only")
def one_table_for_all(original, self, settings):
    if not hasattr(self, "only"):
        self.only = original(self, settings)
    return self.only


@mutant("keys_are_exact")
def normalises_keys(monkeypatch):
    for name in ("put", "read", "remove", "peek"):
        original = getattr(Table, name)
        monkeypatch.setattr(Table, name, _normalising(original))


def _normalising(original):
    def changed(self, key, *args, **options):
        return original(self, unicodedata.normalize("NFC", key), *args, **options)

    return changed


# -- commits


@replace(Table, "commit", "a_failed_commit_changes_nothing", "racing_commits_lose_no_update")
def commits_unchecked(original, self, checks, puts, drops, now):
    return original(self, [], puts, drops, now)


@replace(Table, "commit", "a_failed_commit_changes_nothing")
def checks_only_the_first(original, self, checks, puts, drops, now):
    return original(self, checks[:1], puts, drops, now)


@replace(Table, "commit", "a_failed_commit_changes_nothing")
def ignores_required_absence(original, self, checks, puts, drops, now):
    return original(self, [check for check in checks if check[1] is not None], puts, drops, now)


@replace(Table, "commit", "a_failed_commit_changes_nothing")
def drops_before_it_checks(original, self, checks, puts, drops, now):
    for key in drops:
        if all(key != checked for checked, _ in checks):
            self.remove(key, RemovalCause.DELETED, now)
    return original(self, checks, puts, drops, now)


@replace(Table, "commit", "an_older_version_fails", "racing_commits_lose_no_update")
def takes_newer_for_equal(original, self, checks, puts, drops, now):
    seen = [
        (key, entry.version if entry and version and entry.version > version else version)
        for key, version in checks
        for entry in [self._residents.alive(key, now)]
    ]
    return original(self, seen, puts, drops, now)


@replace(Table, "commit", "a_commit_says_what_came_of_each_change")
def takes_every_drop_for_made(original, self, checks, puts, drops, now):
    done = original(self, checks, puts, drops, now)
    return None if done is None else dict.fromkeys(drops, 0) | done


@replace(Table, "commit", "a_commit_makes_all_changes")
def forgets_drops(original, self, checks, puts, drops, now):
    return original(self, checks, puts, [], now)


@replace(Table, "commit", "a_commit_makes_all_changes", "a_commit_counts_tags")
def commits_without_tags(original, self, checks, puts, drops, now):
    return original(self, checks, [(*put[:4], ()) for put in puts], drops, now)


@replace(Table, "commit", "a_commit_with_something_too_large_changes_nothing")
def commits_until_something_is_too_large(original, self, checks, puts, drops, now):
    for put in puts:
        original(self, checks, [put], [], now)
    return original(self, [], [], drops, now)


@replace(Table, "commit", "a_commit_ends_claims_of_what_it_changes")
def a_commit_ends_every_claim(original, self, *args):
    self.release(None)
    return original(self, *args)


# -- claims


@replace(
    Table,
    "_store",
    "put_ends_a_claim",
    "put_absent_ends_a_claim",
    "add_ends_a_claim",
    "commit_ends_a_claim",
    "a_claim_fills_once",
)
def writes_leave_the_claim(original, self, key, *args):
    claims = self._claims._claims
    held = claims.pop(key, None)
    version = original(self, key, *args)
    if held is not None:
        claims[key] = held
    return version


@replace(Table, "_remove", "delete_ends_a_claim", "invalidate_ends_a_claim")
def removals_leave_the_claim(original, self, key, *args):
    claims = self._claims._claims
    held = claims.pop(key, None)
    removed = original(self, key, *args)
    if held is not None:
        claims[key] = held
    return removed


@replace(Table, "clear", "clear_ends_a_claim", "after_clear_the_next_claim_is_safe")
def clear_leaves_claims(original, self):
    kept, self._claims._claims = self._claims._claims, {}
    number = original(self)
    self._claims._claims = kept
    return number


@replace(Claims, "holds", "invalidate_tag_ends_a_claim", "a_reused_tag_does_not_revive_a_claim")
def fills_ignore_tags(original, self, claim):
    return not claim.dropped and self._claims.get(claim.key) is claim


@replace(Claims, "holds", "after_delete_the_next_claim_is_safe", "release_gives_back")
def any_claim_will_do(original, self, claim):
    return claim.key in self._claims


@replace(Claims, "holds", "delete_ends_a_claim", "clear_ends_a_claim", "a_claim_fills_once")
def fills_need_no_claim(original, self, claim):
    return True


@replace(Claims, "take", "a_claim_has_one_holder", "of_many_claimants_one_wins")
def everybody_gets_a_claim(original, self, key, tags):
    self.drop(key)
    return original(self, key, tags)


@replace(Claims, "take", "after_invalidate_tag_the_next_claim_is_safe")
def a_dead_claim_blocks_its_key(original, self, key, tags):
    return None if key in self._claims else original(self, key, tags)


@replace(Claims, "release", "release_is_idempotent", "after_delete_the_next_claim_is_safe")
def releases_whatever_is_there(original, self, claim):
    self.drop(claim.key)


@replace(Claims, "release", "release_gives_back")
def releases_nothing(original, self, claim):
    return None


@replace(Claims, "extend", "extend_adds_dependence")
def extends_nothing(original, self, claim, tags):
    return None


@replace(Claims, "extend", "extend_keeps_the_first_tags", "extend_takes_the_present_state")
def extend_replaces_the_tags(original, self, claim, tags):
    claim.tags = self._tags.acquire(tags)


@replace(Claims, "extend", "extend_revives_nothing")
def extend_takes_the_claim_again(original, self, claim, tags):
    claim.dropped = False
    self._claims[claim.key] = claim
    original(self, claim, tags)


@replace(Table, "fill", "a_fill_stores")
def fills_for_ever(original, self, claim, value, deadline, weight, now):
    return original(self, claim, value, FOREVER, weight, now)


@replace(Table, "fill", "a_fill_stores", "extend_takes_the_present_state")
def fills_without_tags(original, self, claim, value, deadline, weight, now):
    if not self._claims.holds(claim):
        return 0
    return self.put(claim.key, value, deadline=deadline, weight=weight, now=now)


@replace(Table, "claim", "a_live_entry_is_given_instead")
def claims_what_is_there(original, self, key, tags, now):
    return self._claims.take(key, tags)


@replace(Table, "claim", "a_stale_entry_waits_for_the_fill")
def claiming_removes_what_is_stale(original, self, key, tags, now):
    if self._residents.alive(key, now) is None:
        self.remove(key, RemovalCause.EXPIRED, now)
    return original(self, key, tags, now)


@replace(Table, "touch", "what_is_refused_ends_no_claim")
def a_refused_touch_ends_the_claim(original, self, key, *args):
    self._claims.drop(key)
    return original(self, key, *args)


@replace(MemoryBackend, "fill", "fills_are_answered_in_order")
async def answers_only_what_was_stored(original, *args):
    return sorted(await original(*args), key=lambda outcome: not outcome.applied)


@replace(Table, "claim", "a_claim_is_absence")
def stores_a_placeholder(original, self, key, tags, now):
    answer = original(self, key, tags, now)
    held = self._claims._claims.pop(key, None)
    self.put(key, "placeholder", deadline=FOREVER, weight=0, now=now)
    if held is not None:
        self._claims._claims[key] = held
    return answer


# -- tags


@replace(TagStates, "invalidate", "a_tag_ends_its_entries", "invalidate_tag_ends_a_claim")
def a_tag_never_ends(original, self, name):
    return 0


@replace(TagStates, "invalidate", "a_tag_can_be_used_again", "old_entries_do_not_come_back")
def an_ended_tag_stays(original, self, name):
    state = self._states.get(name)
    if state is not None:
        state.live = False
    return 0 if state is None else state.uses


@replace(TagStates, "invalidate", "a_tag_counts_what_it_ended")
def miscounts_what_it_ended(original, self, name):
    return original(self, name) * 2


@replace(TagStates, "acquire", "a_tag_ends_its_entries", "a_tag_counts_what_it_ended")
def entries_share_no_state(original, self, names):
    states = tuple([TagState(name) for name in names])
    self._states.update({state.name: state for state in states})
    self.retain(states)
    return states


@replace(TagStates, "release", "tags_are_known_while_used")
def tags_are_never_forgotten(original, self, states):
    for state in states:
        state.uses -= 1


@replace(MemoryBackend, "_make_table", "a_tag_reaches_every_region")
def tags_of_each_region(original, self, settings):
    self._tags = TagStates()
    return original(self, settings)


@replace(MemoryBackend, "invalidate_tags", "several_tags_in_one_call")
async def only_the_first_tag(original, self, tags):
    return await original(self, tags[:1])


@replace(Residents, "present", "what_ended_is_never_stale")
def serves_ended_entries_as_stale(original, self, key, now):
    return self.entries.get(key)


@replace(Table, "put", "a_refused_write_changes_no_tags")
def a_refused_write_takes_its_tags(original, self, key, value, *, tags=(), **options):
    version = original(self, key, value, tags=tags, **options)
    entry = self._entries.get(key)
    if not version and entry is not None:
        entry.tags += self._tags.acquire(tags)
    return version


# -- scans and clears


@mutant("a_scan_matches_globs")
def scans_everything(monkeypatch):
    scan = MemoryBackend.scan
    monkeypatch.setattr(
        MemoryBackend, "scan", lambda self, region, _, size: scan(self, region, "*", size)
    )


@mutant("a_scan_gives_each_key_once")
def scans_one_batch(monkeypatch):
    async def scan(self, region, glob, batch_size, dead=False):
        yield [key for key in self._tables[region].keys()[:batch_size] if matcher(glob)(key)]

    monkeypatch.setattr(MemoryBackend, "scan", scan)


@mutant("a_scan_gives_no_dead_keys")
def scans_what_is_resident(monkeypatch):
    async def scan(self, region, glob, batch_size, dead=False):
        yield [key for key in list(self._tables[region].keys()) if matcher(glob)(key)]

    monkeypatch.setattr(MemoryBackend, "scan", scan)


@mutant("a_scan_of_the_dead_gives_all_that_is_there")
def forgets_the_claims(monkeypatch):
    monkeypatch.setattr(Claims, "keys", lambda self: [])


@mutant("a_scan_survives_changes", "a_scan_survives_a_clear")
def scans_the_index_itself(monkeypatch):
    async def scan(self, region, glob, batch_size, dead=False):
        for key in self._tables[region]._entries:
            yield [key]

    monkeypatch.setattr(MemoryBackend, "scan", scan)


@mutant("a_scan_survives_changes")
def scans_by_position(monkeypatch):
    async def scan(self, region, glob, batch_size, dead=False):
        at = 0
        while keys := self._tables[region].keys()[at : at + batch_size]:
            yield keys
            at += batch_size

    monkeypatch.setattr(MemoryBackend, "scan", scan)


@mutant("a_scan_survives_changes")
def scans_twice(monkeypatch):
    scan = MemoryBackend.scan

    async def changed(self, *args):
        for _ in range(2):
            async for batch in scan(self, *args):
                yield batch

    monkeypatch.setattr(MemoryBackend, "scan", changed)


@mutant("a_scan_leaves_no_trace")
def scanning_reads(monkeypatch):
    monkeypatch.setattr(Table, "peek", Table.read)


@replace(MemoryBackend, "clear", "clear_empties_its_regions_only")
async def clears_every_region(original, self, regions):
    return await original(self, list(self._tables))


@replace(Table, "clear", "clear_empties_its_regions_only", "clear_leaves_nothing_stale")
def clears_only_the_index(original, self):
    self._claims.clear()
    self._entries.clear()
    return 0


# -- limits


@replace(Residents, "make_room", "items_are_limited", "weight_is_limited")
def never_makes_room(original, self, items, weight):
    return None


@replace(Residents, "make_room", "items_are_limited")
def makes_too_much_room(original, self, items, weight):
    original(self, items + 1, weight)


@mutant("weight_is_limited")
def overwrites_weigh_nothing(monkeypatch):
    overwrite = Residents.overwrite
    monkeypatch.setattr(
        Residents,
        "overwrite",
        lambda self, entry, value, _, *rest: overwrite(self, entry, value, entry.weight, *rest),
    )


@mutant("too_large_is_refused", "a_commit_with_something_too_large_changes_nothing")
def takes_anything(monkeypatch):
    monkeypatch.setattr(Intake, "check", lambda *_: None)


@mutant("lru_evicts_what_was_used_longest_ago")
def lru_ignores_use(monkeypatch):
    monkeypatch.setattr(Lru, "touch", Fifo.touch)


@replace(Fifo, "touch", "fifo_evicts_what_came_first")
def fifo_honours_use(original, self, entry):
    self.remove(entry)
    self.insert(entry)


@mutant("lfu_evicts_what_was_used_least")
def lfu_ignores_use(monkeypatch):
    monkeypatch.setattr(Lfu, "touch", Fifo.touch)


@replace(Residents, "expire", "expired_entries_give_back_their_memory")
def never_gives_back(original, *args):
    return 0


@replace(Residents, "expire", "expired_entries_give_back_their_memory")
def gives_back_too_early(original, self, now, limit):
    return original(self, now + self.grace, limit)


@replace(Residents, "configure", "lower_limits_hold_at_once")
def lower_limits_wait(original, self, *args):
    keep, self.make_room = self.make_room, lambda *_: None
    original(self, *args)
    self.make_room = keep


@replace(Residents, "configure", "a_new_policy_keeps_the_entries")
def a_new_policy_starts_empty(original, self, policy, *args):
    if policy.name != self.policy.name:
        self.policy = policy
    original(self, policy, *args)


@replace(Residents, "reweigh", "a_new_weight_limit_weighs_what_is_there")
def forgets_to_weigh(original, *args):
    return None


@replace(Residents, "configure", "a_new_grace_counts_for_what_is_there")
def keeps_the_old_grace(original, self, policy, items, weight, grace):
    original(self, policy, items, weight, self.grace)


@replace(MemoryBackend, "_report", "observers_are_told")
def tells_twice(original, self, region, table):
    removals = list(table._residents.removals or ())
    original(self, region, table)
    if removals and self._observer is not None:
        self._observer(region, removals)


@replace(MemoryBackend, "_report", "observers_are_told")
def tells_nobody(original, *args):
    return None


@replace(MemoryBackend, "observe", "observers_can_leave")
def tells_for_ever(original, self, observer):
    if observer is not None:
        original(self, observer)


# -- figures


@replace(Table, "read", "hits_and_misses_add_up")
def counts_stale_hits_as_hits(original, self, *args):
    record = original(self, *args)
    counters = self._residents.counters
    if record is not None and record.stale:
        counters.stale_hits, counters.hits = counters.stale_hits - 1, counters.hits + 1
    return record


@replace(Table, "_drain", "hits_of_a_table_count")
def loses_hits(original, self):
    del self._touched[:1]
    original(self)


@replace(Table, "put", "writes_add_up")
def counts_refused_writes(original, self, *args, **options):
    version = original(self, *args, **options)
    self._residents.counters.sets += not version
    return version


@replace(Residents, "discard", "removals_add_up", "evictions_and_expirations_add_up")
def counts_no_removals(original, self, entry, cause):
    original(self, entry, RemovalCause.REPLACED)


@replace(Table, "remove", "removals_add_up")
def counts_removals_of_nothing(original, self, *args):
    removed = original(self, *args)
    self._residents.counters.deletes += not removed
    return removed


@mutant("a_description_stands_still")
def describes_the_live_counters(monkeypatch):
    monkeypatch.setattr("clusterdb.cache.backends.memory.replace", lambda counters: counters)


# -- export and restore


@mutant("an_export_gives_what_lives")
def exports_what_is_in_its_grace(monkeypatch):
    original: Any = Table.peek
    graced = _exporting(lambda *args: original(*args, True))
    monkeypatch.setattr(memory_module, "export_table", graced)


def _exporting(peek: Any) -> Any:
    original: Any = moving.export_table

    async def export(table: Any, codec: Any, now: Any, *options: Any) -> Any:
        twin = SimpleNamespace(keys=table.keys, peek=lambda key, time: peek(table, key, time))
        async for batch in original(twin, codec, now, *options):
            yield batch

    return export


@replace(moving, "exported_object", "an_export_gives_what_lives", "tags_live_again")
def exports_no_tags(original, codec, record, values):
    return original(codec, replace_field(record, tags=()), values)


@replace(moving, "exported_object", "an_export_without_values_says_the_rest")
def exports_values_unasked(original, codec, record, values):
    return original(codec, record, True)


@replace(moving, "is_over", "what_is_restored_expires")
def restores_what_is_over(original, entry):
    return False


@replace(Table, "restore", "a_newer_entry_stays", "overwriting_is_chosen")
def restores_over_what_is_newer(original, self, stored, version, over, now):
    return original(self, stored, version, "always", now)


@replace(Table, "restore", "a_newer_entry_stays", "overwriting_is_chosen")
def restores_only_what_is_absent(original, self, stored, version, over, now):
    return original(self, stored, version, "never", now)


@replace(Table, "restore", "what_is_restored_is_as_it_was", "a_newer_entry_stays")
def restores_under_new_versions(original, self, stored, version, over, now):
    return original(self, stored, 0, over, now)


@replace(Claims, "held", "a_restore_leaves_claims_alone")
def restores_over_claims(original, self, key):
    return False


@replace(memory_module, "above", "later_versions_are_higher")
def goes_on_counting(original, versions, version):
    return versions


@replace(moving, "opened", "what_was_not_sealed_for_a_key_is_refused")
def believes_what_it_gets(original, codec, entry):
    try:
        return original(codec, entry)
    except CacheError:
        return codec.encode(None)


@replace(TagStates, "acquire", "tags_live_again")
def restores_without_tags(original, self, names):
    return original(self, () if names == ("t", "u") else names)


# -- life


@replace(MemoryBackend, "configure", "configuring_keeps_contents", "new_regions_can_be_declared")
def configuring_starts_anew(original, self, regions):
    self._tables.clear()
    self._settings.clear()
    original(self, regions)


@replace(MemoryBackend, "open", "it_opens_again")
async def opening_empties(original, self):
    await original(self)
    for table in self._tables.values():
        table.clear()


@replace(MemoryBackend, "aclose", "closing_is_idempotent")
async def closes_once(original, self):
    if self._sweeper is None:
        raise RuntimeError("closed already")
    await original(self)


def test_there_is_a_mutant_for_nearly_every_clause():
    caught: Iterator[str] = (name for param in MUTANTS for name in param.values[1])

    assert len(set(caught) & set(BY_NAME)) > 75
