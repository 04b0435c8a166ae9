"""What can't be read or done is told in one form, and tells no secrets."""

import asyncio

import httpx
import pytest

from clusterdb.cache import (
    Advice,
    AlertConfig,
    BackendUnavailable,
    Cache,
    CacheCoherence,
    CacheConfig,
    CacheError,
    EntryTooLarge,
    MetricsConfig,
    PoolConfig,
    PostgreSQL,
    Redis,
    WriteThrough,
    errors,
)
from clusterdb.cache.server.operations import OPERATIONS
from clusterdb.cache.server.problems import PROBLEMS, as_problem

ENTRY = "/v1/regions/default/entry"

UNREADABLE = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'{"value": 1, "unknown": 2}',
    b'{"value": 1, "ttl": true}',
    b'{"value": 1, "ttl": -1}',
    b'{"value": 1, "ttl": "soon"}',
    b'{"value": 1, "ttl": 1e999}',
    b'{"value": 1, "tags": "a"}',
    b'{"value": 1, "tags": [""]}',
    b'{"value": 1, "type": "pickle"}',
    b'{"value": 1, "type": "text"}',
    b'{"value": "???", "type": "bytes"}',
    b'{"value": NaN}',
    b'{"value": "\xff"}',
    b'{"value": "\\ud800"}',
    b"[" * 100_000,
    b'{"value": ' + b"[" * 100_000,
    b'{"value": 1' + b"0" * 10_000 + b"}",
]


@pytest.mark.parametrize("body", UNREADABLE, ids=lambda body: repr(body[:40]))
async def test_a_body_that_cannot_be_read(client: httpx.AsyncClient, cache: Cache, body: bytes):
    headers = {"Content-Type": "application/json"}
    answer = await client.put(ENTRY, params={"key": "k"}, content=body, headers=headers)
    assert answer.status_code == 400, answer.text
    assert answer.json()["detail"]
    assert len(answer.text) < 1000
    assert not await cache.exists("k")


@pytest.mark.parametrize(
    "query",
    ["", "key=", "key=a&key=b","key=k&limit=0", "key=k&limit=-1",
     "key=k&limit=1e3", "key=k&limit=%D9%A3", "key=k&limit=" + "9" * 5000, "key=k&peek=1"],
    ids=lambda query: query[:30],
)  # fmt: skip
async def test_a_query_that_cannot_be_read(client: httpx.AsyncClient, query: str):
    answer = await client.get(f"{ENTRY}?{query}")
    assert answer.status_code == 400
    assert len(answer.text) < 1000


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "/assets/admin.html", "/assets/%2e%2e%2fgate.py", "/assets/..%2f..%2ferrors.py",
     "/assets/", "/assets", "/v1", "/v1/", "/v1/statistics/", "/v1/regions//keys",
     "/v1/regions/..%2f..%2fv1/keys","/%00"],
)  # fmt: skip
async def test_there_is_nothing_elsewhere(client: httpx.AsyncClient, path: str):
    answer = await client.get(httpx.URL("http://localhost:8765").copy_with(raw_path=path.encode()))
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_method_that_an_address_has_not(client: httpx.AsyncClient):
    answer = await client.post("/v1/statistics", json={})
    assert answer.status_code == 405
    assert "GET" in answer.headers["allow"]
    assert (await client.request("TRACE", "/v1/statistics")).status_code == 405


async def test_a_large_body_is_refused_before_it_is_read(client_of, cache: Cache):
    client = client_of(cache, max_body=1000)

    async def endless():
        while True:
            yield b"x" * 500

    headers = {"Content-Type": "application/json"}
    for content in (b"x" * 1001, endless()):
        answer = await client.put(ENTRY, params={"key": "k"}, content=content, headers=headers)
        assert answer.status_code == 413
    fits = await client.put(ENTRY, params={"key": "k"}, json={"value": "x" * 900})
    assert fits.status_code == 200


async def test_an_entry_too_large_for_its_region(client: httpx.AsyncClient):
    answer = await client.put(
        "/v1/regions/session/entry", params={"key": "k"}, json={"value": "x" * 2_000_000}
    )
    assert (answer.status_code, answer.json()["type"].rpartition(":")[2]) == (413, "too-large")


ERRORS = [getattr(errors, name) for name in errors.__all__]


