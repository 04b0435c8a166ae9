"""Durations and sizes: what is read, what is refused, and that text goes round."""

import math
import pickle
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterdb.cache.errors import InvalidArgument
from clusterdb.cache.units import (
    MAX_BYTES,
    MAX_SECONDS,
    ByteSize,
    format_seconds,
    seconds,
    ttl_seconds,
)


@pytest.mark.parametrize(
    ("given_value", "expected"),
    [
        (0, 0.0),
        (1.5, 1.5),
        (90, 90.0),
        ("90", 90.0),
        ("90s", 90.0),
        ("1h30m", 5400.0),
        ("1h 30m", 5400.0),
        (" 7d ", 604800.0),
        ("2w", 1209600.0),
        ("250ms", 0.25),
        ("1.5h", 5400.0),
        ("1s250ms", 1.25),
        ("10us", 1e-5),
        (timedelta(minutes=2), 120.0),
        (MAX_SECONDS, MAX_SECONDS),
    ],
)
def test_durations_are_read(given_value, expected):
    found = seconds(given_value)
    assert found == pytest.approx(expected)
    assert type(found) is float


@pytest.mark.parametrize(
    "junk",
    [
        True, None, "", " ", "h", "1x", "1h1h", "1m1h", "-5s", "5 apples", "1h30", "1e5", "nan",
        "inf", "٣s", b"1s", [], {}, math.nan, math.inf, -math.inf, -1, -0.001, MAX_SECONDS * 1.01,
        10**400, -(10**400), timedelta(seconds=-1), timedelta.max, "9" * 60 + "w",
        "1" * 10_000, "0" * 100 + "s",
    ],
)  # fmt: skip
def test_what_is_no_duration_is_refused_with_the_accepted_forms(junk):
    with pytest.raises(InvalidArgument, match="timedelta"):
        seconds(junk)


def test_refusals_name_the_value():
    with pytest.raises(InvalidArgument, match="'5 apples' is not a duration"):
        seconds("5 apples")
    with pytest.raises(InvalidArgument, match="-3 is negative"):
        seconds(-3)
    with pytest.raises(InvalidArgument, match="longer than"):
        seconds(1e11)


def test_a_ttl_may_be_none_and_never_zero():
    assert ttl_seconds(None) is None
    assert ttl_seconds("1h") == 3600.0
    for zero in (0, 0.0, "0s", -1, timedelta(0), timedelta(seconds=-5)):
        with pytest.raises(InvalidArgument, match=r"delete\(\).*None for no expiry"):
            ttl_seconds(zero)
    for junk in (True, math.nan, math.inf, "soon", 1e11):
        with pytest.raises(InvalidArgument):
            ttl_seconds(junk)


def test_a_url_is_not_shown():
    for read in (seconds, ttl_seconds, ByteSize):
        with pytest.raises(InvalidArgument) as caught:
            read("redis://:hunter2@host")
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0s"),
        (90, "1m30s"),
        (5400, "1h30m"),
        (0.25, "250ms"),
        (1e-6, "1us"),
        (8 * 86400, "1w1d"),
    ],
)
def test_durations_as_text(value, text):
    assert format_seconds(value) == text


@given(st.integers(0, 10**15))
def test_durations_go_round_to_the_microsecond(micros):
    value = micros / 1e6
    assert seconds(format_seconds(value)) == pytest.approx(value, rel=1e-12, abs=6e-7)


@pytest.mark.parametrize(
    ("given_value", "expected"),
    [
        (0, 0),
        (512, 512),
        ("512", 512),
        ("512b", 512),
        ("1kB", 1000),
        ("1.5 kB", 1500),
        ("1KB", 1000),
        ("1KiB", 1024),
        ("64mib", 64 * 1024**2),
        (" 10GB ", 10 * 1000**3),
        ("2TiB", 2 * 1024**4),
        ("2TB", 2 * 1000**4),
        (ByteSize(7), 7),
        (MAX_BYTES, MAX_BYTES),
        (str(MAX_BYTES), MAX_BYTES),
    ],
)
def test_sizes_are_read(given_value, expected):
    size = ByteSize(given_value)
    assert size == expected
    assert ByteSize.parse(given_value) == expected
    assert type(size) is ByteSize


@pytest.mark.parametrize(
    "junk",
    [
        True, False, None, -1, 1.5, 2.0, math.nan, math.inf, "", "B", "1.0001kB", "0.5", "-1kB",
        "1PB", "10 G B", "1e3", "1,5kB", "٣kB", b"1", [], MAX_BYTES + 1, "9223372036854775808",
        "9" * 5000, pytest.param(10**5000, id="10**5000"), "99999999TiB",
    ],
)  # fmt: skip
def test_what_is_no_size_is_refused_with_the_accepted_forms(junk):
    with pytest.raises(InvalidArgument, match="KiB, MiB, GiB, TiB of 1024"):
        ByteSize(junk)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0B"), (999, "999B"), (1500, "1500B"), (1000, "1kB"), (1024, "1KiB"), (10**10, "10GB")],
)
def test_sizes_as_text(size, text):
    assert str(ByteSize(size)) == text
    assert f"{ByteSize(size):>8}" == text.rjust(8)
    assert repr(ByteSize(size)) == f"ByteSize('{text}')"


@given(st.integers(0, MAX_BYTES))
def test_sizes_go_round_exactly(count):
    size = ByteSize(count)
    assert ByteSize(str(size)) == size == pickle.loads(pickle.dumps(size))


def test_a_size_is_an_int():
    size = ByteSize("1kB")
    assert size + 1 == 1001
    assert f"{size:d}" == "1000"
    assert f"{size:,}" == "1,000"
    assert hash(size) == hash(1000)


def test_sizes_by_unit():
    assert (ByteSize.kb(2), ByteSize.mb(2), ByteSize.gb(2)) == (2000, 2 * 10**6, 2 * 10**9)
    assert (ByteSize.kib(2), ByteSize.mib(2), ByteSize.gib(2)) == (2**11, 2**21, 2**31)
    with pytest.raises(InvalidArgument):
        ByteSize.mb(-1)
