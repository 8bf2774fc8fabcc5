"""Answers that are packed, called something else, or none at all."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from gateway_world import gateway_config
from patience import PATIENCE_SECONDS
from raw_bytes import CHAT, JSON, NDJSON, SSE, RawServer, before, chunks, cost_of, end, event, message, piece

from epad.gateway.idempotency import ANSWER_SCHEMA, Answers
from epad.storage.database import Database

USAGE = {"prompt_tokens": 3, "completion_tokens": 900}
STREAM = chunks(*[piece(content="word " * 40)] * 30, end(), {"choices": [], "usage": USAGE})


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


PACKED: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    ("x-gzip", lambda data: gzip.compress(data[:500]) + gzip.compress(data[500:])),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
    ("deflate, gzip", lambda data: gzip.compress(zlib.compress(data))),
    ("GZIP, identity", gzip.compress),
]


@pytest.mark.parametrize(("coding", "pack"), PACKED)
@pytest.mark.parametrize("size", [1 << 20, 9])
@pytest.mark.parametrize("stream", [True, False])
async def test_what_is_packed_is_unpacked(
    tmp_path: Path, coding: str, pack: Callable[[bytes], bytes], size: int, stream: bool
) -> None:
    """And counted, and given on as it would have been; however it comes."""
    plain = STREAM if stream else message(USAGE, "word " * 1_200)
    packed = pack(plain)
    pieces = [packed[at : at + size] for at in range(0, len(packed), size)]
    raw = RawServer(pieces, SSE if stream else JSON, fields=[f"Content-Encoding: {coding}"])
    async with before(tmp_path, raw) as w:
        _, headers, body = await w.chat(stream=stream)
        [closed] = await w.closings(1)
        assert (closed.outcome.value, closed.output_tokens) == ("done", 900)
        assert "Content-Encoding" not in headers
        assert body.count(b"word") == 1_200
        assert stream or body == plain


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, br", "gzip, gzip, gzip, gzip"])
@pytest.mark.parametrize("stream", [True, False])
async def test_what_cannot_be_unpacked_is_refused_and_paid(tmp_path: Path, coding: str, stream: bool) -> None:
    """Before a byte of it has gone out."""
    raw = RawServer([b"\x0b\x02\x80packed"], SSE if stream else JSON, fields=[f"Content-Encoding: {coding}"])
    async with before(tmp_path, raw) as w:
        status, _, body = await w.chat(stream=stream)
        [closed] = await w.closings(1)
        assert (status, json.loads(body)["error"]["code"]) == (502, "upstream_compressed")
        assert closed.charged_tokens == w.ledger.opened[0].reserved_tokens
        assert closed.outcome.value == "failed"


@pytest.mark.parametrize(
    "spoil", [lambda b: b[:-20], lambda b: b[:60] + b"\0\0\0" + b[63:], lambda b: b + b"more"]
)
async def test_a_packed_stream_that_is_spoilt_is_broken_off(
    tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    """Told in plain text after whole events, and charged in full."""
    raw = RawServer([spoil(gzip.compress(STREAM))], fields=["Content-Encoding: gzip"])
    async with before(tmp_path, raw) as w:
        _, _, body = await w.chat(stream=True)
        [closed] = await w.closings(1)
        assert closed.outcome.value == "failed" or b"more" in spoil(b"")
        assert closed.charged_tokens >= 900
        assert b"upstream_error" in body


async def test_a_bomb_is_given_up(tmp_path: Path) -> None:
    """A hundred megabytes in a hundred kilobytes: no whole answer is as long."""
    raw = RawServer([gzip.compress(b" " * (100 << 20))], JSON, fields=["Content-Encoding: gzip"])
    async with before(tmp_path, raw) as w:
        status, _, body = await w.chat()
        assert (status, b"an answer of over" in body) == (502, True)


LINE_END = {"model": "m", "message": {"content": ""}, "done": True, "prompt_eval_count": 3, "eval_count": 40}
LINES = [{"model": "m", "message": {"content": "hi"}, "done": False}, LINE_END]
OPENAI = [chunks(piece(content="hi"), done=False), chunks(end(), {"choices": [], "usage": USAGE})]
OBJECT = {"object": "chat.completion.chunk"}


def lines(*objects: Any) -> list[bytes]:
    return [json.dumps(each).encode() + b"\n" for each in objects]


@pytest.mark.parametrize(
    ("path", "kind", "pieces", "output"),
    [
        (CHAT, "", OPENAI, 900),
        (CHAT, "text/plain; charset=utf-8", OPENAI, 900),
        (CHAT, JSON, OPENAI, 900),
        (CHAT, NDJSON, OPENAI, 900),
        (CHAT, "application/octet-stream", [b": hello\n\n" + OPENAI[0], OPENAI[1]], 900),
        (CHAT, JSON, [b"\n" + b"da", *OPENAI[0].split(b"da", 1)[1:], OPENAI[1]], 900),
        (CHAT, "application/jsonl", lines({**piece(content="hi"), **OBJECT}, {**end(), "usage": USAGE}), 900),
        ("/v1/messages", "text/plain", [event("message_start", message={"usage": {"input_tokens": 3}}),
         event("message_delta", usage={"output_tokens": 7}) + event("message_stop")], 7),
        ("/api/chat", JSON, lines(*LINES), 40),
        ("/api/chat", "", lines(*LINES), 40),
        ("/api/chat", "application/jsonl", lines(*LINES), 40),
        ("/api/chat", SSE, [chunks(LINES[0], done=False), chunks(LINES[1])], 40),
    ],
)  # fmt: skip
async def test_a_stream_is_one_whatever_it_is_called(
    tmp_path: Path, path: str, kind: str, pieces: list[bytes], output: int
) -> None:
    """Its first piece is passed before its last has come."""
    raw = RawServer(pieces[:-1], kind, then="hang")
    async with before(tmp_path, raw) as w:
        body = {"model": "tiny", "messages": [], "stream": True, "max_tokens": 1_000}
        async with (
            asyncio.timeout(PATIENCE_SECONDS),
            w.http.post(w.url + path, json=body, headers=w.headers()) as response,
        ):
            assert await response.content.readany()
    raw = RawServer(pieces, kind)
    (tmp_path / "whole").mkdir()
    async with before(tmp_path / "whole", raw) as w:
        assert await cost_of(w, path, stream=True, max_tokens=1_000) == ("done", 3, output)


@pytest.mark.parametrize("kind", [JSON, SSE, NDJSON, "", "text/plain"])
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("size", [1 << 20, 11])
@pytest.mark.parametrize("path", [CHAT, "/api/chat"])
async def test_a_whole_answer_is_one_whatever_it_is_called(
    tmp_path: Path, path: str, kind: str, indent: int | None, size: int
) -> None:
    """To a request for a stream, in pieces, over many lines."""
    answer = json.loads(message(USAGE)) if path == CHAT else {**LINE_END, "eval_count": 900}
    body = json.dumps(answer, indent=indent).encode()
    raw = RawServer([body[at : at + size] for at in range(0, len(body), size)], kind)
    async with before(tmp_path, raw) as w:
        _, _, got = await w.post(path, stream=True)
        [closed] = await w.closings(1)
        assert (closed.outcome.value, closed.charged_tokens) == ("done", 903)
        assert path != CHAT or json.loads(got) == json.loads(body) or b'"usage"' in body
        assert path == CHAT or got == body


ERRORS: list[tuple[str, Any]] = [
    (CHAT, {"error": {"message": "overloaded", "code": 502}}),
    (CHAT, {"error": "boom"}),
    (CHAT, {"object": "error", "message": "too long", "code": 400}),
    (CHAT, {"detail": "Not Found"}),
    (CHAT, {"code": 1301, "msg": "busy"}),
    (CHAT, [{"error": {"code": 429, "message": "quota"}}]),
    (CHAT, {"choices": None, "error": {"message": "x"}, "usage": None}),
    (CHAT, {"choices": [{"index": 0, "error": {"message": "x"}}]}),
    (CHAT, {"choices": [], "error": {"message": "x"}, "usage": {"prompt_tokens": 0, "completion_tokens": 0}}),
    ("/v1/completions", {"error": {"message": "x"}}),
    ("/v1/embeddings", {"error": {"message": "x"}}),
    ("/v1/embeddings", {"object": "list", "data": []}),
    ("/api/chat", {"error": "model runner has unexpectedly stopped"}),
    ("/api/generate", {"detail": "x"}),
    ("/api/embed", {"error": "x"}),
    ("/v1/messages", {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
    ("/v1/messages", {"message": "no"}),
    ("/v1/messages/count_tokens", {"type": "error", "error": {"message": "x"}}),
    (
        "/v1/responses",
        {"id": "r", "status": "failed", "error": {"code": "server_error", "message": "x"}, "usage": None},
    ),
    ("/v1/responses", {"id": "r", "object": "response", "status": "failed", "output": []}),
]
PAGE = b"<!DOCTYPE html><html><body>502 Bad Gateway</body></html>"


async def ask(w: Any, path: str, key: str = "", **more: Any) -> aiohttp.ClientResponse:
    needed: dict[str, Any] = {"messages": [], "prompt": "x"}
    if path in {"/v1/embeddings", "/v1/responses", "/api/embed"}:
        needed = {"input": "x"}
    headers = {**w.headers(), **({"Idempotency-Key": key} if key else {})}
    body = {"model": "tiny", "stream": False, **needed, **more}
    async with w.http.post(w.url + path, json=body, headers=headers) as response:
        await response.read()
        return response


@pytest.mark.parametrize(("path", "body"), [*ERRORS, (CHAT, PAGE), ("/api/chat", PAGE)])
async def test_an_answer_that_is_none_costs_nothing(tmp_path: Path, path: str, body: Any) -> None:
    """Its outcome is a failure, and its upstream's breaker counts no success."""
    said = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with before(tmp_path, RawServer([said], "text/html" if body is PAGE else JSON)) as w:
        assert (await ask(w, path)).status == 200
        [closed] = await w.closings(1)
        assert (closed.outcome.value, closed.charged_tokens) == ("failed", 0)
        [upstream] = w.gateway._parts.upstreams.all()
        assert not upstream.health._ended


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {"error": {"message": "x"}, "usage": {"prompt_tokens": 7, "completion_tokens": 2}}),
        ("/v1/messages", {"type": "error", "error": {}, "usage": {"input_tokens": 7, "output_tokens": 2}}),
        ("/v1/responses", {"status": "failed", "usage": {"input_tokens": 7, "output_tokens": 2}}),
    ],
)
async def test_an_error_that_counts_what_it_cost_is_charged(tmp_path: Path, path: str, body: Any) -> None:
    """What an upstream says of its own usage is believed upward."""
    async with before(tmp_path, RawServer([json.dumps(body).encode()], JSON)) as w:
        await ask(w, path)
        [closed] = await w.closings(1)
        assert (closed.outcome.value, closed.charged_tokens) == ("failed", 9)


