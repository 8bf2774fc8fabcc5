"""Plain JSON for programs without MCP: `GET /tools`, `POST /tools/call`, `GET /health`."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
from msgspec import Struct

from epad import __version__
from epad.gateway import headers
from epad.gateway.errors import RequestError
from epad.gateway.http.message import Response, json_response
from epad.gateway.http.request import Request
from epad.gateway.refusal import Refusal, RefusalError, invalid_request
from epad.gateway.turn import TURN_HEADER
from epad.tools.lacking import lacking
from epad.tools.protocol import Definition, ToolAnswer, Tools
from epad.tools.wire.messages import LATEST_LEGACY, MODERN, encode
from epad.tools.wire.methods import PARENT_CHARACTERS, UNKNOWN_TOOL, is_mark

TOOLS, CALL, HEALTH = "/tools", "/tools/call", "/health"


class _Call(Struct, forbid_unknown_fields=True):
    name: str
    arguments: dict[str, Any] = {}
    parent: str = ""


_decoder = msgspec.json.Decoder(_Call)


class Plain:
    """Answers the plain routes."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._lacking = tuple(lacking())

    async def tools(self, subsystem: str) -> Response:
        """List a caller's tools with all that is known of them, however many they are."""
        definitions = self._tools.definitions(self._tools.caller(subsystem))
        return json_response(200, encode({"tools": list(map(_described, definitions))}))

    async def call(self, request: Request, subsystem: str) -> Response:
        """Call a tool. Raises RefusalError for a body that asks for no call."""
        try:
            call = _decoder.decode(request.body or b"{}")
            key = headers.idempotency_key(request.fields)
        except (msgspec.DecodeError, UnicodeDecodeError, RequestError, RecursionError) as error:
            says = f'{CALL} takes {{"name": "...", "arguments": {{...}}}}: {error}'
            raise RefusalError(invalid_request(says)) from error
        if call.parent and not is_mark(call.parent, PARENT_CHARACTERS):
            says = f"parent: at most {PARENT_CHARACTERS} printable ASCII characters"
            raise RefusalError(invalid_request(says))
        caller = self._tools.caller(subsystem)
        answer = await self._tools.call(caller, call.name, call.arguments, key=key, parent=call.parent)
        unknown = answer.is_error and answer.reason_code == UNKNOWN_TOOL
        fields = [(TURN_HEADER, answer.turn.encode())] if answer.turn else []
        return json_response(404 if unknown else 200, encode(_told(answer)), fields)

    async def health(self, subsystem: str) -> Response:
        """Say that the door is open, and what is behind it for this caller."""
        definitions = self._tools.definitions(self._tools.caller(subsystem))
        categories = Counter(each.category for each in definitions)
        return json_response(
            200,
            encode(
                {
                    **_ALIVE,
                    "version": __version__,
                    "tools": len(definitions),
                    "categories": dict(sorted(categories.items())),
                    "lacking": [one for one in self._lacking if one.category in categories],
                    "mcp": [MODERN, LATEST_LEGACY],
                }
            ),
        )


_OF_MCP = frozenset({"blocks", "questions", "state"})
_ALIVE = {"status": "ok"}
GREETING = json_response(200, encode(_ALIVE))


def error_body(refusal: Refusal) -> bytes:
    """Return a refusal in the words of tools: an error, and what to do."""
    return encode({"error": refusal.message, "hint": "", "code": refusal.code})


def _told(answer: ToolAnswer) -> dict[str, object]:
    """Return an answer without the parts that only MCP has words for, where there are none."""
    told = msgspec.structs.asdict(answer)
    return {name: value for name, value in told.items() if value or name not in _OF_MCP}


def _described(definition: Definition) -> dict[str, object]:
    return msgspec.structs.asdict(definition)
