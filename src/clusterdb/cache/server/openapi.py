"""The description of the operations in OpenAPI 3.1, made of their table."""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Final

import msgspec

from ..members import this_process
from .operations import OPERATIONS, Operation, Parameter
from .problems import PROBLEMS, Problem

__all__ = ["describe"]

_SCHEMAS: Final = "#/components/schemas/{name}"
_ANY: Final = (
    "invalid-request",
    "invalid-argument",
    "token-required",
    "wrong-host",
    "request-timeout",
    "too-large",
    "too-many-requests",
    "cache-error",
    "not-supported",
    "unavailable",
    "timeout",
)


@cache
def describe() -> bytes:
    """The document, as JSON."""
    kinds = _documents()
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_SCHEMAS)
    known = dict(zip(kinds, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(
            operation, known
        )
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "ClusterDB Cache",
                "version": this_process().version,
                "description": "The operations of a cache over HTTP.",
            },
            "paths": paths,
            "components": {
                "schemas": components,
                "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            },
            "security": [{}, {"token": []}],
        }
    )


def _documents() -> list[Any]:
    """Every type that goes over the wire, each once."""
    found: list[Any] = [Problem]
    for operation in OPERATIONS:
        found += [operation.body, *operation.answers.values()]
    return list(dict.fromkeys([each for each in found if each and not isinstance(each, str)]))


def _described(operation: Operation, known: dict[Any, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.text,
        "parameters": [
            *[_in_path(name) for name in re.findall(r"{(\w+)}", operation.path)],
            *[_parameter(each) for each in operation.parameters],
        ],
        "responses": {
            str(status): _response(document, known)
            for status, document in operation.answers.items()
        }
        | _problems(operation, known),
    }
    if operation.body is not None:
        content = {"application/json": {"schema": known[operation.body]}}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _in_path(name: str) -> dict[str, Any]:
    schema = {"type": "string", "minLength": 1}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.text,
        "required": parameter.required,
        "schema": parameter.schema,
    }


def _response(document: Any, known: dict[Any, Any]) -> dict[str, Any]:
    if document is None:
        return {"description": "Done, without a body"}
    if isinstance(document, str):
        return {"description": "Text", "content": {document: {"schema": {"type": "string"}}}}
    content = {"application/json": {"schema": known[document]}}
    return {"description": "Done", "content": content}


def _problems(operation: Operation, known: dict[Any, Any]) -> dict[str, Any]:
    """The problems of an operation by status, those of each together."""
    kinds = [*_ANY, *operation.problems]
    kinds += ["read-only"] if operation.writes else []
    kinds += ["unsupported-media-type", "type-mismatch"] if operation.body is not None else []
    texts: dict[int, list[str]] = {}
    for kind in dict.fromkeys(kinds):
        status, title = PROBLEMS[kind]
        texts.setdefault(status, []).append(f"{title} (`{kind}`)")
    content = {"application/problem+json": {"schema": known[Problem]}}
    return {
        str(status): {"description": "; ".join(titles), "content": content}
        for status, titles in sorted(texts.items())
        if status not in operation.answers
    }
