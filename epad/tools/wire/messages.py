"""Read and write JSON-RPC 2.0 messages as MCP has them: one message a request, never a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from epad import EpadError

MODERN = "2026-07-28"
LATEST_LEGACY = "2025-11-25"
LEGACY = frozenset({LATEST_LEGACY, "2025-06-18", "2025-03-26", "2024-11-05"})

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
REFUSED = -32000
"""A request that the gateway refuses before it is read as a message: no key, another's key, too many bytes."""
RESOURCE_NOT_FOUND = -32002
"""The code for an unknown resource until 2025-11-25; from 2026-07-28 on that is INVALID_PARAMS."""
HEADER_MISMATCH = -32020
MISSING_CAPABILITY = -32021
UNSUPPORTED_VERSION = -32022

META = "_meta"
PREFIX = "io.modelcontextprotocol/"
VERSION_META = PREFIX + "protocolVersion"
CAPABILITIES_META = PREFIX + "clientCapabilities"
SERVER_META = PREFIX + "serverInfo"
TURN_META = "epad/turn"
KEY_META = "epad/idempotencyKey"
PARENT_META = "epad/parentTurn"

Id = int | str
Params = dict[str, Any]


class Message(Struct, frozen=True):
    """Holds one message of a client: a request has an id and a method, a notification no id, an answer no method."""

    jsonrpc: str
    id: Id | UnsetType = UNSET
    method: str | UnsetType = UNSET
    params: Params | UnsetType = UNSET
    result: Any = UNSET

    @property
    def meta(self) -> Mapping[str, Any]:
        """Return `params._meta`; empty if it is no object, or there is none."""
        meta = self.params.get(META) if isinstance(self.params, dict) else None
        return meta if isinstance(meta, dict) else {}


class ProtocolError(EpadError):
    """A request that is answered with a JSON-RPC error. `id` is None where the request's could not be read."""

    def __init__(self, code: int, message: str, data: object = None, *, id: Id | None = None) -> None:  # noqa: A002
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data
        self.id = id


_decoder = msgspec.json.Decoder(Message)
_encoder = msgspec.json.Encoder()
encode = _encoder.encode


def read(body: bytes) -> Message:
    """Read one message. Raises ProtocolError, with the id if that can be told."""
    try:
        message = _decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _not_a_message(body, str(error)) from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ProtocolError(PARSE_ERROR, f"the body is not JSON: {error}") from error
    if message.jsonrpc != "2.0":
        raise ProtocolError(INVALID_REQUEST, 'a message has `"jsonrpc": "2.0"`', id=_id_of(message.id))
    return message


def result(message_id: Id, value: object) -> bytes:
    """Return the answer to a request."""
    return encode({"jsonrpc": "2.0", "id": message_id, "result": value})


def failure(error: ProtocolError) -> bytes:
    """Return a JSON-RPC error; its id is null where the request's could not be read."""
    told: dict[str, object] = {"code": error.code, "message": error.message}
    if error.data is not None:
        told["data"] = error.data
    return encode({"jsonrpc": "2.0", "id": error.id, "error": told})


def notification(method: str, params: Mapping[str, object]) -> bytes:
    """Return a message of ours that nobody answers."""
    return encode({"jsonrpc": "2.0", "method": method, "params": params})


def _not_a_message(body: bytes, reason: str) -> ProtocolError:
    """Say why a body is JSON, but no message; a body that breaks off later is not JSON at all."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        return ProtocolError(PARSE_ERROR, f"the body is not JSON: {error}")
    if isinstance(value, list):
        return ProtocolError(INVALID_REQUEST, "batches are not taken: post each message by itself")
    if not isinstance(value, dict):
        return ProtocolError(INVALID_REQUEST, "a message is a JSON object")
    return ProtocolError(INVALID_REQUEST, f"not a JSON-RPC message: {reason}", id=_id_of(value.get("id")))


def _id_of(value: object) -> Id | None:
    return value if isinstance(value, int | str) and not isinstance(value, bool) else None
