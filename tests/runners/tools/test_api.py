"""The category `api` by the way out: what is sent, what is read, and what is refused."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tool_process import World
from web_world import Asked, WebWorld, accepted, answer, client_frame, text_frame


def test_a_graphql_query_is_posted(world: World, web: WebWorld) -> None:
    """With its variables; errors are an answer, whatever the status."""
    url = "https://www.example/graphql"
    result = world.worker("graphql_query", url=url, query="query($a: Int) { f(a: $a) }", variables={"a": 1})
    assert result == {"data": {"name": "x"}, "errors": None}
    assert json.loads(web.asked[0].body) == {"query": "query($a: Int) { f(a: $a) }", "variables": {"a": 1}}
    said = '{"errors": [{"message": "no\\u202e"}]}'
    web.routes["www.example", "/graphql"] = answer(
        said, "application/graphql-response+json", "400 Bad Request"
    )
    errors = world.worker("graphql_query", url=url, query="{")["errors"]
    assert errors == [{"message": "no<U+202E>"}]
    web.routes["www.example", "/graphql"] = answer("<html>", "text/html")
    assert "is none of GraphQL" in world.worker.refusal("graphql_query", url=url, query="{a}")
    web.routes["www.example", "/graphql"] = answer('{"data": ' + "[" * 5_000 + "]" * 5_000 + "}")
    assert "is none of GraphQL" in world.worker.refusal("graphql_query", url=url, query="{a}")


def texts(received: list[str]) -> list[str]:
    return [each.split("\n")[1] for each in received]


def test_texts_go_out_by_websocket_and_come_back(world: World) -> None:
    """Until the server ends."""
    url = "wss://www.example/socket"
    result = world.worker("websocket_send", url=url, messages=["ä", "hello"], wait_seconds=20)
    assert texts(result["received"]) == ["ä", "hello"]


async def talkative(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Ping, a text in two frames, bytes, and then silence; the pong is sent back as a text."""
    writer.write(accepted(asked) + b"\x89\x01p" + b"\x01\x02he" + b"\x80\x03llo" + b"\x82\x02\x00\x01")
    opcode, data = await client_frame(reader)
    writer.write(text_frame(f"{opcode} {data.decode()}"))
    await reader.read()


