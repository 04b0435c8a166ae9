"""Schedules: five fields, each in its range."""

import pytest

from clusterdb.cache.config.cron import check_schedule
from clusterdb.cache.errors import InvalidArgument


@pytest.mark.parametrize(
    "schedule",
    [
        "* * * * *", "0 0 * * *", "*/5 * * * *", "0-30/10 8-18 1,15 * mon-fri", "59 23 31 12 7",
        "0 0 1 JAN sun", " 0  3 * * 0 ", "0,15,30,45 * * * *",
    ],
)  # fmt: skip
def test_accepted(schedule):
    check_schedule(schedule)


@pytest.mark.parametrize(
    ("schedule", "field"),
    [
        ("60 * * * *", "minute"),
        ("* 24 * * *", "hour"),
        ("* * 0 * *", "day of month"),
        ("* * 32 * *", "day of month"),
        ("* * * 13 *", "month"),
        ("* * * mon *", "month"),
        ("* * * * 8", "day of week"),
        ("* * * * jan", "day of week"),
        ("5-1 * * * *", "minute"),
        ("*/0 * * * *", "minute"),
        ("5/5 * * * *", "minute"),
        ("1, * * * *", "minute"),
        ("-1 * * * *", "minute"),
        ("1.5 * * * *", "minute"),
        ("٣ * * * *", "minute"),
    ],
)
def test_a_wrong_field_is_named(schedule, field):
    with pytest.raises(InvalidArgument, match=f"the {field} of schedule .* is wrong"):
        check_schedule(schedule)


@pytest.mark.parametrize("schedule", ["", "* * * *", "* * * * * *", "@daily", "hourly", "* " * 500])
def test_five_fields(schedule):
    with pytest.raises(InvalidArgument, match="expected five fields"):
        check_schedule(schedule)
