"""Each invariant on small histories: what keeps it is let pass, what breaks it is named."""

from __future__ import annotations

import random

import pytest
from tests.coherence.history import (
    ABSENT,
    NEVER,
    ORIGIN,
    Call,
    Kind,
    Outcome,
    Recorder,
    Tier,
    finished,
    read_file,
)
from tests.coherence.judge import MS, Terms, Window, judge
from tests.coherence.keys import Key

REGISTER = [Key(0, "register")]
LOADED = [Key(0, "loaded", 0)]
TAGGED = [Key(0, "tagged", 0, 0)]
BOUND = Terms(bound=1.0)


def call(kind, process, start, end, value=ABSENT, **other):
    """Times in milliseconds."""
    known = {
        "outcome": Outcome.OK,
        "tier": Tier.NEAR if kind == Kind.GET else Tier.BACKEND,
        "final": 0,
        "old_writer": 0,
        "old_number": 0,
        "ttl": 0,
        "age": 0.0,
    }
    fields = known | other
    return Call(
        kind=kind,
        process=process,
        key=0,
        writer=value[0],
        number=value[1],
        start=round(start * MS),
        end=round(end * MS),
        **fields,
    )


def write(process, start, end, number, **other):
    return call(Kind.SET, process, start, end, (1, number), **other)


def read(process, start, end, number, kind=Kind.GET, **other):
    return call(kind, process, start, end, (1, number) if number else ABSENT, **other)


def bump(start, end, version, kind=Kind.BUMP, **other):
    return call(kind, 0, start, end, (ORIGIN, version), **other)


def load(process, start, end, version, kind=Kind.LOAD, **other):
    return call(kind, process, start, end, (ORIGIN, version), **other)


FIRST = write(0, 0, 1, 1)
SECOND = write(0, 10, 11, 2)

