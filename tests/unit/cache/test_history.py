"""What is remembered of keys that left: counts, that grow older and give way."""

from hypothesis import given
from hypothesis import strategies as st

from clusterdb.cache.policy.history import History
from clusterdb.cache.policy.segmented import HASH

hashes = st.integers(0, HASH)


@given(st.dictionaries(hashes, st.integers(1, 15), max_size=4))
def test_what_fits_is_remembered(counts):
    history = History(4)
    marks = {hashed >> 50 for hashed in counts}
    for hashed, count in counts.items():
        history.put(hashed, count)

    if len(marks) == len(counts):  # fingerprints are ten bits
        assert {hashed: history.get(hashed) for hashed in counts} == counts


@given(hashes, st.integers(0, 15), st.integers(0, 8))
def test_an_age_halves_every_count(hashed, count, ages):
    history = History(64)
    history.put(hashed, count)
    history.age += ages

    assert history.get(hashed) == (count >> ages if ages < 4 else 0)


def test_a_full_bucket_gives_up_the_lowest():
    history = History(4)
    for mark, count in enumerate((5, 2, 9, 7)):
        history.put(mark << 50, count)
    history.put(4 << 50, 3)

    assert [history.get(mark << 50) for mark in range(5)] == [5, 0, 9, 7, 3]


def test_a_count_is_replaced_not_doubled():
    history = History(4)
    history.put(1 << 50, 3)
    history.put(1 << 50, 8)

    assert history.get(1 << 50) == 8


def test_strange_keys_are_rarely_taken_for_known_ones():
    history = History(4096)
    for number in range(4000):
        history.put(hash(f"known:{number}") & HASH, 5)
    wrong = sum(history.get(hash(f"strange:{number}") & HASH) > 0 for number in range(4000))

    assert wrong < 4000 / 100
