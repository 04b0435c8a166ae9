"""Commands on Redis: `cache status` with its servers, and what `cache doctor` says of them."""

from __future__ import annotations

import json

import pytest
from tests.redis.backends import flush
from tests.redis.servers import Deployment
from tests.redis.servers import standalone as start_standalone

from clusterdb.cache.cli import main


@pytest.fixture
def run(capsys):
    def run(*argv: str) -> tuple[int, str]:
        capsys.readouterr()
        return main(argv), capsys.readouterr().out

    return run


def config_file(tmp_path, deployment: Deployment, *, policy: str = "") -> str:
    path = tmp_path / "cache.yaml"
    urls = ", ".join(deployment.urls)
    cluster = "true" if deployment.kind == "cluster" else "false"
    path.write_text(
        f"cache: {{backend: {{type: redis, urls: [{urls}], cluster: {cluster}}}{policy}}}"
    )
    return str(path)


def test_status_of_a_cluster_is_a_table_of_its_servers(run, tmp_path, cluster):
    flush(cluster)
    path = config_file(tmp_path, cluster)
    assert run("set", "k", "1", "--config", path)[0] == 0

    code, text = run("status", "--config", path)
    assert code == 0
    lines = [line.split() for line in text.splitlines()]
    servers = [line for line in lines if "master" in line]
    assert len(servers) == 3
    assert {line[0] for line in servers} < {f"127.0.0.1:{each.port}" for each in cluster.servers}

    code, text = run("status", "--config", path, "--json")
    assert [each["replicas"] for each in json.loads(text)["servers"]] == [1, 1, 1]


def test_doctor_says_where_a_server_disagrees(run, tmp_path):
    options = ["--maxmemory", "50mb", "--maxmemory-policy", "noeviction"]
    deployment = start_standalone(tmp_path / "server", options=options)
    policy = ", policy: {eviction: {type: lru, max_memory: 50MiB}}"
    path = config_file(tmp_path, deployment, policy=policy)
    try:
        code, text = run("doctor", path, "--json")
        checks = json.loads(text)["checks"]
        assert code == 0
        [warning] = [check for check in checks if check["warning"]]
        assert "maxmemory-policy noeviction" in warning["detail"]
        assert "look    servers" in run("doctor", path)[1]
    finally:
        deployment.stop()
    code, text = run("doctor", path, "--json")
    assert code == 1
    assert not json.loads(text)["checks"][-1]["ok"]
