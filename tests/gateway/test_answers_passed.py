"""What of a stream goes on to the client, byte for byte, and how a stream is broken off in each dialect."""

from __future__ import annotations

import json
from typing import Any

import pytest
from asking import LIMITS

from epad.gateway.dialects.dialect import Catalogue, StreamMeter
from epad.gateway.dialects.routes import Routes
from epad.gateway.refusal import Refusal

ROUTES = Routes(LIMITS)
CHAT, RESPONSES, MESSAGES, O_CHAT = "/v1/chat/completions", "/v1/responses", "/v1/messages", "/api/chat"
REFUSAL = Refusal(429, "rate_limit_error", "over_budget", "no more", details={"limit": 5})
PLAIN = Refusal(503, "server_error", "gone", "it is gone")


def meter(path: str, **more: Any) -> StreamMeter:
    endpoint = ROUTES.endpoint("POST", path)
    assert endpoint is not None
    body = {"model": "m", "messages": [], "input": "x", "stream": True, **more}
    return endpoint.meter(endpoint.parse(json.dumps(body).encode()))


def sse(value: Any) -> bytes:
    return b"data: " + (value if isinstance(value, bytes) else json.dumps(value).encode()) + b"\n\n"


SAID = sse(b'{"id":"x","choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}')
END = sse(b'{"id":"x","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}')
USAGE = sse(b'{"id":"x","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}')
TIMED = sse(b'{"id":"y","choices":[],"usage":{"prompt_tokens":3},"timings":{"ms":1},"model":"n","none":null}')
DONE = sse(b"[DONE]")


@pytest.mark.parametrize(
    ("events", "passed"),
    [
        ([SAID, END, USAGE, DONE], SAID + END + DONE),
        # What stands beside the usage goes into the chunk that was held back for it.
        ([SAID, END, TIMED, DONE], SAID + END.replace(b"]}\n", b'],"timings":{"ms":1}}\n') + DONE),
        ([SAID, TIMED, DONE], SAID + DONE),  # nothing is held back
        ([SAID, END, DONE], SAID + END + DONE),
        ([SAID, END], SAID + END),
        ([SAID, END, END, USAGE, DONE], SAID + END + END + DONE),
        ([SAID, END, b": a comment\n\n", USAGE, DONE], SAID + b": a comment\n\n" + END + DONE),
        ([SAID, END, sse({"error": "no"})], SAID + END + sse({"error": "no"})),
        # A usage of null is not asked for either; the rest of the chunk is the server's.
        ([SAID.replace(b"}]}", b'}], "usage" : null}')], SAID),
        ([sse(b'{"choices":[{"index":0,"delta":{"content":"hi"}}],"usage":{"prompt_tokens":3}}')],
         sse(b'{"choices":[{"index":0,"delta":{"content":"hi"}}],"usage":{"prompt_tokens":3}}')),
    ],
)  # fmt: skip
@pytest.mark.parametrize("at_once", [True, False])
def test_the_usage_that_nobody_asked_for_is_taken_out(
    events: list[bytes], passed: bytes, at_once: bool
) -> None:
    stream = meter(CHAT)
    pieces = [b"".join(events)] if at_once else events
    assert b"".join(map(stream.feed, pieces)) + stream.finish() == passed


@pytest.mark.parametrize("events", [[SAID, END, USAGE, DONE], [SAID, END, TIMED, DONE], [SAID, TIMED]])
def test_who_asked_for_usage_gets_every_byte(events: list[bytes]) -> None:
    stream = meter(CHAT, stream_options={"include_usage": True})
    assert b"".join(map(stream.feed, events)) + stream.finish() == b"".join(events)


def test_what_is_held_back_comes_before_the_error() -> None:
    stream = meter(CHAT)
    assert stream.feed(SAID + END) == SAID
    error = {
        "message": "no more", "type": "rate_limit_error", "param": None, "code": "over_budget", "budget": {"limit": 5},
    }  # fmt: skip
    cut = stream.cut(REFUSAL)
    assert cut.startswith(END)
    assert cut.endswith(b"\n\n" + DONE)
    assert json.loads(cut.removeprefix(END).removesuffix(DONE)[6:]) == {"error": error}
    assert stream.finish() == b""


@pytest.mark.parametrize(("refusal", "budget"), [(REFUSAL, {"budget": {"limit": 5}}), (PLAIN, {})])
def test_messages_are_broken_off_by_one_event(refusal: Refusal, budget: dict[str, Any]) -> None:
    name, data = meter(MESSAGES).cut(refusal).split(b"\n", 1)
    kind = "rate_limit_error" if budget else "api_error"
    assert name == b"event: error"
    assert data.endswith(b"\n\n")
    assert json.loads(data.removeprefix(b"data: ")) == {
        "type": "error",
        "error": {"type": kind, "message": refusal.message, "code": refusal.code, **budget},
        "request_id": None,
    }


