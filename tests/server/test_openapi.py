"""The description says what there is. That the server does what it says is shown by test_schema."""

import json
from typing import Any

import httpx

from clusterdb.cache import Cache
from clusterdb.cache.server import ServerSettings, make_app
from clusterdb.cache.server.openapi import describe
from clusterdb.cache.server.operations import OPERATIONS
from clusterdb.cache.server.problems import PROBLEMS

DOCUMENT = json.loads(describe())


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
