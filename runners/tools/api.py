"""Tools of the category `api`: GraphQL, WebSocket, checks of an interface, and its description."""

from __future__ import annotations

import time
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from runners.tools import beneath, openapi, output, way_out, web_content, websocket
from runners.tools.plain import plain
from runners.tools.request_fields import RequestArgs, checked_fields, request_of
from runners.tools.signature import Args, PathArg, Result, ToolError, meta
from runners.tools.visible import visible, visible_value
from runners.tools.way_out import Clock
from runners.tools.web_address import SOCKETS, read_address
from runners.tools.web_exchange import LIMITS, WebRequest, ask, fetch

_TIMEOUT: Final = 35
_MESSAGE_CHARACTERS: Final = 4_000
_JSON: Final = {"accept": "application/json", "content-type": "application/json"}


class GraphqlArgs(Args, frozen=True, kw_only=True):
    """Holds a query, and its variables."""

    url: str
    query: Annotated[str, Meta(max_length=100_000)]
    variables: dict[str, Any] | None = None
    headers: dict[str, str] | None = None


class GraphqlResult(Result, frozen=True):
    """Holds the answer's data and errors."""

    data: Any
    errors: Any


GRAPHQL_QUERY: Final = meta(
    "graphql_query",
    GraphqlArgs,
    GraphqlResult,
    risk="N2",
    timeout=_TIMEOUT,
    description="Send a GraphQL query to an allowed host.",
    examples=({"url": "https://www.example/graphql", "query": "{ name }"},),
)


@GRAPHQL_QUERY.tool
async def graphql_query(args: GraphqlArgs) -> GraphqlResult:
    """Post it, and read the answer as GraphQL over HTTP has it, whatever its status."""
    body = msgspec.json.encode({"query": args.query, "variables": args.variables or {}})
    fields = {**checked_fields(args.headers or {}), **_JSON}
    answer = ask(WebRequest(read_address(args.url), "POST", fields, body), Clock(LIMITS.seconds))
    try:
        told = plain(msgspec.json.decode(answer.body))
    except (msgspec.DecodeError, RecursionError):
        told = None
    if not isinstance(told, dict) or not {"data", "errors"} & told.keys():
        raise ToolError(
            f"the answer ({answer.status}) is none of GraphQL", "look at the address with http_fetch"
        )
    told = output.whole(visible_value(told), "ask for fewer fields")
    return GraphqlResult(data=told.get("data"), errors=told.get("errors"))


class SocketArgs(Args, frozen=True, kw_only=True):
    """Holds the texts to send, and how long answers are waited for."""

    url: str
    messages: Annotated[list[str], Meta(max_length=100)]
    wait_seconds: Annotated[float, Meta(ge=0, le=20)] = 5
    headers: dict[str, str] | None = None


class SocketResult(Result, frozen=True):
    """Holds the messages that came."""

    received: list[str]
    truncated: bool


WEBSOCKET_SEND: Final = meta(
    "websocket_send",
    SocketArgs,
    SocketResult,
    risk="N2",
    timeout=60,
    description="Send texts by WebSocket to an allowed host; return what comes within some seconds.",
    examples=({"url": "wss://www.example/socket", "messages": ["hello"], "wait_seconds": 1},),
)


@WEBSOCKET_SEND.tool
async def websocket_send(args: SocketArgs) -> SocketResult:
    """Begin, send, receive, end."""
    if args.url.startswith("ws://"):
        raise ToolError("a WebSocket without TLS does not pass the way out", "wss://")
    address, fields = read_address(args.url, SOCKETS), checked_fields(args.headers or {})
    with way_out.connected(address, Clock(LIMITS.seconds)) as wire:
        session = websocket.Session(wire)
        try:
            session.begin(address, fields)
        except EOFError:
            raise ToolError(f"{address.host_field} has hung up", "look at the path") from None
        for message in args.messages:
            session.send_text(message)
        session.wire = way_out.Wire(wire.socket, Clock(max(0.01, args.wait_seconds)))
        shown = (web_content.as_data(_cut(each), args.url) for each in session.received())
        received, cut = output.cut_items(shown, websocket.MOST_MESSAGES)
    return SocketResult(received=received, truncated=cut)


def _cut(text: str) -> str:
    """Return a message as it is shown; a long one without its end."""
    return visible(text[:_MESSAGE_CHARACTERS]) + ("…" if len(text) > _MESSAGE_CHARACTERS else "")