CASES = {
    "within the bound": (REGISTER, [FIRST, SECOND, read(1, 1010, 1011, 1)], {}),
    "beyond the bound": (REGISTER, [FIRST, SECOND, read(1, 1012, 1013, 1)], {"I2": 1}),
    "deleted, within the bound": (
        REGISTER,
        [FIRST, call(Kind.DELETE, 0, 10, 11), read(1, 1000, 1001, 1)],
        {},
    ),
    "deleted, beyond the bound": (
        REGISTER,
        [FIRST, call(Kind.DELETE, 0, 10, 11), read(1, 1012, 1013, 1)],
        {"I6": 1},
    ),
    "an unknown write ends nothing": (
        REGISTER,
        [FIRST, write(0, 10, 0, 2, outcome=Outcome.UNKNOWN), read(1, 9000, 9001, 1)],
        {},
    ),
    "an unknown write that was read does": (
        REGISTER,
        [
            FIRST,
            write(0, 10, 0, 2, outcome=Outcome.UNKNOWN),
            read(1, 20, 21, 2),
            read(1, 1022, 1023, 1),
        ],
        {"I2": 1},
    ),
    "a failed write is none": (
        REGISTER,
        [FIRST, write(0, 10, 11, 2, outcome=Outcome.FAILED), read(1, 9000, 9001, 1)],
        {},
    ),
    "two writes at once: either is right": (
        REGISTER,
        [write(0, 0, 5, 1), write(1, 3, 8, 2), read(2, 9000, 9001, 1)],
        {},
    ),
    "its own write": (REGISTER, [FIRST, SECOND, read(0, 12, 13, 1)], {"I8": 1}),
    "its own delete": (
        REGISTER,
        [FIRST, call(Kind.DELETE, 2, 10, 11), read(2, 12, 13, 1)],
        {"I8": 1},
    ),
    "a value nobody wrote": (REGISTER, [FIRST, read(1, 5, 6, 9)], {"alien": 1}),
    "a value from the future": (REGISTER, [read(1, -5, -4, 1), FIRST], {"alien": 1}),
    "within its time to live": (
        REGISTER,
        [write(0, 0, 1, 1, ttl=100), read(1, 101, 102, 1), read(1, 120, 121, 0)],
        {},
    ),
    "beyond its time to live": (
        REGISTER,
        [write(0, 0, 1, 1, ttl=100), read(1, 107, 108, 1)],
        {"TTL": 1},
    ),
    "a value that is gone": (REGISTER, [FIRST, read(1, 1002, 1003, 0)], {"lost": 1}),
    "a value that may be gone": (
        REGISTER,
        [FIRST, call(Kind.DELETE, 0, 10, 0, outcome=Outcome.UNKNOWN), read(1, 1100, 1101, 0)],
        {},
    ),
    "an honest age": (
        REGISTER,
        [FIRST, SECOND, read(1, 111, 112, 1, Kind.LOOKUP, age=0.1)],
        {},
    ),
    "a dishonest age": (
        REGISTER,
        [FIRST, SECOND, read(1, 115, 116, 1, Kind.LOOKUP, age=0.1)],
        {"age": 1},
    ),
    "a consistent read of an old value": (
        REGISTER,
        [FIRST, SECOND, read(1, 12, 13, 1, Kind.FRESH)],
        {"I4": 2},  # it is stale, and no order explains it
    ),
    "consistent reads that go back": (
        REGISTER,
        [
            FIRST,
            write(0, 10, 50, 2),
            read(1, 12, 13, 2, Kind.FRESH),
            read(2, 14, 15, 1, Kind.FRESH),
        ],
        {"I4": 1},
    ),
    "at last all see the same": (
        REGISTER,
        [FIRST, read(0, 9000, 9001, 1, final=1), read(1, 9000, 9001, 1, final=1)],
        {},
    ),
    "at last not all see the same": (
        REGISTER,
        [
            write(0, 0, 5, 1),
            write(1, 3, 8, 2),
            read(0, 9000, 9001, 1, final=1),
            read(1, 9000, 9001, 2, final=1),
        ],
        {"I3": 1},
    ),
    "a load that began before": (LOADED, [bump(10, 12, 1), load(1, 5, 11, 0)], {}),
    "the old version, within the bound": (LOADED, [bump(10, 12, 1), load(1, 900, 911, 0)], {}),
    "the old version, beyond it": (LOADED, [bump(10, 12, 1), load(1, 1013, 1020, 0)], {"I1": 1}),
    "the old version from the backend": (
        LOADED,
        [bump(10, 12, 1), load(1, 13, 14, 0, Kind.FRESH)],
        {"I1": 1},
    ),
    "the old version, in the process that changed it": (
        LOADED,
        [bump(10, 12, 1), load(0, 13, 14, 0)],
        {"I8": 1},
    ),
    "an invalidation that failed ends nothing": (
        LOADED,
        [bump(10, 12, 1, outcome=Outcome.FAILED), load(1, 9000, 9001, 0)],
        {},
    ),
    "a tag, beyond the bound": (
        TAGGED,
        [bump(10, 12, 1, Kind.BUMP_TAG), load(1, 1013, 1020, 0)],
        {"I1": 1},
    ),
    "one load": (
        LOADED,
        [bump(10, 12, 1), load(1, 20, 30, 1), load(1, 21, 29, 1, Kind.LOADER)],
        {},
    ),
    "two loads": (
        LOADED,
        [
            bump(10, 12, 1),
            load(1, 20, 30, 1),
            load(1, 21, 29, 1, Kind.LOADER),
            load(2, 40, 50, 1),
            load(2, 41, 49, 1, Kind.LOADER),
        ],
        {"I7": 1},
    ),
    "a load that was claimed before the invalidation": (
        LOADED,
        [
            bump(10, 12, 1),
            load(1, 8, 30, 1),
            load(1, 13, 29, 1, Kind.LOADER),
            load(2, 40, 50, 1),
            load(2, 41, 49, 1, Kind.LOADER),
        ],
        {},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_invariant(name):
    keys, calls, expected = CASES[name]
    assert judge(calls, keys, BOUND).violations == expected


def test_staleness_is_exact():
    calls = [FIRST, SECOND, read(1, 511, 512, 1), read(1, 761, 762, 1), read(1, 762, 763, 2)]
    verdict = judge(calls, REGISTER, BOUND)
    assert verdict.worst_staleness == pytest.approx(0.75)
    assert not verdict.violations


def test_reads_that_go_back_are_counted():
    calls = [FIRST, SECOND, read(1, 12, 13, 2), read(1, 14, 15, 1)]
    assert judge(calls, REGISTER, BOUND).not_monotonic == 1
    calls = [FIRST, SECOND, read(1, 12, 13, 2), read(2, 14, 15, 1)]
    assert judge(calls, REGISTER, BOUND).not_monotonic == 0


def test_absence_is_no_evidence_where_entries_get_lost():
    terms = Terms(bound=1.0, lossy=True)
    calls = [FIRST, read(1, 1002, 1003, 0), read(1, 1002, 1003, 0, Kind.FRESH)]
    assert not judge(calls, REGISTER, terms).violations


FAILOVER = Terms(bound=1.0, windows=[Window("failover", 50 * MS, 3000 * MS, True)])


def test_a_change_that_a_failover_lost_is_told_not_held_against_readers():
    calls = [
        FIRST,
        SECOND,
        read(1, 2000, 2001, 1, tier=Tier.BACKEND),
        read(1, 8000, 8001, 1),
    ]
    verdict = judge(calls, REGISTER, FAILOVER)
    assert (verdict.undone, verdict.violations) == (1, {})


def test_an_old_primary_that_answers_is_noticed():
    calls = [
        FIRST,
        SECOND,
        read(1, 2000, 2001, 1, tier=Tier.BACKEND),
        read(1, 3100, 3101, 2, tier=Tier.BACKEND),
    ]
    verdict = judge(calls, REGISTER, FAILOVER)
    assert (verdict.undone, verdict.violations) == (0, {"I2": 1})


def test_who_removed_something_never_sees_it_again_failover_or_not():
    old = {"tier": Tier.BACKEND}
    removed = call(Kind.DELETE, 0, 10, 11)
    for process, expected in ((1, {}), (0, {"I8": 1})):
        verdict = judge([FIRST, removed, read(process, 2000, 2001, 1, **old)], REGISTER, FAILOVER)
        assert (verdict.undone, verdict.violations) == (1, expected)


def test_a_write_without_an_answer_must_not_come_after_a_later_one():
    stuck = write(0, 10, 500, 2, outcome=Outcome.UNKNOWN)
    later = write(0, 510, 520, 3)
    for read_by, at, expected in ((0, 530, {"I8": 1}), (1, 530, {}), (1, 1600, {"I8": 1})):
        seen = read(read_by, at, at + 1, 2)
        assert judge([FIRST, stuck, later, seen], REGISTER, BOUND).violations == expected
    during = write(0, 490, 520, 3)  # it began before the first had ended
    assert not judge([FIRST, stuck, during, read(0, 530, 531, 2)], REGISTER, BOUND).violations


def test_what_is_not_near_is_current_where_no_server_can_be_replaced():
    exact = Terms(bound=1.0, exact=True)
    for tier, expected in ((Tier.NEAR, {}), (Tier.BACKEND, {"I2": 1})):
        calls = [FIRST, SECOND, read(1, 20, 21, 1, tier=tier)]
        assert judge(calls, REGISTER, exact).violations == expected


def test_a_removal_that_a_failover_lost_may_be_made_again():
    removed = call(Kind.DELETE, 0, 10, 11)
    for at, lost in ((1000, True), (3100, False)):  # the old server may have given that, or not
        gone = read(2, at, at + 1, 0, tier=Tier.BACKEND)
        old, again = read(1, 3300, 3301, 1, Kind.FRESH), read(0, 3500, 3501, 0, tier=Tier.BACKEND)
        verdict = judge([FIRST, removed, gone, old, again], REGISTER, FAILOVER)
        expected = (1, {}) if lost else (0, {"I4": 2})
        assert (verdict.undone, verdict.violations) == expected


def test_a_value_that_a_failover_lost_is_not_missed():
    gone = read(1, 2000, 2001, 0, tier=Tier.BACKEND)
    verdict = judge([FIRST, gone, read(1, 8000, 8001, 0)], REGISTER, FAILOVER)
    assert (verdict.undone, verdict.violations) == (1, {})
    back = read(1, 9000, 9001, 1, tier=Tier.BACKEND)
    verdict = judge([FIRST, gone, back], REGISTER, FAILOVER)
    assert (verdict.undone, verdict.violations) == (0, {"lost": 1})


def test_the_near_tier_alone_proves_no_loss():
    calls = [FIRST, SECOND, read(1, 2000, 2001, 1)]
    assert judge(calls, REGISTER, FAILOVER).violations == {"I2": 1}


def test_reads_in_faults_and_near_hits_are_counted():
    calls = [FIRST, read(1, 10, 11, 1), read(1, 60, 61, 1), read(1, 12, 13, 1, tier=Tier.BACKEND)]
    verdict = judge(calls, REGISTER, FAILOVER)
    assert (verdict.reads, verdict.reads_in_faults) == (3, 1)
    assert (verdict.near_hits, verdict.near_capable) == (1, 2)


def coherent_history(chance, *, bound, sloppy=0.0):
    """Writers, and readers whose copies are refreshed by a message that is late by up to ``bound``;
    ``sloppy`` is the chance that a copy misses its message and is three bounds old.
    """
    calls, moments, now = [], [], 0.0
    for number in range(1, 120):
        now += chance.random() * bound * 400
        took = chance.random() * 3
        moments.append((now + took * chance.random(), number))
        calls.append(write(0, now, now + took, number))
        now += took
    for process in (1, 2):
        at = 0.0
        while at < now:
            at += chance.random() * 30
            late = bound * 1000 * chance.random() * (1 if chance.random() >= sloppy else 3)
            seen = max([number for moment, number in moments if moment <= at - late], default=0)
            if seen:
                calls.append(read(process, at, at + 0.01, seen))
    return calls


def test_many_random_histories():
    chance = random.Random(3)
    for _ in range(30):
        good = judge(coherent_history(chance, bound=0.3), REGISTER, Terms(bound=0.3))
        assert not good.violations, good.examples
        bad = judge(coherent_history(chance, bound=0.3, sloppy=0.5), REGISTER, Terms(bound=0.3))
        assert bad.violations["I2"] > 0


def test_a_killed_process_leaves_what_it_had_begun(tmp_path):
    path = tmp_path / "calls"
    with Recorder(path, 3) as recorder:
        first = recorder.begin(Kind.SET, 5, (4, 1), ttl=70)
        recorder.end(first, Outcome.OK)
        recorder.begin(Kind.SET, 5, (4, 2))
        recorder.read(Kind.GET, 5, first.start, (4, 1), tier=Tier.NEAR)
    path.write_bytes(path.read_bytes() + b"cut off")

    calls = finished(read_file(path))

    ended, lost = (call for call in calls if call.kind == Kind.SET)
    assert (ended.value, ended.outcome, ended.ttl) == ((4, 1), Outcome.OK, 70)
    assert (lost.value, lost.outcome, lost.end) == ((4, 2), Outcome.UNKNOWN, NEVER)
    [seen] = [call for call in calls if call.kind == Kind.GET]
    assert (seen.process, seen.key, seen.value, seen.tier) == (3, 5, (4, 1), Tier.NEAR)
