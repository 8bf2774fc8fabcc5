"""MCP from 2026-07-28 on: each request stands by itself, with its version in `_meta` and its route in the headers.

The order of the checks is that of the official SDK, so that a client gets the same error from both.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping

from epad.gateway.http.message import Fields
from epad.tools.wire.asked import Result
from epad.tools.wire.messages import (
    CAPABILITIES_META,
    HEADER_MISMATCH,
    INVALID_PARAMS,
    INVALID_REQUEST,
    META,
    METHOD_NOT_FOUND,
    MISSING_CAPABILITY,
    MODERN,
    PARSE_ERROR,
    SERVER_META,
    UNSUPPORTED_VERSION,
    VERSION_META,
    Message,
    ProtocolError,
    encode,
)
from epad.tools.wire.methods import CAPABILITIES, INSTRUCTIONS, SERVER

VERSION_HEADER = "Mcp-Protocol-Version"
METHOD_HEADER = "Mcp-Method"
NAME_HEADER = "Mcp-Name"
ARGUMENT_HEADER = "Mcp-Param-"
DISCOVER = "server/discover"
# Which parameter of a method its name header repeats.
_NAMED = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
_ROUTING = frozenset(
    {VERSION_HEADER.lower().encode(), METHOD_HEADER.lower().encode(), NAME_HEADER.lower().encode()}
)
_BASE64 = re.compile(r"=\?base64\?(.*)\?=")
_CACHED = frozenset(
    {"tools/list", "resources/list", "resources/templates/list", "resources/read", "prompts/list", DISCOVER}
)
# A list changes with the configuration alone, which a person reloads; what a resource holds never changes.
_LIST_MILLISECONDS = 60_000
_STATUSES = {
    PARSE_ERROR: 400,
    INVALID_REQUEST: 400,
    INVALID_PARAMS: 400,
    HEADER_MISMATCH: 400,
    UNSUPPORTED_VERSION: 400,
    MISSING_CAPABILITY: 400,
    METHOD_NOT_FOUND: 404,
}


def status_of(code: int) -> int:
    """Return the HTTP status that goes with a JSON-RPC error."""
    return _STATUSES.get(code, 200)


def check(message: Message, fields: Fields | None) -> None:
    """Check a request's envelope and its headers. Raises ProtocolError, without an id.

    `fields` is None for a request that the relay of `epad mcp` passes on: stdio has no headers.
    """
    if fields is not None:
        _check_single(fields)
    meta = message.meta
    missing = [name for name in (VERSION_META, CAPABILITIES_META) if name not in meta]
    if missing:
        raise ProtocolError(INVALID_PARAMS, f"params._meta: {' and '.join(missing)} must be there")
    version = meta[VERSION_META]
    if fields is not None:
        _check_headers(message, version, fields)
    if not isinstance(version, str):
        raise ProtocolError(INVALID_PARAMS, f"params._meta.{VERSION_META}: a string")
    check_version(version)


def check_version(version: str) -> None:
    """Check that a version is spoken here. Raises ProtocolError."""
    if version != MODERN:
        data = {"supported": [MODERN], "requested": version}
        raise ProtocolError(UNSUPPORTED_VERSION, "Unsupported protocol version", data)


def complete(method: str, result: Result) -> Result:
    """Return a result with the fields that every result of this era has."""
    meta = result.get(META)
    whole: Result = {"resultType": "complete", **result}
    whole[META] = {**(meta if isinstance(meta, Mapping) else {}), SERVER_META: SERVER}
    if method in _CACHED:
        whole["ttlMs"], whole["cacheScope"] = _LIST_MILLISECONDS, "private"
    return whole


def discover() -> Result:
    """Return what this server speaks and can do."""
    return {"supportedVersions": [MODERN], "capabilities": CAPABILITIES, "instructions": INSTRUCTIONS}


def _check_single(fields: Fields) -> None:
    """Refuse a routing header that is there twice: two readers could take different ones."""
    seen: set[bytes] = set()
    for name, _ in fields.raw:
        lower = name.lower()
        if lower in _ROUTING and lower in seen:
            raise ProtocolError(HEADER_MISMATCH, f"{lower.decode()}: there twice")
        seen.add(lower)


def _check_headers(message: Message, version: object, fields: Fields) -> None:
    """Compare the headers with the body: a proxy may have decided by them. Raises ProtocolError."""
    header = fields.get(VERSION_HEADER)
    if header is None or header != version:
        raise ProtocolError(HEADER_MISMATCH, f"{VERSION_HEADER} differs from params._meta.{VERSION_META}")
    if fields.get(METHOD_HEADER) != message.method:
        raise ProtocolError(HEADER_MISMATCH, f"{METHOD_HEADER} differs from the body's method")
    _check_name(message, fields)


def check_repeated(message: Message, fields: Fields) -> None:
    """Compare what a request of the era of sessions repeats in headers, which none has to. Raises ProtocolError.

    A proxy may have decided by them, whatever the era that is spoken here.
    """
    _check_single(fields)
    if METHOD_HEADER in fields and fields.get(METHOD_HEADER) != message.method:
        raise ProtocolError(HEADER_MISMATCH, f"{METHOD_HEADER} differs from the body's method")
    if NAME_HEADER in fields:
        _check_name(message, fields)


def _check_name(message: Message, fields: Fields) -> None:
    parameter = _NAMED.get(str(message.method))
    if parameter is None or not isinstance(message.params, dict):
        return
    value = message.params.get(parameter)
    if value is not None and _decoded(fields.get(NAME_HEADER)) != value:
        raise ProtocolError(HEADER_MISMATCH, f"{NAME_HEADER} differs from the body's params.{parameter}")


def check_arguments(mirrored: Mapping[str, str], arguments: object, fields: Fields) -> None:
    """Compare the arguments that a tool has clients repeat with their headers. Raises ProtocolError."""
    given = arguments if isinstance(arguments, dict) else {}
    for name, suffix in mirrored.items():
        header, value = f"{ARGUMENT_HEADER}{suffix}", given.get(name)
        told = value if isinstance(value, str) or value is None else encode(value).decode()
        if _decoded(fields.get(header)) != told:
            raise ProtocolError(HEADER_MISMATCH, f"{header} differs from the body's params.arguments.{name}")


def _decoded(header: str | None) -> str | None:
    """Return a header's value, which is in base64 where it is not plain ASCII; None if it cannot be read."""
    match = _BASE64.fullmatch(header or "")
    if match is None:
        return header
    try:
        return base64.b64decode(match[1], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
