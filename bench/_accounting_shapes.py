"""Behaviours on OpenAI's routes: text in other shapes, without any count, and bytes that are framed otherwise."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from typing import Any

from _accounting_behaviour import (
    CHAT,
    DENSE,
    DONE,
    EMBED,
    PROMPT,
    TEXT,
    Behaviour,
    chat,
    counts,
    delta,
    finish,
    message,
    sse,
    stream,
    usage,
    whole,
    words,
)
from _byte_server import PAUSE_SECONDS, Piece, Script

STREAM = {"stream": True}
_RARE = "\U0001f701\U0001f702\U0001f703\U0001f704" * 10
_TAIL = (sse(finish()), sse(usage(20)), DONE)
_WORDS = b"".join(piece.data for piece in words(20)) + b"".join(_TAIL)


def _b(server: str, name: str, source: str, script: Script, **how: Any) -> Behaviour:
    how["ask"] = {**STREAM, **how.get("ask", {})}
    return Behaviour(server, name, source, CHAT, script, **how)


def _whole(server: str, name: str, source: str, script: Script, **how: Any) -> Behaviour:
    return Behaviour(server, name, source, CHAT, script, **how)


def _shapes() -> list[Behaviour]:
    """160 bytes, each a token, in every place where servers put text; no count."""
    call = {"index": 0, "id": "x", "type": "function"}
    detail = [{"type": "reasoning.text", "text": DENSE}]
    shapes: list[tuple[str, str, dict[str, Any]]] = [
        ("content as text", "API reference", {"content": DENSE}),
        ("content as a list of text", "symfony/ai#2424", {"content": [{"type": "text", "text": DENSE}]}),
        ("content as a list of thinking", "litellm#16272",
         {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": DENSE}]}]}),
        ("content as an object", "sibling", {"content": {"text": DENSE}}),
        ("arguments as text", "API reference",
         {"tool_calls": [{**call, "function": {"name": "f", "arguments": json.dumps({"a": DENSE})}}]}),
        ("arguments as an object", "llama.cpp#20198",
         {"tool_calls": [{**call, "function": {"name": "f", "arguments": {"a": DENSE}}}]}),
        ("tool_calls as one object", "sibling", {"tool_calls": {"function": {"name": "f", "arguments": DENSE}}}),
        ("function_call", "API reference, old", {"function_call": {"name": "f", "arguments": DENSE}}),
        ("reasoning_content", "DeepSeek's docs", {"reasoning_content": DENSE}),
        ("reasoning", "vllm, OpenRouter", {"reasoning": DENSE}),
        ("reasoning_details", "OpenRouter's docs", {"reasoning_details": detail}),
        ("thinking_blocks", "LiteLLM's docs", {"thinking_blocks": [{"type": "thinking", "thinking": DENSE}]}),
        ("refusal", "API reference", {"refusal": DENSE}),
        ("a field that nobody knows", "sibling", {"inner_voice": DENSE}),
        ("audio's transcript", "API reference", {"audio": {"id": "a", "transcript": DENSE}}),
    ]  # fmt: skip
    rows = [
        _b(
            "generic",
            f"no usage, {name}",
            source,
            stream(Piece(sse(delta(**what)), 160), sse(finish()), DONE),
        )
        for name, source, what in shapes
    ]
    # A server that is known to show all that it makes is charged by what was seen, not by its reservation.
    rows += [
        _b("vLLM", f"client leaves, {name}", source,
           stream(Piece(sse(delta(**what)), 160), Piece(sse(delta(content="x"))), then="hang"),
           leaves_after=200, kind="vllm")
        for name, source, what in shapes
    ]  # fmt: skip
    text_chunk = {"id": "c", "choices": [{"index": 0, "text": DENSE, "delta": {}}]}
    more: list[tuple[str, str, bytes]] = [
        ("text beside an empty delta", "sibling", sse(text_chunk)),
        (
            "a message instead of a delta",
            "sibling",
            sse({"choices": [{"index": 0, "message": {"content": DENSE}}]}),
        ),
        ("choices as an object", "sibling", sse({"choices": {"0": {"delta": {"content": DENSE}}}})),
        ("a chunk that is no JSON", "sibling", b"data: " + DENSE.encode() + b"\n\n"),
        ("rare letters, four tokens each", "byte-level BPE", sse(delta(content=_RARE))),
        ("several tokens a chunk (speculative)", "hostile.md", sse(delta(content=DENSE))),
    ]
    rows += [
        _b("vLLM", f"client leaves, {name}", source,
           stream(Piece(data, 160), Piece(sse(delta(content="x"))), then="hang"),
           leaves_after=150, kind="vllm")
        for name, source, data in more
    ]  # fmt: skip
    hidden_end = stream(Piece(sse(delta(content=DENSE)), 160), Piece(sse(finish()), 1), DONE)
    return [
        *rows,
        _b(
            "vLLM", "no usage, and an end token that no text shows", "vLLM counts it", hidden_end, kind="vllm"
        ),
    ]


def _calls() -> list[Behaviour]:
    """Tool calls with a count."""
    function = {"name": "f", "arguments": '{"a": 1}'}
    call = {"id": "x", "type": "function", "function": function}
    first = delta(tool_calls=[{"index": 0, **call}])
    return [
        _whole("OpenAI", "whole, a tool call", "API reference",
               whole(chat(counts(12), message("", "tool_calls", content=None, tool_calls=[call])), 12), counted=True),
        _b("OpenAI", "stream, a tool call", "API reference",
           stream(Piece(sse(first), 12), sse(finish("tool_calls")), sse(usage(12)), DONE), counted=True),
        _b("Mistral", "stream, thinking in a list, with usage", "litellm#16272",
           stream(Piece(sse(delta(content=[{"type": "thinking", "thinking": []}])), 20), *_TAIL), counted=True),
        _b("mlx", "the usage chunk has no choices", "mlx-dspark#37",
           stream(*words(20), sse(finish()), sse({"usage": counts(20)}), DONE), counted=True),
        _b("mlx", "the usage chunk's choices are null", "mlx-dspark#37",
           stream(*words(20), sse(finish()), sse({**usage(20), "choices": None}), DONE), counted=True),
    ]  # fmt: skip


def _wire() -> list[Behaviour]:
    """The same stream of 20 words and its count, in other bytes."""
    crlf, cr = _WORDS.replace(b"\n", b"\r\n"), _WORDS.replace(b"\n", b"\r")
    pings = b": ping\n\n" + _WORDS.replace(b"\n\n", b"\n\n: OPENROUTER PROCESSING\n\n")
    two_lines = json.dumps(usage(20), indent=1).encode()
    multi = (
        b"".join(p.data for p in words(20))
        + b"data: "
        + two_lines.replace(b"\n", b"\ndata: ")
        + b"\n\n"
        + DONE
    )
    named = _WORDS.replace(b"data: ", b"id: 1\nevent: message\nretry: 100\ndata: ")
    big = sse({**delta(content=""), "image": "x" * (1 << 20)})
    huge = sse({**usage(20), "image": "x" * (3 << 19)})
    full = b"".join(piece.data for piece in words(20))
    plain: list[tuple[str, str, Script]] = [
        ("comments to keep it alive", "OpenRouter", _pieces(pings)),
        ("CRLF between lines", "the SSE standard", _pieces(crlf)),
        ("CR between lines", "the SSE standard", _pieces(cr)),
        ("no space after data:", "the SSE standard", _pieces(_WORDS.replace(b"data: ", b"data:"))),
        ("a byte order mark", "the SSE standard", _pieces(b"\xef\xbb\xbf" + _WORDS)),
        ("id, event and retry fields", "the SSE standard", _pieces(named)),
        ("usage over several data lines", "the SSE standard", _pieces(multi)),
        ("a byte at a time", "any network", _pieces(_WORDS, 1)),
        ("7 bytes at a time", "any network", _pieces(_WORDS, 7)),
        ("an event of 1 MiB, then the count", "images in chunks", _pieces(full + big + b"".join(_TAIL))),
        ("ended by the connection's end", "HTTP/1.0", _pieces(_WORDS, framing="eof")),
        ("with a Content-Length", "buffering proxies", _pieces(_WORDS, framing="length")),
        ("Content-Type missing", "kamal-proxy#164", _pieces(_WORDS, content_type="")),
        (
            "Content-Type text/plain",
            "cloudflared#199",
            _pieces(_WORDS, content_type="text/plain; charset=utf-8"),
        ),
        (
            "Content-Type application/octet-stream",
            "sibling",
            _pieces(_WORDS, content_type="application/octet-stream"),
        ),
        (
            "Content-Type Text/Event-Stream",
            "sibling",
            _pieces(_WORDS, content_type="Text/Event-Stream;charset=UTF-8"),
        ),
        ("more after [DONE]", "sibling", _pieces(_WORDS + b": bye\n\n")),
        (
            "no blank line after the last event",
            "sibling",
            _pieces(_WORDS.removesuffix(DONE) + b"data: [DONE]"),
        ),
        ("the count is the last line, without its end", "sibling", _pieces(full + sse(usage(20)).rstrip())),
    ]
    rows = [_b("generic", f"stream, {name}", source, script, counted=True) for name, source, script in plain]
    rows.append(
        _b("generic", "stream, the count within an event of 1.5 MiB", "sibling", _pieces(full + huge + DONE))
    )
    one = json.dumps(chat(counts(20), message("word " * 20))).encode()
    rows += [
        _b("generic", "asked for a stream, answered whole", "LocalAI, mocks", whole(one, 20), counted=True),
        _whole("generic", "asked for a whole, answered as a stream", "sibling", _pieces(_WORDS)),
        _whole("generic", "whole, Content-Type missing", "sibling", whole(one, 20, content_type=""), counted=True),
        _whole("generic", "whole, chunked, with blanks before it", "buffering proxies",
               whole(b" \n" + one, 20, framing="chunked"), counted=True),
        _whole("generic", "whole, a byte order mark before it", "sibling", whole(b"\xef\xbb\xbf" + one, 20)),
        _whole("generic", "whole, not JSON", "-", whole(b"Bad gateway, but 200", 20)),
        _whole("generic", "whole, not UTF-8 in its text", "llama.cpp, half characters",
               whole(one.replace(b"word", b"w\xffrd", 1), 20)),
    ]  # fmt: skip
    return rows


def _pieces(data: bytes, size: int = 0, **how: Any) -> Script:
    """Twenty words' stream, cut anyhow."""
    cuts = [data[at : at + size] for at in range(0, len(data), size)] if size else [data]
    return stream(Piece(b"", 20), *cuts, **how)


