"""`cache top`, `cache health` and `cache keys hot` on real servers."""

from __future__ import annotations

import asyncio
import json

import pytest
from tests.redis.backends import flush
from tests.redis.servers import Server
from tests.redis.test_members import cache_of, until
from tests.unit.cache.cli.commands import PROGRAM

from clusterdb.cache.backends.redis import membership
from clusterdb.cache.cli import main


async def started(*argv: str) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(*PROGRAM, *argv, stdout=pipe, stderr=pipe)


async def ended(process: asyncio.subprocess.Process) -> tuple[int, str, str]:
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, out.decode(), err.decode()


async def test_top_shows_servers_and_processes(standalone, monkeypatch):
    monkeypatch.setattr(membership, "FIRST", 0.01)
    monkeypatch.setattr(membership, "BEAT", 0.05)
    flush(standalone)
    async with cache_of(standalone) as cache:
        await cache.set("k", 1)
        await until(cache, bool)
        url = f"{standalone.urls[0]}?name=shop"
        top = await started("top", "--once", "--json", "--interval", "2s", "--url", url)
        while top.returncode is None:
            await cache.get("k")
            await asyncio.sleep(0.005)
        code, out, err = await ended(top)

    assert code == 0, err
    said = json.loads(out)
    [server] = said["servers"]
    assert server["name"] == f"127.0.0.1:{standalone.servers[0].port}"
    assert server["memory"] > 0
    [process] = said["processes"]
    assert process["reads"] > 1
    assert process["near_ratio"] > 0.5


@pytest.mark.parametrize("kind", ["standalone", "cluster"])
async def test_hot_keys_are_those_that_servers_are_asked_for(kind, request):
    servers = request.getfixturevalue(kind)
    flush(servers)
    path = request.getfixturevalue("tmp_path") / "cache.yaml"
    cluster = "true" if kind == "cluster" else "false"
    urls = ", ".join(servers.urls)
    path.write_text(
        f"cache: {{name: shop, backend: {{type: redis, urls: [{urls}], cluster: {cluster}}}}}"
    )
    async with cache_of(servers, near=False) as cache:
        await cache.set_many({f"k{number}": number for number in range(20)})
        hot = await started(
            "keys", "hot", "--for", "3s", "--count", "2", "--json", "--config", str(path)
        )
        assert hot.stderr is not None
        while b"cache: counting" not in (line := await hot.stderr.readline()):
            assert line, "it counts"
        for number in range(20):
            for _ in range(5 if number == 7 else 1):
                await cache.get(f"k{number}")
        code, out, _ = await ended(hot)

    said = json.loads(out)
    assert code == 0
    assert (said["reads"], said["exact"]) == (24, True)
    assert said["keys"][0] == ["k7", 5, 5 / 24]
    assert len(said["keys"]) == 2


def test_health_of_a_lost_server_is_failing(server: Server, capsys):
    url = f"redis://127.0.0.1:{server.port}"
    assert main(["health", "--url", url]) == 0
    server.kill()
    capsys.readouterr()
    assert main(["health", "--url", url, "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["status"], said["live"], said["ready"]) == ("failing", True, False)
