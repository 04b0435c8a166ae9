"""`cache serve`, and the commands that ask a server."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.unit.cache.cli.commands import Done, Run, runner

pytestmark = pytest.mark.process

TOKEN = "a-token-of-many-letters-0123456789"
PROGRAM = [sys.executable, "-m", "clusterdb.cache.cli"]


@contextmanager
def server(*options: str, token: str = "", end: int = signal.SIGINT) -> Iterator[str]:
    """The address of a server in a process of its own, ended as a person or a supervisor does."""
    environment = os.environ | {"CLUSTERDB_CACHE_TOKEN": token}
    with subprocess.Popen(
        [*PROGRAM, "serve", "--port", "0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.fullmatch(r"serving at (http://\S+/) \(Ctrl-C ends it\)\n", line)
            assert found, (line, process.communicate(timeout=10))
            yield found[1]
        finally:
            process.send_signal(end)
            rest = process.communicate(timeout=20)
    assert rest[0] == ""
    assert "--demo" in options or rest[1] == ""  # a demo has alerts, which are logged
    assert all(line.startswith("max_") for line in rest[1].splitlines())
    assert process.returncode == 0


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.delenv("CLUSTERDB_CACHE_TOKEN", raising=False)
    return runner(capsys)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("served")
    config = folder / "cache.yaml"
    config.write_text(
        f"cache: {{name: shop, backend: {{type: disk, path: {folder / 'c.db'}}}}}\n"
        "regions: {session: {ttl: 30m}}\n",
        encoding="utf-8",
    )
    with server("--config", str(config)) as url:
        yield url


@pytest.fixture
def ask(run: Run, url: str) -> Callable[..., Done]:
    return lambda *words: run(*words, "--url", url)


def test_values_go_there_and_back(ask, tmp_path: Path):
    for given in ("hello", '{"a": [1, null]}', "12", "1.10", "null"):
        assert ask("set", "k/../ü?", given) == (0, "stored\n", "")
        assert ask("get", "k/../ü?")[1] == f"{given}\n"
    file = tmp_path / "bytes"
    file.write_bytes(b"\x00\xff")
    assert ask("set", "raw", "--file", str(file))[0] == 0
    assert ask("get", "raw", "--output", str(tmp_path / "back"))[0] == 0
    assert (tmp_path / "back").read_bytes() == b"\x00\xff"


def test_what_is_not_there(ask):
    assert ask("get", "none") == (1, "", "cache: no entry 'none'\n")
    assert ask("exists", "none") == (1, "no\n", "")
    assert ask("delete", "none") == (1, "0 deleted\n", "")
    assert ask("touch", "none", "5s")[0] == 1


def test_conditions_expiry_and_tags(ask):
    assert ask("set", "c", "1", "--xx")[0] == 1
    assert ask("set", "c", "1", "--nx", "--ttl", "90s", "--tag", "a", "--tag", "b")[0] == 0
    assert ask("set", "c", "2", "--nx")[0] == 1
    found = json.loads(ask("get", "c", "--json")[1])
    assert (found["value"], found["tags"], found["type"]) == (1, ["a", "b"], "json")
    assert 80 < found["expires_in"] <= 90
    assert ask("touch", "c", "none")[0] == 0
    assert json.loads(ask("get", "c", "--json")[1])["expires_in"] is None
    assert ask("invalidate", "--tag", "a")[0] == 0
    assert ask("exists", "c")[0] == 1


def test_many_at_once(ask):
    for number in range(3):
        ask("set", f"many:{number}", "1", "--region", "session")
    _, shown, _ = ask("scan", "many:*", "--region", "session")
    assert sorted(shown.split()) == ["many:0", "many:1", "many:2"]
    assert (
        ask("invalidate", "--matching", "many:[01]", "--region", "session")[1] == "2 invalidated\n"
    )
    assert ask("delete", "many:2", "many:3", "--region", "session")[1] == "1 deleted\n"
    assert ask("increment", "n", "5", "--initial", "1")[1] == "6\n"
    assert ask("clear", "--yes", "--region", "session")[1] == "0 removed\n"


def test_status_and_regions(ask, url: str):
    status = json.loads(ask("status", "--json")[1])
    assert (status["cache"], status["backend"], status["at"]) == ("shop", "disk", [url])
    regions = {each["name"]: each for each in json.loads(ask("regions", "--json")[1])["regions"]}
    assert regions["session"]["ttl"] == 1800
    assert "session" in ask("regions")[1]


def test_top_shows_rates_of_what_happens_there(ask, url: str):
    ask("set", "hot", "1")
    with subprocess.Popen(
        [*PROGRAM, "top", "--url", url, "--once", "--json", "--interval", "2s"],
        stdout=subprocess.PIPE,
    ) as top:
        while top.poll() is None:
            ask("get", "hot")
        assert top.stdout is not None
        look = json.loads(top.stdout.read())
    [default] = [each for each in look["regions"] if each["name"] == "default"]
    assert default["reads"] > 0
    assert default["hit_ratio"] == 1
    assert len(look["processes"]) == 1
    assert "hit ratio" in ask("top", "--once", "--interval", "100ms")[1]


def test_health_has_its_remedies_and_exit_codes(ask):
    code, shown, _ = ask("health", "--json")
    found = json.loads(shown)
    assert (code, found["status"], found["live"], found["ready"]) == (0, "ok", True, True)
    assert {check["name"] for check in found["checks"]} >= {"cache", "backend"}
    assert all(set(check) == {"name", "status", "detail", "remedy"} for check in found["checks"])
    assert ask("health")[1].startswith("ok\n")


def test_doctor_examines_what_is_served(ask):
    found = json.loads(ask("doctor", "--json")[1])
    names = {check["name"]: check for check in found["checks"]}
    assert names["server"]["ok"]
    assert "bytes" in names["server"]["detail"]


def test_metrics_are_all_that_the_serving_process_has_counted(ask):
    ask("get", "counted", "--json")
    samples = json.loads(ask("metrics", "show", "--json")[1])["metrics"]
    names = {sample["name"] for sample in samples}
    assert {"cache_hits", "cache_loads", "cache_up", "cache_operation_seconds"} <= names
    reads = [sample for sample in samples if sample["labels"].get("operation") == "read"]
    assert all(sample["kind"] == "histogram" and sample["buckets"] for sample in reads)
    shown = ask("metrics", "show")[1]
    assert "p50" in shown
    assert "p99" in shown
    lines = ask("metrics", "show", "--watch", "--every", "0.1", "--count", "2", "--json")[1]
    assert [len(json.loads(line)["metrics"]) for line in lines.splitlines()][1] >= len(samples)


def test_events_are_told_as_they_happen(ask, url: str):
    words = ["--count", "2", "--kind", "set", "--kind", "invalidate_tag", "--region", "session"]
    with subprocess.Popen(
        [*PROGRAM, "events", "tail", "--url", url, "--json", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as tail:
        assert tail.stderr is not None
        assert tail.stdout is not None
        assert b"following" in tail.stderr.readline()
        ask("set", "elsewhere", "1")
        ask("set", "told", "1", "--region", "session")
        ask("delete", "told", "--region", "session")
        ask("set", "again", "1", "--region", "session")
        told = [json.loads(line) for line in tail.stdout]
    assert [(each["kind"], each["key"]) for each in told] == [("set", "told"), ("set", "again")]
    assert tail.returncode == 0


def test_a_tail_ends_when_its_time_is_over(ask):
    code, shown, said = ask("events", "tail", "--for", "200ms", "--key", "no-such-*")
    assert (code, shown, said.strip()) == (0, "", "cache: following; Ctrl-C ends it")


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_a_tail_whose_server_ends_says_so(tmp_path: Path, end: int):
    with server("--url", f"disk://{tmp_path}/c.db", end=end) as url:
        tail = subprocess.Popen(
            [*PROGRAM, "events", "tail", "--url", url], stderr=subprocess.PIPE, text=True
        )
        assert tail.stderr is not None
        assert "following" in tail.stderr.readline()
    _, said = tail.communicate(timeout=20)
    assert (tail.returncode, said) == (3, f"cache: the server {url} has ended the stream\n")


def test_the_demo_gives_advice_and_has_hot_keys(run: Run):
    with server("--demo", "--read-only") as url:
        until = time.monotonic() + 30
        while not (
            found := json.loads(run("advise", "--url", url, "--region", "product", "--json")[1])
        )["curve"]:
            assert time.monotonic() < until, found
            time.sleep(0.1)
        assert (found["region"], found["sample"]) == ("product", None)
        assert "at other sizes" in run("advise", "--url", url, "--region", "product")[1]
        hot = json.loads(
            run("keys", "hot", "--url", url, "--region", "product", "--count", "3", "--json")[1]
        )
        assert (hot["region"], hot["seconds"], len(hot["keys"])) == ("product", None, 3)
        assert all(reads is None and 0 < share <= 1 for _, reads, share in hot["keys"])


def test_the_server_may_be_named_before_the_command(run: Run, url: str):
    assert run("--url", url, "set", "first", "1")[:2] == (0, "stored\n")
    assert run(f"--url={url}", "get", "first")[:2] == (0, "1\n")
    assert run("--url", url, "events", "tail", "--kind", "none")[0] == 2


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["get", "k", "--region", "none"], 2, "no region 'none'"),
        (["increment", "word"], 4, "word"),
        (["scan", "[a"], 2, "pattern"),
        (["scan", "--timeout", "5s"], 2, "does not work over HTTP"),
        (["record", "file"], 2, "does not work over HTTP"),
        (["advise", "--region", "none"], 2, "no region 'none'"),
        (["advise", "trace.txt"], 2, "one of the two"),
        (["keys", "hot", "--region", "none"], 2, "no region 'none'"),
        (["keys", "hot", "--count", "101"], 2, "from 1 to 100"),
        (["events", "tail", "--kind", "none"], 2, "no kind of event"),
        (["events", "tail", "--region", "none"], 2, "no region 'none'"),
        (["set", "k", "1", "--ttl", "-5s"], 2, "duration"),
        (["status", "--config", "x.yaml"], 2, "exclude each other"),
    ],
)
def test_errors_are_those_of_the_command(ask, words: list[str], code: int, said: str):
    assert ask("set", "word", "text") == (0, "stored\n", "")
    done = ask(*words)
    assert done[0] == code, done
    assert said in done[2]
    assert done[2].count("\n") == 1


def test_nobody_answers(run: Run):
    code, _, said = run("get", "k", "--url", "http://127.0.0.1:9/")
    assert (code, said.startswith("cache: the server http://127.0.0.1:9/ can't be asked")) == (
        3,
        True,
    )


@pytest.mark.parametrize("wrong", ["http://", "http://a:b@host", "http://host/?x=1", "http://h:x"])
def test_what_is_no_server(run: Run, wrong: str):
    code, _, said = run("get", "k", "--url", wrong)
    assert code == 2
    assert "is no URL of a server" in said
    assert "a:b" not in said


def test_the_token_comes_from_the_environment(run: Run, monkeypatch, tmp_path: Path):
    with server("--url", f"disk://{tmp_path}/c.db", token=TOKEN) as url:
        code, _, said = run("get", "k", "--url", url)
        assert code == 2
        assert "token" in said
        monkeypatch.setenv("CLUSTERDB_CACHE_TOKEN", TOKEN)
        assert run("set", "k", "1", "--url", url)[0] == 0
        assert run("get", "k", "--url", url)[1] == "1\n"


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_the_cache_is_closed_in_order_whoever_ends_it(run: Run, tmp_path: Path, end: int):
    config = tmp_path / "cache.yaml"
    config.write_text(f"cache: {{backend: {{type: memory, persist: {tmp_path / 'snapshot'}}}}}")
    with server("--config", str(config), end=end) as url:
        run("set", "k", "kept", "--url", url)
    with server("--config", str(config), end=end) as url:
        assert run("get", "k", "--url", url)[1] == "kept\n"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "is in use"),
        (["--host", "nonsense.invalid"], "nonsense.invalid"),
        (["--tls-cert", "/none", "--tls-key", "/none"], "/none"),
        (["--tls-cert", __file__, "--tls-key", __file__], "certificate"),
    ],
)
def test_a_server_that_cannot_begin_says_why(
    run: Run, url: str, monkeypatch, options: list[str], said: str
):
    monkeypatch.setenv("CLUSTERDB_CACHE_TOKEN", TOKEN)
    port = url.rstrip("/").rpartition(":")[2] if not options else "0"
    code, shown, error = run("serve", "--demo", "--port", port, *options)
    assert (code, shown) == (2, "")
    assert error.startswith("cache: can't serve")
    assert error.count("\n") == 1
    assert said in error


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--host", "0.0.0.0"], "can be reached from other machines"),
        (["--token-file", "/none"], "can't be read as a token"),
        (["--tls-cert", "/none"], "its key"),
    ],
)
def test_what_is_not_safe_does_not_start(run: Run, options: list[str], said: str):
    code, shown, error = run("serve", "--demo", *options)
    assert (code, shown) == (2, "")
    assert said in error


@pytest.mark.parametrize("rest", ["\r", "\n", " x", "\u2603"])
def test_a_token_that_is_none_is_not_told(run: Run, monkeypatch, rest: str):
    """As of a file with line ends of another system: http.client would show it in its error."""
    monkeypatch.setenv("CLUSTERDB_CACHE_TOKEN", f"{TOKEN}{rest}{TOKEN}")
    code, out, err = run("status", "--url", "http://127.0.0.1:9")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "CLUSTERDB_CACHE_TOKEN" in err
    assert TOKEN not in err


def test_a_token_file(run: Run, tmp_path: Path):
    file = tmp_path / "token"
    file.write_text("short\n", encoding="ascii")
    code, _, said = run("serve", "--demo", "--token-file", str(file))
    assert code == 2
    assert "16" in said
    assert "short" not in said
    file.write_text(f"{TOKEN}\n", encoding="ascii")
    with server("--demo", "--token-file", str(file)) as url:
        assert run("status", "--url", url)[0] == 2
