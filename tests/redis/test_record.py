"""`cache record`: what programs read from Redis, in a file that `cache simulate` replays."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.redis.backends import config_of
from tests.redis.servers import MASTER, PASSWORD, USER, Deployment
from tests.redis.servers import standalone as start_standalone
from tests.redis.test_commands import config_file
from tests.unit.cache.cli.commands import PROGRAM

from clusterdb.cache import BackendUnavailable, Cache, CacheConfig, GetOptions, Redis
from clusterdb.cache.backends.redis.reads import RedisReads, read_key
from clusterdb.cache.backends.redis.scripts import READ
from clusterdb.cache.cli import main
from clusterdb.cache.cli.traces import read_requests
from clusterdb.cache.clock import SystemClock
from clusterdb.cache.config import CacheRegion, PartitioningConfig
from clusterdb.cache.recording import MAGIC, SHARE

LONGER_THAN_ANY_TEST = "10m"


async def recorded(
    target: Path,
    which: Sequence[str],
    use: Callable[[], Awaitable[None]],
    least: int,
    end: Callable[[asyncio.subprocess.Process], None],
) -> tuple[int, str]:
    """Run `cache record`, make reads while it records, end it when ``least`` are in the file: code
    and stderr.
    """
    command = ["record", str(target), *which, "--for", LONGER_THAN_ANY_TEST, "--sample", "1"]
    process = await asyncio.create_subprocess_exec(
        *PROGRAM, *command, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    told = b""
    while b"cache: recording" not in told:
        line = await process.stderr.readline()
        assert line, told
        told += line
    await use()
    size = len(MAGIC) + SHARE.size + 8 * least
    async with asyncio.timeout(20):
        while target.stat().st_size < size:  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.02)
    end(process)
    _, err = await process.communicate()
    return process.returncode or 0, (told + err).decode()


def interrupt(process: asyncio.subprocess.Process) -> None:
    process.send_signal(signal.SIGINT)


@pytest.mark.parametrize("kind", ["standalone", "cluster", "ring", "sentinel"])
async def test_a_recording_of_other_processes_is_replayed(kind, request, tmp_path, capsys):
    deployment: Deployment = request.getfixturevalue(kind)
    target = tmp_path / "log"

    config = config_of(deployment, regions=[CacheRegion("other")])
    assert isinstance(config.backend, Redis)
    config = replace(config, backend=replace(config.backend, near=False))
    async with Cache(config) as cache:
        await cache.clear()

    async def use() -> None:
        async with Cache(config) as cache:
            for _ in range(3):
                for key in ("a", "b", 'odd "key"\n'):
                    await cache.get_or_load(key, lambda: 1)
            await cache.get_many(["a", "b"])
            await cache.get("a", options=GetOptions(allow_stale=True))
            await cache.region("other").get("c")
            await cache.set("d", 1, tags=("t",))
            await cache.get("d")

    which = ["--config", full_config(tmp_path, deployment)]
    code, err = await recorded(target, which, use, 13, interrupt)

    assert code == 130
    assert "MONITOR sends every command" in err
    requests, share = read_requests(target)
    assert share == 1.0
    assert len(requests) == 9 + 2 + 1 + 1
    assert len(set(requests)) == 4
    assert main(["simulate", str(target), "--policy", "lru", "--size", "4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"][0]["hits"] == 9


def full_config(tmp_path, deployment: Deployment) -> str:
    """A file that says all that `config_of` does."""
    path = tmp_path / "full.yaml"
    urls = ", ".join(deployment.urls)
    more = ", cluster: true" if deployment.kind == "cluster" else ""
    if deployment.kind == "sentinel":
        more = f", sentinel: {{master: {MASTER}}}"
    if deployment.certificates is not None:
        where = deployment.certificates
        tls = f"{{ca: {where}/ca.crt, cert: {where}/client.crt, key: {where}/client.key}}"
        more += f", username: {USER}, password: '{PASSWORD}', tls: {tls}"
    path.write_text(
        f"cache: {{name: test, backend: {{type: redis, urls: [{urls}]{more}}}}}\n"
        f"regions: {{other: {{}}}}\n"
    )
    return str(path)


def test_it_ends_by_itself_and_says_what_it_has(standalone, tmp_path, capsys):
    command = ["record", str(tmp_path / "log"), "--config", config_file(tmp_path, standalone)]

    assert main([*command, "--for", "50ms", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {
        "file": str(tmp_path / "log"), "reads": 0, "sample": 0.1, "seconds": 0.05,
    }  # fmt: skip
    assert main([*command, "--for", "50ms"]) == 0
    assert "log: 0 reads of 10% of the keys of region default" in capsys.readouterr().out


def test_a_user_without_the_right_is_told(tls, tmp_path, capsys):
    command = ["record", str(tmp_path / "log"), "--config", full_config(tmp_path, tls)]
    code = main([*command, "--for", "1s"])
    err = capsys.readouterr().err

    assert code == 3
    assert "allow the user +monitor" in err
    assert PASSWORD not in err
    assert not (tmp_path / "log").exists()


async def test_a_server_that_goes_away_ends_it_and_what_was_heard_is_kept(tmp_path):
    deployment = start_standalone(tmp_path / "server", options=["--requirepass", "secret"])
    url = f"redis://:secret@127.0.0.1:{deployment.servers[0].port}"
    target = tmp_path / "log"

    async def use() -> None:
        async with Cache(CacheConfig(backend=Redis(urls=[url], near=False))) as cache:
            await cache.get("a")

    try:
        code, err = await recorded(target, ["--url", url], use, 1, lambda _: deployment.stop())
    finally:
        deployment.stop()

    assert code == 3
    assert "closed the connection" in err or "reset" in err
    assert "secret" not in err
    assert len(read_requests(target)[0]) == 1


async def test_it_does_not_follow_a_server_that_is_too_fast(standalone):
    times = iter([0.0, 10.0])
    name = "main"
    server = Redis(urls=standalone.urls)
    reads = RedisReads(server, PartitioningConfig(), name, "default", SystemClock())
    await reads.open()
    try:
        [tap] = reads._taps
        tap._now = lambda: next(times, 20.0)
        standalone.servers[0].ask("GET", "main:default:a")
        listening = asyncio.create_task(reads.listen(lambda _: None))
        while tap._lead is None:  # noqa: ASYNC110 - until the first line has come
            await asyncio.sleep(0)
        standalone.servers[0].ask("GET", "main:default:a")
        with pytest.raises(BackendUnavailable, match="does more than can be read here"):
            await listening
    finally:
        await reads.aclose()


@pytest.mark.parametrize(("read_replicas", "servers"), [(False, 3), (True, 6)])
async def test_replicas_are_heard_where_they_answer_reads(cluster, read_replicas, servers):
    server = Redis(urls=cluster.urls, cluster=True, read_replicas=read_replicas)
    reads = RedisReads(server, PartitioningConfig(), "main", "default", SystemClock())
    try:
        await reads.open()
        assert len({tap.endpoint.name for tap in reads._taps}) == servers
    finally:
        await reads.aclose()


@pytest.mark.parametrize(
    ("line", "key"),
    [
        (b'1.5 [0 127.0.0.1:1] "GET" "main:default:a"', b"a"),
        (b'1.5 [0 [::1]:1] "GET" "main:default:a:b"', b"a:b"),
        (b'1.5 [0 unix:/tmp/s] "GET" "main:default:a\\" \\"b"', b'a\\" \\"b'),
        (b'1.5 [0 1.1.1.1:1] "EVALSHA" "%b" "1" "main:default:a\\" \\"b" "0"', b'a\\" \\"b'),
        (b'1.5 [0 1.1.1.1:1] "EVALSHA" "other" "1" "main:default:a" "0"', None),
        (b'1.5 [1 127.0.0.1:1] "GET" "main:default:a"', None),
        (b'1.5 [0 lua] "GET" "main:default:a"', None),
        (b'1.5 [0 127.0.0.1:1] "PTTL" "main:default:a"', None),
        (b'1.5 [0 127.0.0.1:1] "SET" "main:default:a" "] \\"GET\\" \\"main:default:a"', None),
        (b'1.5 [0 127.0.0.1:1] "GET" "main:#tag:a"', None),
        (b"1.5", None),
    ],
)
def test_a_line_is_a_read_or_not(line, key):
    digest = str(READ.call(b"")[1]).encode()

    assert read_key(line.replace(b"%b", digest), b"main:default:", 0) == key
