"""What a caller is told where no connection comes about, in words that help."""

import socket

import pytest

from clusterdb.cache import BackendUnavailable, Cache, CacheConfig, PoolConfig, Redis


async def trouble_with(url: str) -> str:
    pool = PoolConfig(timeout=5, connect_timeout=5)
    cache = Cache(CacheConfig(backend=Redis(urls=[url], pool=pool)))
    with pytest.raises(BackendUnavailable) as caught:
        await cache.get("k")
    await cache.aclose()
    return str(caught.value)


async def test_a_port_where_nothing_listens():
    with socket.socket() as taken:  # bound, and not listening
        taken.bind(("127.0.0.1", 0))
        said = await trouble_with(f"redis://127.0.0.1:{taken.getsockname()[1]}")

    assert "nothing listens there: is it running, and on this port?" in said


async def test_a_socket_that_is_not_there(tmp_path):
    assert "there is no such socket" in await trouble_with(f"unix://{tmp_path}/redis.sock")
