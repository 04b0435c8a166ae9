"""From the settings of a backend to addresses and logins."""

from __future__ import annotations

import pytest

from clusterdb.cache.config import Redis, SentinelConfig, TlsConfig
from clusterdb.cache.transport import topology_for
from clusterdb.cache.transport.endpoint import endpoints, sentinels


@pytest.mark.parametrize(
    ("url", "name", "database"),
    [
        ("redis://h", "h:6379", 0),
        ("redis://h:1/2", "h:1", 2),
        ("redis://[::1]:7/", "[::1]:7", 0),
        ("unix:///run/a%20b.sock?db=3", "/run/a b.sock", 3),
        ("unix:///run/redis.sock", "/run/redis.sock", 0),
    ],
)
def test_addresses(url, name, database):
    [where] = endpoints(Redis(urls=[url]))
    assert (where.name, where.database, where.tls) == (name, database, None)


def test_a_login_in_the_url_goes_before_the_settings():
    urls = ["redis://h1", "redis://u%40:p%2F@h2", "redis://:only@h3"]
    logins = [
        (each.username, each.password)
        for each in endpoints(Redis(urls=urls, username="name", password="secret"))
    ]
    assert logins == [("name", "secret"), ("u@", "p/"), (None, "only")]


@pytest.mark.parametrize(
    "config", [Redis(urls=["rediss://h"]), Redis(urls=["redis://h"], tls=TlsConfig())]
)
def test_encryption_checks_names_and_certificates(config):
    [where] = endpoints(config)
    assert where.tls is not None
    assert where.tls.check_hostname
    assert where.tls.verify_mode.name == "CERT_REQUIRED"


def test_sentinels_have_their_own_login():
    config = Redis(
        urls=["redis://s1/4", "redis://s2/4"],
        username="data",
        password="d",
        sentinel=SentinelConfig(master="main", username="watch", password="w"),
    )
    assert config.sentinel is not None
    asked, servers = sentinels(config, config.sentinel)

    assert [(each.username, each.password, each.database) for each in asked] == [
        ("watch", "w", 0)
    ] * 2
    assert (servers.username, servers.password, servers.database) == ("data", "d", 4)


def test_no_secret_is_shown():
    config = Redis(urls=["redis://u:hunter2@h"])
    assert "hunter2" not in repr(endpoints(config))
    assert "hunter2" not in repr(topology_for(config, lambda: 0.0).nodes())
