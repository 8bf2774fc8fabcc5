"""The OpenAPI document of the control API, made from the rows of the registry."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any

import msgspec

from epad.answers import (
    agents,
    changes,
    confinement,
    decisions,
    foreign,
    identity,
    memory,
    orders,
    secrets,
    status,
    tools,
    vault,
)
from epad.operations import bodies
from epad.operations.registry import Operation

Json = dict[str, Any]

_TEXT = {"type": "string"}
_REFERENCE = "#/components/schemas/{name}"
_DOCUMENT = {"Document": {"type": "object", "additionalProperties": True}}
"""What has no type of its own: a description of types."""

TYPES: Json = {
    name: kind
    for module in (
        status,
        decisions,
        orders,
        confinement,
        tools,
        foreign,
        memory,
        changes,
        secrets,
        agents,
        identity,
        vault,
        bodies,
    )
    for name, kind in vars(module).items()
    if getattr(kind, "__module__", "") == module.__name__
}
"""What the rows of the registry name, by its name."""


def document(operations: Collection[Operation], version: str) -> Json:
    """Describe exactly these operations."""
    paths: dict[str, Json] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "epad control API",
            "version": version,
            "description": "HTTP on a Unix socket. The caller's rights come from the socket's credentials.",
        },
        "paths": paths,
        "components": {"schemas": _schemas(operations)},
    }


def _described(operation: Operation) -> Json:
    names = re.findall(r"\{(\w+)\}", operation.path)
    parameters = [{"name": n, "in": "path", "required": True, "schema": _TEXT} for n in names]
    parameters += [{"name": name, "in": "query", "schema": QUERY[name]} for name in operation.query]
    kind = "application/x-ndjson" if operation.is_stream else "application/json"
    method, words = operation.method.lower(), re.sub(r"[^a-z]+", "_", operation.path)
    described: Json = {
        "summary": operation.words,
        "operationId": f"{method}{words}".rstrip("_"),
        "parameters": parameters,
        "responses": {
            "200": {"description": operation.words, "content": _content(operation.answer, kind)},
            "default": {"description": "Why it was not done.", "content": _content("Error")},
        },
    }
    if operation.body:
        described["requestBody"] = {"required": True, "content": _content(operation.body)}
    return described


def _content(schema: str, kind: str = "application/json") -> Json:
    return {kind: {"schema": {"$ref": _REFERENCE.format(name=schema)}}}


def _schemas(operations: Iterable[Operation]) -> Json:
    """Return the schema of every type that these operations name, and of the parts of each."""
    named = {name for one in operations for name in (one.answer, one.body) if name} | {"Error"}
    types = [TYPES[name] for name in sorted(named - _DOCUMENT.keys())]
    _, schemas = msgspec.json.schema_components(types, ref_template=_REFERENCE)
    return {**schemas, **_DOCUMENT}


QUERY = {
    "document": {"type": "string", "description": "The path of a document of the vault."},
    "version": {"type": "integer", "minimum": 0, "default": 0, "description": "0: the newest."},
    "offset": {"type": "integer", "minimum": 0, "default": 0, "description": "Of the bytes that are wanted."},
    "since": {
        "type": "integer",
        "description": "Events after this id; -n means the newest n.",
    },
    "limit": {"type": "integer", "minimum": 1, "maximum": 1_000, "default": 100},
    "follow": {
        "type": "integer",
        "enum": [0, 1],
        "default": 0,
        "description": "1: go on with what happens, as it does.",
    },
    "lines": {"type": "integer", "minimum": 0, "maximum": 10_000, "default": 100},
    "after": {"type": "integer", "description": "Lines printed since this second of UTC; -1 means all."},
    "subject": {
        "type": "string",
        "description": "A subsystem, a probe or a turn (none: the last decision); of a trace, a session or subsystem.",
    },
    "session": {"type": "string", "description": "A session, by its name in the ledger; without it, all."},
    "page": {"type": "integer", "description": "The `after` of the page before; 0 is the first page."},
}