@pytest.mark.parametrize("said", [message(USAGE)[:-9], b"out of memory", b"", b'"ok"'])
async def test_an_answer_that_nobody_can_read_costs_the_reservation(tmp_path: Path, said: bytes) -> None:
    """It may have been made before it broke; and it failed."""
    async with before(tmp_path, RawServer([said] if said else [], JSON)) as w:
        await ask(w, CHAT)
        [closed] = await w.closings(1)
        assert closed.outcome.value == "failed"
        assert closed.charged_tokens == w.ledger.opened[0].reserved_tokens


@pytest.mark.parametrize(
    ("path", "said", "cost"),
    [
        (CHAT, chunks({"error": {"message": "x"}}), 0),
        (CHAT, b'event: error\ndata: {"message":"x"}\n\n', 0),
        (CHAT, chunks({"detail": "x"}), 0),
        (CHAT, chunks({"object": "error", "message": "x"}, done=False), 0),
        ("/v1/messages", event("error", error={"type": "overloaded_error"}), 0),
        ("/v1/responses", event("response.failed", response={"status": "failed", "error": {"code": "x"}}), 0),
        ("/api/chat", b'{"error":"x"}\n', 0),
        (CHAT, chunks(piece(content="hi"), {"error": {"message": "x"}}), None),
        (
            CHAT,
            chunks(piece(content="hi"), done=False)
            + b'event: error\ndata: {"message":"x"}\n\n'
            + chunks(end()),
            None,
        ),
        (
            "/v1/messages",
            event("content_block_delta", delta={"type": "text_delta", "text": "x"}) + event("error"),
            None,
        ),
    ],
)
async def test_a_stream_that_is_an_error_from_the_start_costs_nothing(
    tmp_path: Path, path: str, said: bytes, cost: int | None
) -> None:
    """One that fails later costs what it may have made."""
    async with before(tmp_path, RawServer([said], NDJSON if path == "/api/chat" else SSE)) as w:
        await ask(w, path, stream=True)
        [closed] = await w.closings(1)
        assert closed.outcome.value == "failed"
        assert closed.charged_tokens == (w.ledger.opened[0].reserved_tokens if cost is None else cost)