def test_responses_are_broken_off_by_an_error_and_by_their_end() -> None:
    stream = meter(RESPONSES)
    begun = {"id": "r", "created_at": 7, "model": "other"}
    stream.feed(sse({"type": "response.created", "response": begun}) + sse({"type": "response.in_progress"}))
    error, failed, rest = stream.cut(REFUSAL).split(b"\n\n")
    assert rest == b""
    assert error.startswith(b"event: error\ndata: ")
    assert failed.startswith(b"event: response.failed\ndata: ")
    said = {"code": "over_budget", "message": "no more", "param": None}
    assert json.loads(error.partition(b"data: ")[2]) == {
        "type": "error",
        "sequence_number": 2,
        **said,
        "error": {**said, "type": "rate_limit_error", "budget": {"limit": 5}},
    }
    assert json.loads(failed.partition(b"data: ")[2]) == {
        "type": "response.failed",
        "sequence_number": 3,
        "response": {
            "id": "r",
            "object": "response",
            "created_at": 7,
            "model": "other",
            "status": "failed",
            "error": {"code": "over_budget", "message": "no more"},
            "output": [],
        },
    }


def test_a_response_that_has_not_begun_is_broken_off_with_the_model_that_was_asked_for() -> None:
    failed = meter(RESPONSES).cut(PLAIN).split(b"\n\n")[1]
    told = json.loads(failed.partition(b"data: ")[2])
    assert (told["sequence_number"], told["response"]["model"], told["response"]["id"]) == (1, "m", "")


def test_lines_are_broken_off_by_a_line() -> None:
    cut = meter(O_CHAT).cut(REFUSAL)
    assert cut.endswith(b"\n")
    assert json.loads(cut) == {"error": "no more", "code": "over_budget"}


METERED = (
    "POST /v1/chat/completions, POST /v1/completions, POST /v1/embeddings, POST /v1/responses, POST /v1/messages, "
    "POST /v1/messages/count_tokens, POST /api/chat, POST /api/generate, POST /api/embed"
)


def test_a_route_that_is_not_metered_is_told_which_are() -> None:
    refusal = ROUTES.refusal("GET", "/v1/nothing")
    assert refusal.status == 403
    assert refusal.code == "route_not_metered"
    told = f"GET /v1/nothing is not metered, so it is not forwarded; metered: {METERED}"
    assert refusal.message.startswith(told)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(
            ("POST", f"/api/{name}")
            for name in ("pull", "push", "create", "copy", "delete", "blobs/sha256:x")
        ),
        *(("POST", f"/v1/{name}_lora_adapter") for name in ("load", "unload")),
        *(("POST", path) for path in ("/sleep", "/wake_up", "/reset_prefix_cache")),
        ("DELETE", "/v1/models/m"),
        ("GET", "/api/pull"),
    ],
)
def test_a_route_that_manages_models_is_denied(method: str, path: str) -> None:
    assert ROUTES.refusal(method, path).code == "route_denied"


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v1/models/m"), ("DELETE", "/v1/x"), ("POST", "/api/blobs")]
)
def test_other_routes_are_only_not_metered(method: str, path: str) -> None:
    assert ROUTES.refusal(method, path).code == "route_not_metered"


def test_one_of_two_choices_that_has_ended_is_no_end() -> None:
    """The count that comes then may be followed by the other's text."""
    for choices, final in ((1, True), (2, False)):
        stream = meter(CHAT, n=choices)
        stream.feed(SAID + END + USAGE)
        assert stream.seen().final is final


def test_much_text_is_heard_at_once_and_little_together_with_what_follows() -> None:
    """Whoever listens for loops hears it 16 chunks or 64 KiB later at most."""
    long = sse({"choices": [{"index": 0, "delta": {"content": "x" * 65_536}}]})
    stream = meter(CHAT)
    stream.feed(SAID)
    assert stream.reply.take() == []
    stream.feed(long)
    assert stream.reply.take() == ["hi", "x" * 65_536]
    for _ in range(15):
        stream.feed(SAID)
    assert stream.reply.take() == []
    stream.feed(SAID)
    assert stream.reply.take() == ["hi"] * 16


@pytest.mark.parametrize(
    ("path", "listed"),
    [
        (CHAT, Catalogue("/v1/models", "data", "id", {"object": "list"})),
        (
            MESSAGES,
            Catalogue("/v1/models", "data", "id", {"has_more": False, "first_id": None, "last_id": None}),
        ),
        (O_CHAT, Catalogue("/api/tags", "models", "name", {})),
    ],
)
def test_each_dialect_lists_its_models_in_its_own_shape(path: str, listed: Catalogue) -> None:
    endpoint = ROUTES.endpoint("POST", path)
    assert endpoint is not None
    assert endpoint.dialect.catalogue == listed