@pytest.mark.parametrize(
    "error",
    [each for each in ERRORS if issubclass(each, CacheError) and each is not errors.BatchError],
)
def test_every_error_of_the_cache_is_a_problem(error: type[Exception]):
    bare = type("Bare", (error,), {"__init__": Exception.__init__})
    problem = as_problem(bare("redis://user:hidden@host is away"))
    assert problem.type.rpartition(":")[2] in PROBLEMS
    assert not problem.type.endswith("internal-error")
    assert "hidden" not in problem.detail


def test_a_bulk_error_is_its_first():
    failed = errors.BatchError({}, {"k": EntryTooLarge("k", 5, 1)})
    assert as_problem(failed).status == 413


async def test_what_nobody_foresaw_is_logged_and_not_told(
    client, cache: Cache, monkeypatch, caplog
):
    async def fail(_: Cache) -> None:
        raise ZeroDivisionError("with a secret")

    monkeypatch.setattr(Cache, "get_statistics", fail)
    answer = await client.get("/v1/statistics")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "ZeroDivisionError" in caplog.text


async def test_a_backend_that_is_away(client, cache: Cache, monkeypatch):
    async def fail(*_: object) -> None:
        raise BackendUnavailable("redis://:hidden@h can't be reached")

    monkeypatch.setattr(Cache, "get_statistics", fail)
    answer = await client.get("/v1/statistics")
    assert answer.status_code == 503
    assert "hidden" not in answer.text


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/regions/default/invalidate", {"keys": ["k"] * 10_001}),
        ("/v1/regions/default/invalidate", {"matching": ["*"] * 101}),
        ("/v1/invalidate", {"tags": ["t"] * 1001}),
        (ENTRY, {"value": 1, "tags": ["t"] * 1001}),
    ],
)
async def test_one_request_does_not_keep_the_cache_busy_for_long(client, path: str, body: dict):
    """All of it would be done in one turn of the loop that answers everybody."""
    method = "PUT" if path == ENTRY else "POST"
    answer = await client.request(method, path, params={"key": "k"}, json=body)
    assert (answer.status_code, answer.json()["type"].rpartition(":")[2]) == (
        400,
        "invalid-request",
    )


async def test_advice_is_worked_out_for_a_few_at_once(client, cache: Cache, monkeypatch):
    asked, go_on = asyncio.Semaphore(0), asyncio.Event()

    async def slow(_: Cache, region: str) -> Advice:
        asked.release()
        await go_on.wait()
        return Advice(region=region, policy="lru", size=1, hit_ratio=0.0, sampled=0)

    monkeypatch.setattr(Cache, "advise", slow)
    path = "/v1/regions/default/advice"
    first = [asyncio.create_task(client.get(path)) for _ in range(4)]
    for _ in first:
        await asked.acquire()
    one_more = await client.get(path)
    assert (one_more.status_code, one_more.json()["type"].rpartition(":")[2]) == (503, "busy")
    go_on.set()
    assert [(await each).status_code for each in first] == [200] * 4


async def test_no_answer_and_no_log_tells_a_secret(client_of, caplog):
    secret = "hunter2-is-secret"
    storage = PostgreSQL(url=f"postgres://cache:{secret}@127.0.0.1:9/shop")
    config = CacheConfig(
        name="shop",
        backend=Redis(
            urls=(f"redis://cache:{secret}@127.0.0.1:9",),
            pool=PoolConfig(timeout=0.2, connect_timeout=0.2),
        ),
        coherence=CacheCoherence(mode=WriteThrough(backend=storage)),
        metrics=MetricsConfig(
            alerts=AlertConfig(min_hit_ratio=0.9, webhook=f"http://127.0.0.1:9/{secret}")
        ),
    )
    cache = Cache(config)
    client = client_of(cache, token=f"{secret}-token", rate=None)
    client.headers["Authorization"] = f"Bearer {secret}-token"
    answers = [await client.get("/"), await client.get("/openapi.json")]
    for operation in [each for each in OPERATIONS if not each.streams]:
        path = operation.path.replace("{region}", "default")
        body = {"value": 1} if operation.method == "PUT" else {"tags": ["t"]}
        json = None if operation.method in {"GET", "DELETE"} else body
        answers.append(await client.request(operation.method, path, params={"key": "k"}, json=json))
    await cache.aclose()
    assert {answer.status_code for answer in answers} == {200, 400, 503}
    told = [answer.text + str(answer.headers) for answer in answers]
    told += [record.getMessage() + str(record.exc_info) for record in caplog.records]
    assert [text for text in told if secret in text] == []
