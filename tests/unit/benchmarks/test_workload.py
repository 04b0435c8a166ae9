from collections import Counter

from tests.unit.benchmarks.scripts import script

workload = script("_workload")
make_keys, make_values, tagged_chunks = (
    workload.make_keys,
    workload.make_values,
    workload.tagged_chunks,
)
uniform, zipf = workload.uniform, workload.zipf


def test_requests_are_the_same_in_every_run():
    keys = make_keys(100)
    assert zipf(keys, 50) == zipf(keys, 50)
    assert uniform(keys, 50) == uniform(keys, 50)


def test_requests_are_the_stored_keys_themselves():
    keys = make_keys(100)
    known = {id(key) for key in keys}
    assert all(id(key) in known for key in zipf(keys, 200) + uniform(keys, 200))


def test_the_most_popular_key_is_asked_for_twice_as_often_as_the_second():
    counts = [count for _, count in Counter(zipf(make_keys(1000), 100_000)).most_common()]
    share = counts[0] / sum(counts)
    assert 0.12 < share < 0.15  # 1 / (1 + 1/2 + ... + 1/1000)
    assert 1.8 < counts[0] / counts[1] < 2.2


def test_the_popular_keys_are_not_the_first_made():
    keys = make_keys(1000)
    popular = [key for key, _ in Counter(zipf(keys, 10_000)).most_common(5)]
    assert popular != keys[:5]


def test_values_are_100_bytes_and_all_different():
    values = make_values(50)
    assert {len(value) for value in values} == {100}
    assert len(set(values)) == 50


def test_every_entry_gets_two_tags_one_of_them_common():
    keys = make_keys(2500)
    chunks = list(tagged_chunks(keys, keys))
    assert sum(len(batch) for batch, _ in chunks) == 2500
    assert {tags[0] for _, tags in chunks} == {"users"}
    assert len({tags[1] for _, tags in chunks}) == 3
