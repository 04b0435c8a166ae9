"""The description says what there is; the server does what the description says."""

import json
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clusterdb.cache import Cache, CacheConfig, CacheRegion
from clusterdb.cache.server import ServerSettings, make_app
from clusterdb.cache.server.openapi import describe
from clusterdb.cache.server.operations import OPERATIONS
from clusterdb.cache.server.problems import PROBLEMS

DOCUMENT = json.loads(describe())
ANY = [
    (method, path, operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
    if path != "/v1/events"
]


def routes() -> set[tuple[str, str]]:
    gate = make_app(Cache(), ServerSettings())
    found = set()
    for route in gate._app.routes:  # type: ignore[attr-defined]
        found |= {(method, route.path) for method in route.methods - {"HEAD"}}
    return found


def test_the_description_has_the_routes_and_no_others():
    described = {
        (method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods
    }
    own = {("GET", "/"), ("GET", "/assets/{name}"), ("GET", "/openapi.json")}
    assert described | own == routes()
    assert len(described) == len(OPERATIONS)


def test_names_are_unique_and_problems_are_known():
    names = [operation.name for operation in OPERATIONS]
    assert len(set(names)) == len(names)
    assert {kind for each in OPERATIONS for kind in each.problems} <= set(PROBLEMS)


def test_every_reference_leads_somewhere():
    schemas = DOCUMENT["components"]["schemas"]

    def references(node: Any) -> set[str]:
        if isinstance(node, dict):
            own = {node["$ref"]} if "$ref" in node else set()
            return own.union(*[references(child) for child in node.values()])
        return (
            set().union(*[references(child) for child in node]) if isinstance(node, list) else set()
        )

    assert references(DOCUMENT) <= {f"#/components/schemas/{name}" for name in schemas}


async def test_it_is_served(client: httpx.AsyncClient):
    assert (await client.get("/openapi.json")).json() == DOCUMENT


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
TEXT = st.text(max_size=8) | st.sampled_from(["k", "session", "default", "5", "*", '"1"', "true"])


def schema_of(reference: dict[str, Any]) -> dict[str, Any]:
    name = reference["$ref"].rpartition("/")[2]
    found: dict[str, Any] = DOCUMENT["components"]["schemas"][name]
    return found


def bodies(operation: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Objects with the described fields, some of other types; and anything else."""
    described = operation.get("requestBody")
    if described is None:
        return st.none()
    schema = schema_of(described["content"]["application/json"]["schema"])
    fields = {
        name: st.lists(TEXT, max_size=3) if "items" in str(part) else TEXT | JSON
        for name, part in schema["properties"].items()
    }
    required = {name: fields.pop(name) for name in schema.get("required", ())}
    return st.fixed_dictionaries(required, optional=fields) | JSON


def requests(operation: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    query, headers = {}, {}
    for parameter in operation["parameters"]:
        if parameter["in"] == "query":
            query[parameter["name"]] = TEXT
        elif parameter["in"] == "header":
            headers[parameter["name"]] = st.sampled_from(["*", '"1"', '"2"', "x", ""])
    return st.fixed_dictionaries(
        {
            "params": st.fixed_dictionaries({}, optional=query),
            "headers": st.fixed_dictionaries({}, optional=headers),
            "body": bodies(operation),
            "region": st.sampled_from(["default", "session", "none"]) | TEXT,
        }
    )


def is_of(value: Any, schema: dict[str, Any], where: str = "$") -> None:
    """Whether a value is of a JSON Schema, as far as ours use it."""
    if not schema:
        return
    if "$ref" in schema:
        is_of(value, schema_of(schema), where)
    elif "anyOf" in schema:
        fits = 0
        for option in schema["anyOf"]:
            try:
                is_of(value, option, where)
            except AssertionError:
                continue
            fits += 1
        assert fits, (where, value, schema)
    elif "enum" in schema:
        assert value in schema["enum"], (where, value)
    elif "type" in schema:
        _is_of_type(value, schema, where)
    else:
        assert set(schema) <= {"title", "description", "default"}, (where, schema)


KINDS = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}


def _is_of_type(value: Any, schema: dict[str, Any], where: str) -> None:
    assert isinstance(value, KINDS[schema["type"]]), (where, value, schema)  # type: ignore[arg-type]
    assert isinstance(value, bool) == (schema["type"] == "boolean"), where
    if schema["type"] == "array" and "prefixItems" not in schema:
        for index, item in enumerate(value):
            is_of(item, schema.get("items", {}), f"{where}[{index}]")
    if schema["type"] == "object":
        known = schema.get("properties", {})
        assert set(schema.get("required", ())) <= set(value), (where, value)
        for name, item in value.items():
            extra = schema.get("additionalProperties", {})
            assert name in known or extra is not False, (where, name)
            is_of(
                item, known.get(name, extra if isinstance(extra, dict) else {}), f"{where}.{name}"
            )


async def ask(client: httpx.AsyncClient, method: str, path: str, wanted: dict[str, Any]) -> None:
    url = path.replace("{region}", quote(wanted["region"], safe=""))
    body = {} if wanted["body"] is None else {"json": wanted["body"]}
    try:
        answer = await client.request(
            method, url, params=wanted["params"], headers=wanted["headers"], **body
        )
    except (UnicodeEncodeError, ValueError, httpx.InvalidURL):  # not to be sent by this client
        return
    described = DOCUMENT["paths"][path][method]["responses"]
    if str(answer.status_code) not in described:
        assert answer.status_code in {404, 405}, (answer.status_code, answer.text)
        assert wanted["region"] not in {"default", "session", "none"}
        return
    content = described[str(answer.status_code)].get("content")
    if content is None:
        assert answer.content == b""
        return
    media = answer.headers["content-type"].partition(";")[0]
    assert media in content
    if media.endswith("json"):
        is_of(answer.json(), content[media]["schema"])


@pytest.mark.parametrize(
    ("method", "path", "operation"), ANY, ids=[each[2]["operationId"] for each in ANY]
)
async def test_every_answer_is_as_described(method: str, path: str, operation: dict[str, Any]):
    config = CacheConfig(regions=(CacheRegion("session"),))
    async with Cache(config) as cache:
        await cache.set("k", {"a": 1}, tags=("t",))
        await cache.set("5", 5)
        app = make_app(cache, ServerSettings(rate=None))
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            right: dict[str, Any] = {"params": {}, "headers": {}, "body": None, "region": "default"}
            if any(each["name"] == "key" for each in operation["parameters"]):
                right["params"] = {"key": "k"}
            await ask(client, method, path, right)
            await _hammer(client, method, path, operation)
        assert await cache.exists("nothing") is False  # unharmed


async def _hammer(
    client: httpx.AsyncClient, method: str, path: str, operation: dict[str, Any]
) -> None:
    """The examples are drawn first: hypothesis does not wait for coroutines."""
    drawn: list[dict[str, Any]] = []

    @settings(
        max_examples=40, database=None, suppress_health_check=list(HealthCheck), deadline=None
    )
    @given(requests(operation))
    def draw(wanted: dict[str, Any]) -> None:
        drawn.append(wanted)

    draw()
    for wanted in drawn:
        await ask(client, method, path, wanted)


def test_the_checker_notices_what_is_wrong():
    schema = {"$ref": "#/components/schemas/KeyList"}
    is_of({"region": "a", "keys": ["b"], "complete": True}, schema)
    wrongs: list[Any] = [{"region": "a", "keys": "b", "complete": True}, {"region": "a"}, [], 5]
    for wrong in wrongs:
        with pytest.raises(AssertionError):
            is_of(wrong, schema)
    assert msgspec.json.decode(describe())["openapi"] == "3.1.0"