async def flood(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(accepted(asked))
    while True:
        writer.write(b"\x81\x7e\xff\xff" + b"x" * 65_535)
        await writer.drain()


async def told_large(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(accepted(asked) + b"\x81\x7f\x7f" + b"\xff" * 7)
    await reader.read()


async def masked(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(accepted(asked) + b"\x81\x81abcdx")
    await reader.read()


async def unproven(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(accepted(asked).replace(b"Accept: ", b"Accept: x"))
    await reader.read()


def test_a_server_that_goes_on_is_left_when_the_time_is_over(world: World, web: WebWorld) -> None:
    """Pings are answered meanwhile, and messages in parts are joined."""
    web.sockets["www.example", "/socket"] = talkative
    result = world.worker("websocket_send", url="wss://www.example/socket", messages=[], wait_seconds=1)
    assert texts(result["received"]) == ["hello", "[2 bytes that are no text]", "10 p"]


@pytest.mark.parametrize(
    ("socket", "why"),
    [
        (flood, "over 1048576 bytes came"),
        (told_large, "over 1048576 bytes came"),
        (masked, "a frame that no server sends"),
        (unproven, "begins no WebSocket"),
        (None, "begins no WebSocket there: it answers 404"),
    ],
)
def test_a_hostile_server_is_left(world: World, web: WebWorld, socket: Any, why: str) -> None:
    """With the reason."""
    del web.sockets["www.example", "/socket"]
    if socket is not None:
        web.sockets["www.example", "/socket"] = socket
    said = world.worker.refusal(
        "websocket_send", url="wss://www.example/socket", messages=["x"], wait_seconds=20
    )
    assert why in said


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ws://www.example/socket", "does not pass the way out"),
        ("https://www.example/socket", "it begins with wss://"),
        ("wss://private.example/", "leads to a private address"),
        ("wss://unlisted.example/", "is not among the hosts"),
    ],
)
def test_a_socket_is_judged_like_any_address(world: World, web: WebWorld, url: str, why: str) -> None:
    """The twin above is served."""
    assert why in world.worker.refusal("websocket_send", url=url, messages=["x"])
    assert web.asked == []


def test_an_interface_is_compared_with_what_is_expected(world: World, web: WebWorld) -> None:
    """One by one; a host that may not be asked fails its own row alone."""
    base = "https://www.example"
    requests = [
        {"method": "GET", "url": f"{base}/page", "expect": {"contains": "Hello"}},
        {"method": "GET", "url": f"{base}/page", "expect": {"contains": "Bye"}},
        {"method": "GET", "url": f"{base}/nothing", "expect": {"status": 404}},
        {"method": "GET", "url": f"{base}/nothing"},
        {"method": "GET", "url": "https://unlisted.example/"},
        {"method": "POST", "url": f"{base}/echo", "body": "x", "expect": {"contains": "x"}},
    ]
    result = world.worker("api_test", requests=requests)
    assert [(each["ok"], each["status"]) for each in result["results"]] == [
        (True, 200), (False, 200), (True, 404), (False, 404), (False, 0), (True, 200),
    ]  # fmt: skip
    assert not result["passed"]
    assert "is not among the hosts" in result["results"][4]["why"]
    assert world.worker("api_test", requests=requests[:1])["passed"]


DOCUMENT = {
    "openapi": "3.1.0",
    "info": {"title": "Pets\u202e"},
    "components": {"parameters": {"limit": {"in": "query", "name": "limit"}}},
    "paths": {
        "/pets/{id}": {
            "parameters": [{"in": "path", "name": "id"}],
            "get": {
                "operationId": "pet",
                "summary": "One",
                "parameters": [{"$ref": "#/components/parameters/limit"}],
            },
            "post": {"requestBody": {}, "parameters": [{"$ref": "https://evil.example/x.json#/a"}]},
        }
    },
}


def test_operations_are_listed_and_no_reference_leads_out(world: World, web: WebWorld) -> None:
    """From a text, a file and an allowed host alike."""
    text = json.dumps(DOCUMENT)
    (world.root / "api.json").write_text(text)
    web.routes["www.example", "/openapi.json"] = answer(text, "application/json")
    results = [
        world.worker("openapi_parse", document=text),
        world.worker("openapi_parse", path="api.json"),
        world.worker("openapi_parse", url="https://www.example/openapi.json"),
    ]
    assert results[0] == results[1] == results[2]
    assert (results[0]["title"], results[0]["total"], results[0]["next"]) == ("Pets<U+202E>", 2, None)
    assert [(each["method"], each["id"], each["parameters"]) for each in results[0]["operations"]] == [
        ("GET", "pet", ["path:id", "query:limit"]),
        ("POST", "", ["path:id", "reference:https://evil.example/x.json#/a", "body"]),
    ]
    assert len(web.asked) == 1


def test_a_long_description_is_read_in_parts(world: World) -> None:
    """Each says where the next one begins."""
    paths = {f"/{number}": {"get": {"summary": "x" * 200}} for number in range(900)}
    document, found, start = json.dumps({"swagger": "2.0", "paths": paths}), [], 0
    while start is not None:
        result = world.worker("openapi_parse", document=document, start=start)
        found += [each["path"] for each in result["operations"]]
        start = result["next"]
    assert found == list(paths)


def aliases() -> str:
    """Return a document of YAML whose aliases stand for a billion nodes."""
    lines = ["openapi: 3.1.0", "paths: {}", "a0: &a0 [x, x]"]
    return "\n".join([*lines, *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10))])


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({}, "give one of document, path and url"),
        ({"document": "{}", "path": "data.json"}, "give one of document, path and url"),
        ({"document": "a: [1"}, "neither JSON nor YAML"),
        ({"document": "[1]"}, "is none of OpenAPI"),
        ({"document": '{"paths": {}}'}, "names no version"),
        ({"document": aliases()}, "has over 100000 nodes"),
        ({"document": "openapi: !!python/object/apply:os.system [id]"}, "neither JSON nor YAML"),
        ({"path": "../secret.txt"}, "outside|leads out|secret.txt"),
        ({"url": "https://unlisted.example/"}, "is not among the hosts"),
        ({"url": "https://www.example/nothing"}, "answers 404"),
    ],
)
def test_a_document_that_is_none_is_refused(world: World, arguments: dict[str, str], why: str) -> None:
    """By the tool, with the reason."""
    said = world.worker.refusal("openapi_parse", **arguments)
    assert any(each in said for each in why.split("|")), said
