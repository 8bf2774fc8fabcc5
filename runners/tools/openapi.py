"""List the operations of an OpenAPI or Swagger document. A reference that leads out of the document is not followed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from runners.tools import optional
from runners.tools.plain import plain
from runners.tools.signature import ToolError
from runners.tools.visible import visible

MOST_BYTES: Final = 8 << 20
_MOST_YAML_BYTES: Final = 1 << 20
_YAML: Final = optional.load("yaml")
_METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
_MOST_PARAMETERS: Final = 50


class Operation(msgspec.Struct, frozen=True):
    """Describes one operation; each parameter is its place and name, as `query:limit`."""

    method: str
    path: str
    id: str
    summary: str
    parameters: list[str]


def read_document(data: bytes) -> Mapping[str, Any]:
    """Parse a document of JSON or YAML. Raises ToolError."""
    if len(data) > MOST_BYTES:
        raise ToolError(f"the document has over {MOST_BYTES} bytes", "give a part of it")
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError):
        value = _from_yaml(data)
    value = plain(value)
    if not isinstance(value, dict) or not isinstance(value.get("paths", {}), dict):
        raise ToolError(
            "the document is none of OpenAPI: it has no object `paths`", "give the document itself"
        )
    if not {"openapi", "swagger"} & value.keys():
        raise ToolError("the document is none of OpenAPI: it names no version", "give the document itself")
    return value


def _from_yaml(data: bytes) -> Any:
    if len(data) > _MOST_YAML_BYTES:
        raise ToolError(
            f"the document is no JSON, and over {_MOST_YAML_BYTES} bytes of YAML", "give it as JSON"
        )
    yaml = optional.need(_YAML, "pyyaml")
    try:
        return yaml.load(data, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError, TypeError, AttributeError) as error:
        raise ToolError(
            f"the document is neither JSON nor YAML: {str(error)[:200]}", "look at that place"
        ) from None


def operations(document: Mapping[str, Any]) -> Iterator[Operation]:
    """Yield the operations of a document, in their order."""
    for path, item in document.get("paths", {}).items():
        shared = _names(item, document) if isinstance(item, dict) else []
        for method in _METHODS:
            operation = item.get(method) if isinstance(item, dict) else None
            if isinstance(operation, dict):
                names = dict.fromkeys((*shared, *_names(operation, document)))
                yield Operation(
                    method.upper(),
                    _text(path, 500),
                    _text(operation.get("operationId"), 100),
                    _text(operation.get("summary") or operation.get("description"), 200),
                    list(names)[:_MOST_PARAMETERS],
                )


def _names(holder: Mapping[str, Any], document: Mapping[str, Any]) -> list[str]:
    given = holder.get("parameters")
    found = [_resolved(each, document) for each in given] if isinstance(given, list) else []
    names = [
        f"{_text(each.get('in'), 20)}:{_text(each.get('name'), 100)}" for each in found if "name" in each
    ]
    return [*names, *(["body"] if "requestBody" in holder else [])]


def _resolved(value: Any, document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an object, behind one reference within the document; an empty one for any other reference."""
    if not isinstance(value, dict):
        return {}
    reference = value.get("$ref")
    if not isinstance(reference, str):
        return value
    found: Any = document
    for name in reference.removeprefix("#/").split("/") if reference.startswith("#/") else ("",):
        found = found.get(name.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {"name": _text(reference, 100), "in": "reference"}


def _text(value: Any, most: int) -> str:
    return visible(value)[:most] if isinstance(value, str) else ""
