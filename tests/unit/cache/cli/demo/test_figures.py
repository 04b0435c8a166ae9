import pytest

from clusterdb.cache.cli.demo.figures import count, duration, percent, percentile, ratio


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 ns"),
        (2.5e-8, "25 ns"),
        (1.234e-6, "1.23 us"),
        (0.0123, "12.3 ms"),
        (0.456, "456 ms"),
        (9.996, "10.0 s"),
        (99.96, "100 s"),
        (1234.5, "1,234 s"),
    ],
)
def test_durations_have_three_digits(seconds: float, text: str):
    assert duration(seconds) == text


def test_numbers_are_grouped():
    assert (count(200_000), percent(0.7466), ratio(9.0, 2.0), ratio(9000.0, 2.0)) == (
        "200,000",
        "74.7%",
        "4.5x",
        "4,500x",
    )


def test_a_ratio_to_nothing_is_not_told():
    assert ratio(1.0, 0.0) == "-"


@pytest.mark.parametrize(("share", "value"), [(0.0, 1.0), (0.5, 51.0), (0.99, 100.0), (1.0, 100.0)])
def test_percentiles(share: float, value: float):
    assert percentile([float(number) for number in range(1, 101)], share) == value


def test_nothing_has_no_percentile():
    assert percentile([], 0.5) == 0.0
