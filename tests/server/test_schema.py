"""The server held against its own description: requests that fit it and requests that don't, over a
real socket.

``schemathesis`` makes them. Whatever it sends, each answer has a status, a media type and a body
that the description names, and none is the server's own failure.
"""

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.server.serving import serving

from clusterdb.cache import LRU, Cache, CacheConfig, CacheRegion
from clusterdb.cache.server import ServerSettings
from clusterdb.cache.server.openapi import describe

pytestmark = pytest.mark.server


def described() -> dict[str, Any]:
    """The description, knowing what regions and keys there are: others would be asked for in vain,
    as those that break the description are.
    """
    document: dict[str, Any] = json.loads(describe())
    there = {"region": ["default", "session"], "key": ["k", "n", "text", "☃"]}
    for methods in document["paths"].values():
        for operation in methods.values():
            for parameter in operation["parameters"]:
                if parameter["name"] in there and parameter["required"]:
                    parameter["schema"]["enum"] = there[parameter["name"]]
    return _plain(document)


def _plain(node: Any) -> Any:
    """The tool reads ``prefixItems`` as if it were of an older draft: any of the items will do."""
    if isinstance(node, list):
        return [_plain(each) for each in node]
    if not isinstance(node, dict):
        return node
    found = {name: _plain(each) for name, each in node.items()}
    prefix = found.pop("prefixItems", None)
    return found if prefix is None else found | {"items": {"anyOf": prefix}}


DOCUMENT = described()
LONGEST = 65_536
LASTING = {"streamEvents"}
"""Answers that do not end; their errors do, and are tested by themselves."""

OPERATIONS = {
    operation["operationId"]: (path, method)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
    if operation["operationId"] not in LASTING
}
CHECKS: list[Any] = [status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server in a thread of its own: the requests block."""
    address: list[str] = []
    begun = threading.Event()
    loop = asyncio.new_event_loop()
    end = asyncio.Event()

    async def serve() -> None:
        regions = (
            CacheRegion("session", size="1MB"),
            CacheRegion("small", policy=LRU(max_items=9)),
        )
        async with Cache(CacheConfig(name="shop", regions=regions)) as cache:
            await cache.set("k", {"a": 1}, tags=("t",))
            await cache.set("n", 5)
            await cache.set("text", "five")
            async with serving(cache, ServerSettings(port=0, rate=None)) as served:
                address.append(served.url)
                begun.set()
                await end.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert begun.wait(20)
    yield address[0].rstrip("/")
    loop.call_soon_threadsafe(end.set)
    thread.join(20)
    loop.close()


def cases() -> Iterator[tuple[str, GenerationMode]]:
    """Each operation; what takes nothing can't be given anything wrong."""
    for name, (path, method) in OPERATIONS.items():
        yield name, GenerationMode.POSITIVE
        operation = DOCUMENT["paths"][path][method]
        if operation["parameters"] or "requestBody" in operation:
            yield name, GenerationMode.NEGATIVE


@pytest.mark.parametrize(("name", "mode"), list(cases()))
def test_every_answer_is_as_described(url: str, name: str, mode: GenerationMode):
    path, method = OPERATIONS[name]
    operation = schemathesis.openapi.from_dict(DOCUMENT)[path][method.upper()]

    @settings(
        max_examples=25,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode))
    def hammer(case: schemathesis.Case) -> None:
        if len(str(case.query.get("key", ""))) > LONGEST:
            return  # the head of a request has a limit of its own, below that of HTTP
        answer = case.call(base_url=url)
        case.validate_response(answer, checks=CHECKS)
        assert answer.status_code != 500, answer.text

    hammer()
