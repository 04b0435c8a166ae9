"""Who may ask: names, origins, tokens, rates, and what a server that only reads refuses."""

import httpx
import pytest

from clusterdb.cache import Cache, ConfigError
from clusterdb.cache.server import ServerSettings
from clusterdb.cache.server.gate import Buckets
from clusterdb.cache.server.operations import OPERATIONS

TOKEN = "a-token-of-many-letters-0123456789"
PAGES = ["/", "/assets/admin.js", "/v1/statistics", "/metrics", "/healthz", "/openapi.json"]


def kind(answer: httpx.Response) -> str:
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == answer.status_code
    return problem["type"].rpartition(":")[2]


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8765", "", "[", "2"]
)
async def test_a_foreign_name_is_refused(client: httpx.AsyncClient, path: str, host: str):
    answer = await client.get(path, headers={"Host": host})
    assert (answer.status_code, kind(answer)) == (403, "wrong-host")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8765", "[::1]:8765"])
async def test_this_machine_is_known_by_its_names(client: httpx.AsyncClient, host: str):
    assert (await client.get("/healthz", headers={"Host": host})).status_code == 200


async def test_names_can_be_allowed(client_of, cache: Cache):
    client = client_of(cache, hosts=("Cache.Example",))
    for host, status in [("cache.example:80", 200), ("localhost", 200), ("evil.example", 403)]:
        assert (await client.get("/healthz", headers={"Host": host})).status_code == status


