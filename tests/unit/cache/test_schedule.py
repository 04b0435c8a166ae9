"""Due times: what cron says, and what clocks that change make of it."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clusterdb.cache import ConfigError
from clusterdb.cache.schedule import Schedule

BERLIN = ZoneInfo("Europe/Berlin")


def berlin(month: int, day: int, hour: int, minute: int = 0, fold: int = 0) -> float:
    return datetime(2026, month, day, hour, minute, fold=fold, tzinfo=BERLIN).timestamp()


def due(cron: str, after: float, times: int) -> list[str]:
    schedule, found = Schedule(cron, "Europe/Berlin"), []
    for _ in range(times):
        after = schedule.after(after)
        found.append(f"{datetime.fromtimestamp(after, BERLIN):%d %H:%M %Z}")
    return found


def test_a_time_of_day_that_spring_skips_comes_due_right_after_the_gap():
    assert due("30 2 * * *", berlin(3, 28, 12), 2) == ["29 03:00 CEST", "30 02:30 CEST"]


def test_a_time_of_day_that_autumn_has_twice_comes_due_once():
    assert due("30 2 * * *", berlin(10, 24, 12), 2) == ["25 02:30 CEST", "26 02:30 CET"]


def test_the_second_of_two_equal_hours_is_not_taken_for_the_first():
    """A process that starts there must not find a time that is over, again and again."""
    assert due("45 2 * * *", berlin(10, 25, 2, 30, fold=1), 1) == ["26 02:45 CET"]


def test_hours_that_really_pass_count_where_the_schedule_goes_by_hours():
    assert due("0 * * * *", berlin(10, 25, 1, 30), 3) == [
        "25 02:00 CEST",
        "25 02:00 CET",
        "25 03:00 CET",
    ]
    assert due("*/30 * * * *", berlin(3, 29, 1, 10), 2) == ["29 01:30 CET", "29 03:00 CEST"]


def test_a_schedule_is_in_utc_where_no_zone_is_named():
    after = datetime(2026, 7, 1, 2, 59, tzinfo=UTC).timestamp()

    assert Schedule("0 3 * * *").after(after) == after + 60
    assert Schedule("0 3 * * *", "Asia/Kolkata").after(after) == after + 60 + 18.5 * 3600


@pytest.mark.parametrize("cron", ["0 0 30 2 *", "0 0 31 4 *"])
def test_a_schedule_that_never_comes_due_is_refused(cron):
    with pytest.raises(ConfigError, match=r"maintenance\.schedule: .* never comes due"):
        Schedule(cron, path="maintenance")


@pytest.mark.parametrize("zone", ["Europe/Nowhere", "../etc/passwd", ""])
def test_a_zone_that_is_none_is_refused(zone):
    with pytest.raises(ConfigError, match=r"maintenance\.timezone: there is no time zone"):
        Schedule("0 3 * * *", zone, path="maintenance")


@given(
    minute=st.integers(0, 59),
    hour=st.one_of(st.none(), st.integers(0, 23)),
    after=st.floats(1.6e9, 2.2e9),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
)
@example(minute=45, hour=2, after=berlin(10, 25, 2, 30, fold=1), zone="Europe/Berlin")
def test_time_goes_forward_and_no_day_is_left_out(minute, hour, after, zone):
    cron = f"{minute} {'*' if hour is None else hour} * * *"
    schedule = Schedule(cron, zone)

    first = schedule.after(after)
    second = schedule.after(first)

    assert after < first < second
    longest = 3 * 3600 if hour is None else 49 * 3600
    assert second - first <= longest
    local = datetime.fromtimestamp(second, ZoneInfo(zone))
    assert hour is not None or local.minute in (minute, 0, 30)


def test_jitter_is_the_same_in_all_processes_and_spread_over_its_range():
    one, other = Schedule("0 * * * *", jitter=60), Schedule("0 * * * *", jitter=60)
    delays = [one.delay(due, "main") for due in range(0, 3600 * 200, 3600)]

    assert delays == [other.delay(due, "main") for due in range(0, 3600 * 200, 3600)]
    assert 0 <= min(delays) < 6
    assert 54 < max(delays) < 60
    assert delays != [one.delay(due, "other") for due in range(0, 3600 * 200, 3600)]
    assert Schedule("0 * * * *").delay(0, "main") == 0