@pytest.mark.parametrize("body", [{"error": "x"}, {"detail": "x"}, PAGE, b"{"])
async def test_an_answer_that_is_none_is_never_given_again(tmp_path: Path, body: Any) -> None:
    """Who asks again under its key asks anew."""
    raw = RawServer([body if isinstance(body, bytes) else json.dumps(body).encode()], JSON)
    database = Database(tmp_path / "answers.db", ANSWER_SCHEMA)
    await database.open()
    async with before(tmp_path, raw) as w:
        answers = Answers(database, gateway_config(), w.clock)
        w.put(answers=answers)
        replayed = [(await ask(w, "/api/chat", "k")).headers.get("idempotent-replayed") for _ in range(2)]
        assert (replayed, len(raw.requests)) == ([None, None], 2)
        raw.pieces = [json.dumps(LINE_END).encode()]
        replayed = [(await ask(w, "/api/chat", "k")).headers.get("idempotent-replayed") for _ in range(2)]
        assert replayed == [None, "true"]
    await database.close()


async def test_a_real_answer_counts_as_a_success_of_its_upstream(tmp_path: Path) -> None:
    """The control: whole, and streamed."""
    async with before(tmp_path, RawServer([message(USAGE)], JSON)) as w:
        await ask(w, CHAT)
        [upstream] = w.gateway._parts.upstreams.all()
        assert [ended.ok for ended in upstream.health._ended] == [True]