class Expected(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Holds what an answer is to be."""

    status: int = 200
    contains: str = ""


class ApiTestRequest(RequestArgs, frozen=True, kw_only=True):
    """Holds a request, and what its answer is to be."""

    expect: Expected = Expected()


class ApiTestArgs(Args, frozen=True, kw_only=True):
    """Holds requests, sent one after the other within 30 s."""

    requests: Annotated[list[ApiTestRequest], Meta(min_length=1, max_length=20)]


class Tested(msgspec.Struct, frozen=True):
    """Tells of one request; `why` is empty where it is as expected."""

    url: str
    status: int
    ok: bool
    why: str
    milliseconds: float


class ApiTestResult(Result, frozen=True):
    """Holds the results in the order of the requests."""

    results: list[Tested]
    passed: bool


API_TEST: Final = meta(
    "api_test",
    ApiTestArgs,
    ApiTestResult,
    risk="N2",
    timeout=_TIMEOUT,
    description="Send requests to allowed hosts; compare status and text with what is expected.",
    examples=(
        {"requests": [{"method": "GET", "url": "https://www.example/page", "expect": {"contains": "Hello"}}]},
    ),
)


@API_TEST.tool
async def api_test(args: ApiTestArgs) -> ApiTestResult:
    """Send them in their order; one that fails ends none of the others."""
    requests, clock = [request_of(each) for each in args.requests], Clock(LIMITS.seconds)
    results = [
        _tested(request, each.expect, clock) for request, each in zip(requests, args.requests, strict=True)
    ]
    return ApiTestResult(results=results, passed=all(each.ok for each in results))


def _tested(request: WebRequest, expect: Expected, clock: Clock) -> Tested:
    began, status, why = time.monotonic(), 0, ""
    try:
        answer = ask(request, clock)
        status = answer.status
        if status != expect.status:
            why = f"the status is {status}, and {expect.status} was expected"
        elif expect.contains and expect.contains.encode() not in answer.body:
            why = "the text that was expected is not in the answer"
    except ToolError as error:
        why = error.message
    milliseconds = round(1000 * (time.monotonic() - began), 1)
    return Tested(str(request.address)[:500], status, not why, why, milliseconds)


class OpenapiArgs(Args, frozen=True, kw_only=True):
    """Holds a document, or names its file or its address."""

    document: str | None = None
    path: PathArg | None = None
    url: str | None = None
    start: Annotated[int, Meta(ge=0)] = 0


class OpenapiResult(Result, frozen=True):
    """Holds operations; `next` is where the rest begins."""

    title: str
    total: int
    operations: list[openapi.Operation]
    next: int | None


OPENAPI_PARSE: Final = meta(
    "openapi_parse",
    OpenapiArgs,
    OpenapiResult,
    risk="N1",
    timeout=_TIMEOUT,
    description="List the operations of an OpenAPI document: of a text, a file or an allowed host.",
    examples=(
        {"document": '{"openapi": "3.1.0", "paths": {"/a": {"get": {"summary": "A"}}}}'},
        {"url": "https://www.example/openapi.json"},
    ),
)


@OPENAPI_PARSE.tool
async def openapi_parse(args: OpenapiArgs) -> OpenapiResult:
    """Parse it within bounds; references are followed within the document alone."""
    document = openapi.read_document(_document(args))
    found = list(openapi.operations(document))
    kept, _ = output.cut_items(found[args.start :], 500)
    end = args.start + len(kept)
    info = document.get("info")
    title = str(info.get("title", ""))[:200] if isinstance(info, dict) else ""
    return OpenapiResult(
        title=visible(title),
        total=len(found),
        operations=kept,
        next=end if kept and end < len(found) else None,
    )


def _document(args: OpenapiArgs) -> bytes:
    match args.document, args.path, args.url:
        case str(text), None, None:
            return text.encode(errors="replace")
        case None, str(path), None:
            return beneath.read_whole(path, openapi.MOST_BYTES)
        case None, None, str(url):
            answer = fetch(read_address(url), {"accept": "application/json, application/yaml"})
            if answer.status != 200:
                raise ToolError(f"{answer.address.host_field} answers {answer.status}", "look at the address")
            return answer.body
        case _:
            raise ToolError("not one document", "give one of document, path and url")


TOOLS: Final = [GRAPHQL_QUERY, WEBSOCKET_SEND, API_TEST, OPENAPI_PARSE]