def _compressed() -> list[Behaviour]:
    """Answers packed though `identity` was asked for."""
    source = "claude-relay-service#1027"
    packed = {
        "gzip": gzip.compress(_WORDS),
        "deflate": zlib.compress(_WORDS),
        "deflate, raw": zlib.compressobj(wbits=-15).compress(_WORDS) + b"",
    }
    raw = zlib.compressobj(wbits=-15)
    packed["deflate, raw"] = raw.compress(_WORDS) + raw.flush()
    rows = [
        _b(
            "proxy",
            f"stream in {name}",
            source,
            _pieces(data, headers=(f"Content-Encoding: {name.partition(',')[0]}",)),
        )
        for name, data in packed.items()
    ]
    one = json.dumps(chat(counts(20), message("word " * 20))).encode()
    gz = ("Content-Encoding: gzip",)
    return [
        *rows,
        _b("proxy", "stream in gzip, a byte at a time", source, _pieces(packed["gzip"], 1, headers=gz)),
        _b("proxy", "stream in gzip, broken off in its middle", source,
           _pieces(packed["gzip"][: len(packed["gzip"]) // 2], headers=gz, then="close")),
        _b("proxy", "stream in gzip, in truth plain", "sibling", _pieces(_WORDS, headers=gz)),
        _b("proxy", "stream in br", source, _pieces(b"\x8b\x02\x80not brotli", headers=("Content-Encoding: br",))),
        _b("proxy", "stream in an encoding that nobody knows", "sibling",
           _pieces(_WORDS, headers=("Content-Encoding: x-mine",))),
        _b("proxy", "stream in gzip, twice", "sibling",
           _pieces(gzip.compress(gzip.compress(_WORDS)), headers=("Content-Encoding: gzip, gzip",))),
        _whole("proxy", "whole in gzip", "ai-dial-core#1646", whole(gzip.compress(one), 20, headers=gz)),
        _whole("proxy", "whole in gzip, in truth plain", "sibling", whole(one, 20, headers=gz)),
    ]  # fmt: skip


def _others() -> list[Behaviour]:
    """Completions and embeddings."""
    text = {"id": "c", "object": "text_completion"}
    choice = {"index": 0, "text": DENSE, "finish_reason": "stop"}
    pieces = tuple(Piece(sse({**text, "choices": [{"index": 0, "text": "word "}]}), 1) for _ in range(20))
    dense = Piece(sse({**text, "choices": [{"index": 0, "text": DENSE}]}), 160)
    last = sse({**text, "choices": [], "usage": counts(20)})
    vector = [{"object": "embedding", "index": 0, "embedding": [0.1] * 64}]
    packed = [{"object": "embedding", "index": 0, "embedding": base64.b64encode(b"x" * 256).decode()}]
    only = {"prompt_tokens": PROMPT, "total_tokens": PROMPT}

    def t(name: str, script: Script, **how: Any) -> Behaviour:
        return Behaviour("generic", name, "API reference", TEXT, script, **how)

    def e(name: str, script: Script, **how: Any) -> Behaviour:
        return Behaviour("generic", name, "API reference", EMBED, script, **how)

    two = {**text, "choices": [choice, {**choice, "index": 1}]}
    return [
        t("completion, whole", whole({**text, "choices": [choice], "usage": counts(160)}, 160), counted=True),
        t("completion, whole, no usage", whole({**text, "choices": [choice]}, 160)),
        t("completion, stream", stream(*pieces, last, DONE), ask=STREAM, counted=True),
        t("completion, stream, no usage", stream(dense, DONE), ask=STREAM),
        t("completion, stream, client leaves", stream(*pieces, dense, then="hang", pause=PAUSE_SECONDS), ask=STREAM,
          leaves_after=1_500),
        t("completion, two prompts, usage of one", whole({**two, "usage": counts(160)}, 320),
          ask={"prompt": ["hello", "hello"]}, prompt=2 * PROMPT),
        t("completion, best_of 3, one shown, all counted",
           whole({**text, "choices": [choice], "usage": counts(480)}, 480),
          ask={"best_of": 3}, kind="openai", counted=True),
        t("completion, best_of 3, one shown, one counted",
           whole({**text, "choices": [choice], "usage": counts(160)}, 480),
          ask={"best_of": 3}),
        e("embedding", whole({"data": vector, "usage": only}, 0), counted=True),
        e("embedding in base64", whole({"data": packed, "usage": only}, 0), ask={"encoding_format": "base64"},
           counted=True),
        e("embedding, no usage", whole({"data": vector}, 0)),
        e("embedding, usage of 0", whole({"data": vector, "usage": {"prompt_tokens": 0, "total_tokens": 0}}, 0)),
        e("embedding, a count of the output too", whole({"data": vector, "usage": counts(0)}, 0), counted=True),
    ]  # fmt: skip


def behaviours() -> list[Behaviour]:
    """All of them."""
    parts = (_shapes, _calls, _wire, _compressed, _others)
    return [behaviour for part in parts for behaviour in part()]
