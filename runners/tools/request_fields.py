"""Define the arguments of a request that a caller writes itself, and check what is put on the wire."""

from __future__ import annotations

import re
from typing import Annotated, Final

from msgspec import Meta

from runners.tools import output
from runners.tools.signature import END, Args, ToolError
from runners.tools.visible import visible
from runners.tools.web_address import read_address
from runners.tools.web_exchange import WebAnswer, WebRequest

MOST_BODY_BYTES: Final = 1 << 20
_MOST_FIELDS: Final = 50
_MOST_FIELD_BYTES: Final = 16 << 10
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_VALUE = re.compile(r"[\x20-\x7e\x80-\xff\t]*")
_OURS: Final = frozenset(
    {
        *("host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "expect"),
        *("keep-alive", "accept-encoding", "proxy-authorization", "proxy-connection"),
    }
)
"""Fields of the connection, which are written here."""


class RequestArgs(Args, frozen=True, kw_only=True):
    """Holds a request."""

    method: Annotated[str, Meta(pattern="^[A-Z]{3,10}" + END)]
    url: str
    headers: dict[str, str] | None = None
    body: str | None = None


def request_of(args: RequestArgs) -> WebRequest:
    """Return the request of these arguments. Raises ToolError."""
    if args.method in {"CONNECT", "TRACE", "RESOLVE"}:
        raise ToolError(
            f"the method {args.method} is not offered", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
        )
    body = None if args.body is None else args.body.encode(errors="replace")
    if body is not None and len(body) > MOST_BODY_BYTES:
        raise ToolError(f"the body has over {MOST_BODY_BYTES} bytes", "send it in parts")
    return WebRequest(read_address(args.url), args.method, checked_fields(args.headers or {}), body)


def checked_fields(fields: dict[str, str]) -> dict[str, str]:
    """Return fields that can be sent, by names in lower case. Raises ToolError for one that cannot."""
    size = sum(len(name) + len(value) for name, value in fields.items())
    if len(fields) > _MOST_FIELDS or size > _MOST_FIELD_BYTES:
        raise ToolError(f"over {_MOST_FIELDS} headers, or {_MOST_FIELD_BYTES} bytes of them", "send fewer")
    checked: dict[str, str] = {}
    for name, value in fields.items():
        shown = visible(name)[:60]
        if _NAME.fullmatch(name) is None or _VALUE.fullmatch(value) is None:
            raise ToolError(f"the header {shown!r} has a character that no header has", "take out line feeds")
        if name.lower() in _OURS:
            raise ToolError(f"the header {shown!r} is the connection's own", "leave it out")
        if name.lower() in checked:
            raise ToolError(f"the header {shown!r} stands there twice", "join its values")
        checked[name.lower()] = value
    return checked


def shown_fields(answer: WebAnswer) -> dict[str, str]:
    """Return the fields of an answer for a result; of many, the first that fit."""
    joined: dict[str, str] = {}
    for name, value in answer.fields:
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    shown = ((visible(name)[:100], visible(value)[:1_000]) for name, value in joined.items())
    kept, _ = output.cut_items(shown, 100, output.room() // 4)
    return dict(kept)