FOREIGN = [
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost:9999"},
    {"Origin": "http://[", "Host": "localhost"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"},
]


@pytest.mark.parametrize("headers", FOREIGN)
async def test_pages_of_others_neither_write_nor_read(client, cache: Cache, headers):
    await cache.set("k", 1)
    write = await client.post(
        "/v1/regions/default/invalidate", json={"keys": ["k"]}, headers=headers
    )
    assert (write.status_code, kind(write)) == (403, "wrong-origin")
    assert await cache.get("k") == 1
    read = await client.get("/v1/regions/default/entry", params={"key": "k"}, headers=headers)
    assert (read.status_code, kind(read)) == (403, "wrong-origin")


async def test_its_own_page_and_allowed_ones_may(client_of, cache: Cache):
    client = client_of(cache, origins=("https://ops.example",))
    for origin in ("http://localhost:8765", "https://ops.example"):
        answer = await client.post("/v1/clear", json={}, headers={"Origin": origin})
        assert answer.status_code == 200
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert (await client.get("/", headers=link)).status_code == 200
    assert (await client.post("/v1/clear", json={}, headers=link)).status_code == 403


@pytest.mark.parametrize(
    "media", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
)
async def test_a_form_is_no_request(client: httpx.AsyncClient, cache: Cache, media: str):
    await cache.set("k", 1)
    answer = await client.post("/v1/clear", content=b"{}", headers={"Content-Type": media})
    assert (answer.status_code, kind(answer)) == (415, "unsupported-media-type")
    assert await cache.get("k") == 1


async def test_everything_but_the_page_and_probes_takes_the_token(client_of, cache: Cache):
    client = client_of(cache, token=TOKEN)
    for operation in OPERATIONS:
        path = operation.path.replace("{region}", "default")
        if path in {"/healthz", "/readyz"}:
            continue
        answer = await client.request(operation.method, path, params={"key": "k"}, json={})
        assert (answer.status_code, kind(answer)) == (401, "token-required"), operation.name
        assert answer.headers["www-authenticate"] == "Bearer"
    for path in ("/", "/assets/admin.css", "/healthz", "/readyz"):
        assert (await client.get(path)).status_code == 200
    right = {"Authorization": f"Bearer {TOKEN}"}
    assert (await client.get("/v1/statistics", headers=right)).status_code == 200


@pytest.mark.parametrize(
    "given",
    ["", "Bearer", "Bearer ", TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}"],
)
async def test_wrong_tokens(client_of, cache: Cache, given: str):
    client = client_of(cache, token=TOKEN, rate=None)
    answer = await client.get("/v1/health", headers={"Authorization": given})
    assert answer.status_code == 401
    assert TOKEN not in answer.text


@pytest.mark.parametrize("path", ["/assets/../v1/health", "//v1/health", "/assets//../v1/health",
                                  "/assets/%2e%2e/v1/health", "/healthz/../v1/health"])  # fmt: skip
async def test_no_path_leads_round_the_token(client_of, cache: Cache, path: str):
    client = client_of(cache, token=TOKEN)
    request = httpx.Request("GET", "http://localhost:8765/")
    request.url = request.url.copy_with(raw_path=path.encode())
    answer = await client.send(request)
    assert answer.status_code in {401, 404}
    assert "checks" not in answer.text


async def test_guessing_is_slow(client_of, cache: Cache):
    client = client_of(cache, token=TOKEN, rate=20)
    wrong = {"Authorization": "Bearer something-else-that-is-long"}
    statuses = [(await client.get("/metrics", headers=wrong)).status_code for _ in range(5)]
    assert statuses[:2] == [401, 401]
    assert statuses[3:] == [429, 429]


async def test_too_many_requests(client_of, cache: Cache):
    client = client_of(cache, rate=1)
    answers = [await client.get("/healthz") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert int(answers[2].headers["retry-after"]) >= 1


def test_buckets_fill_again_and_forget_who_was_not_heard_of():
    now = 0.0
    buckets = Buckets(10, lambda: now)
    assert [buckets.take("a") for _ in range(20)] == [0.0] * 20
    assert buckets.take("a") == pytest.approx(0.1)
    assert buckets.take("b") == 0
    now = 0.1
    assert buckets.take("a") == 0
    for number in range(5000):
        buckets.take(str(number))
    assert len(buckets._left) == 1024


async def test_a_server_that_only_reads(client_of, cache: Cache):
    await cache.set("k", 1)
    client = client_of(cache, read_only=True)
    for operation in OPERATIONS:
        if not operation.writes:
            assert operation.method == "GET"
            continue
        path = operation.path.replace("{region}", "default")
        answer = await client.request(operation.method, path, params={"key": "k"}, json={})
        assert (answer.status_code, kind(answer)) == (403, "read-only"), operation.name
    assert await cache.get("k") == 1
    assert (await client.get("/v1/overview")).json()["read_only"] is True


@pytest.mark.parametrize("path", [*PAGES, "/none", "/v1/regions/none/keys"])
async def test_every_answer_binds_the_browser(client: httpx.AsyncClient, path: str):
    headers = (await client.get(path)).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "10.0.0.1", "cache.example", "localhost.example"]
)
def test_other_machines_need_a_token_or_a_certificate(host: str, tmp_path):
    with pytest.raises(ConfigError, match="token"):
        ServerSettings(host=host).check_reach()
    ServerSettings(host=host, token=TOKEN).check_reach()
    tls = {"certificate": tmp_path / "c", "key": tmp_path / "k"}
    with pytest.raises(ConfigError, match="token"):
        ServerSettings(host=host, **tls).check_reach()
    with pytest.raises(ConfigError, match="allow-host"):
        ServerSettings(host=host, client_ca=tmp_path / "a", **tls).check_reach()
    ServerSettings(host=host, client_ca=tmp_path / "a", hosts=("c",), **tls).check_reach()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "::1", "localhost"])
def test_this_machine_needs_none(host: str):
    ServerSettings(host=host).check_reach()


@pytest.mark.parametrize(
    "wrong", ["short", "with a space in the middle", "ünïcödé-ünïcödé-ünïcödé"]
)
def test_tokens_that_are_none(wrong: str):
    with pytest.raises(ConfigError, match="16") as error:
        ServerSettings(token=wrong)
    assert wrong not in str(error.value)
    assert TOKEN not in repr(ServerSettings(token=TOKEN))
