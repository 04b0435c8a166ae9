"""``cache record``, ``cache simulate`` and ``cache advise``: traces in, hit ratios out."""

import array
import gzip
import json
from itertools import cycle, islice

import pytest

from clusterdb.cache.recording import MAGIC, SHARE


@pytest.fixture
def loop(tmp_path):
    path = tmp_path / "loop.u32.gz"
    ids = array.array("I", islice(cycle(range(100)), 5000))
    path.write_bytes(gzip.compress(ids.tobytes()))
    return path


def test_hit_ratios_stand_beside_the_optimum(cli, loop):
    code, out, _ = cli("simulate", str(loop), "--policy", "lru", "--policy", "s3fifo",
                       "--size", "50", "--size", "100%")  # fmt: skip
    lines = [line.split() for line in out.splitlines()]

    assert code == 0
    assert "loop.u32.gz: 5,000 requests for 100 keys" in out
    assert ["entries", "of", "keys", "optimum", "lru", "s3fifo"] in lines
    [half] = [line for line in lines if line[:1] == ["50"]]
    assert half[3:5] == ["0.00%", "(0.0%)"]
    [whole] = [line for line in lines if line[:1] == ["100"]]
    assert whole[2:5] == ["98.00%", "98.00%", "(100.0%)"]


def test_json_says_the_same(cli, loop):
    code, out, _ = cli("simulate", str(loop), "--policy", "all", "--size", "100", "--json")
    found = json.loads(out)

    assert code == 0
    assert (found["requests"], found["keys"], found["sample"]) == (5000, 100, 1.0)
    assert found["optimum"] == {"100": 0.98}
    assert {run["policy"] for run in found["runs"]} >= {"adaptive", "lru", "2q", "w_tinylfu"}
    assert {run["hits"] for run in found["runs"]} == {4900}


@pytest.mark.parametrize(
    ("name", "data", "keys"),
    [
        ("keys.csv", b"user:1,get\nuser:2,get\nuser:1,get\n", 2),
        ("keys.txt", b"a\nb\nc\n\na\n", 3),
        ("log", MAGIC + SHARE.pack(0.5) + array.array("Q", [5, 9, 5]).tobytes(), 2),
        ("log.gz", gzip.compress(MAGIC + SHARE.pack(0.5) + bytes(16), mtime=0), 1),
    ],
)
def test_every_kind_of_trace_is_read(cli, tmp_path, name, data, keys):
    (tmp_path / name).write_bytes(data)
    code, out, _ = cli("simulate", str(tmp_path / name), "--json")

    assert code == 0
    assert json.loads(out)["keys"] == keys


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.u32", b"12345", "is cut short: 5 bytes are no whole number of keys of 4"),
        ("a.u32.gz", gzip.compress(b"12345678", mtime=0)[:-6], "can't read the trace"),
        ("a.u32.gz", b"\x1f\x8bnonsense", "can't read the trace"),
        ("a.csv", b"", "holds no requests"),
        ("a.csv", b"\xff\xfe\x00", "is no trace: neither text"),
        ("a.csv", b"a\0b", "is no trace: it has NUL characters"),
        ("log", MAGIC + b"\0", "its head is not whole"),
        ("log", MAGIC + SHARE.pack(1.0) + b"123", "no whole number of keys of 8"),
        ("log", MAGIC + SHARE.pack(1.0), "holds no requests"),
        ("log", MAGIC + SHARE.pack(float("nan")) + bytes(8), "is damaged: it says to hold nan"),
        ("log", MAGIC + SHARE.pack(0.0) + bytes(8), "is damaged: it says to hold 0.0"),
    ],
)
def test_what_is_no_trace_is_refused(cli, tmp_path, name, data, said):
    (tmp_path / name).write_bytes(data)
    for command in ("simulate", "advise"):
        code, _, err = cli(command, str(tmp_path / name))

        assert code == 2
        assert said in err
        assert len(err.splitlines()) == 1


def test_a_missing_file_is_told(cli, tmp_path):
    code, _, err = cli("simulate", str(tmp_path / "none.u32"))

    assert (code, "can't read the trace" in err) == (2, True)


@pytest.mark.parametrize("size", ["0", "-1", "0%", "x", "5.5", "nan%", "inf%"])
def test_a_size_is_a_number_or_a_share(cli, loop, size):
    code, _, err = cli("simulate", str(loop), f"--size={size}")

    assert code == 2
    assert f"got {size!r}" in err


def test_an_unknown_policy_is_told_with_the_known(cli, loop):
    code, _, err = cli("simulate", str(loop), "--policy", "best")

    assert code == 2
    assert "there is no policy 'best': known are adaptive, lru" in err


def test_advice_on_a_trace(cli, tmp_path):
    path = tmp_path / "loop.csv"
    path.write_text("\n".join(islice(cycle([f"k{at}" for at in range(4000)]), 60_000)))
    code, out, _ = cli("advise", str(path), "--size", "50%", "--policy", "lru")

    assert code == 0
    assert "lru, 2,000 entries" in out
    assert "a loop: some" in out
    found = json.loads(cli("advise", str(path), "--size", "50%", "--policy", "lru", "--json")[1])
    assert found["better"] is not None
    assert found["at"]["tenfold"] > 0.8


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ((), "backend 'disk' is read inside of the programs that use it"),
        (("--url", "memory://"), "'await cache.record(path, seconds=60)'"),
        (("--url", "redis://h", "--for", "0"), "--for is above 0 seconds, not '0'"),
        (("--url", "redis://h", "--sample", "0"), "sample is a share above 0, up to 1: got 0.0"),
        (("--url", "redis://h", "--region", "defalt"), "did you mean 'default'?"),
    ],
)
def test_what_can_not_be_recorded_is_refused(cli, tmp_path, argv, said):
    code, _, err = cli("record", str(tmp_path / "log"), *argv)

    assert code == 2
    assert said in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "log").exists()
