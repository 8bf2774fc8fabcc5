"""Behaviours on OpenAI's chat: whether and how a server counts, whole, streamed, broken off and left."""

from __future__ import annotations

from typing import Any

from _accounting_behaviour import (
    CHAT,
    DENSE,
    DONE,
    PROMPT,
    Behaviour,
    chat,
    counts,
    delta,
    finish,
    message,
    said,
    sse,
    stream,
    usage,
    whole,
    words,
)
from _byte_server import PAUSE_SECONDS, Piece, Script

STREAM = {"stream": True}
ZERO = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
_SLOW = {"pause": PAUSE_SECONDS}


def _b(server: str, name: str, source: str, script: Script, **how: Any) -> Behaviour:
    if script.content_type.startswith("text/event-stream"):
        how["ask"] = {**STREAM, **how.get("ask", {})}
    return Behaviour(server, name, source, CHAT, script, **how)


def _ends() -> list[Behaviour]:
    """The five ways an answer ends, with a count and without one."""
    five = chat(counts(5), message("one two three"))
    tail = (sse(finish()), sse(usage(20)), DONE)
    left = stream(*words(20), then="hang", **_SLOW)
    broken = stream(*words(20), then="close")
    return [
        _b("OpenAI", "whole", "API reference", whole(five, 5), counted=True, kind="openai"),
        _b("vLLM", "stream, usage in a chunk of its own", "API reference", stream(*words(20), *tail), counted=True),
        _b("OpenAI", "whole, broken off in its middle", "-", whole(five, 5, length=500, then="close")),
        _b("OpenAI", "whole, client leaves before it", "real.md: 157 made", _unseen_whole(157), leaves_after=0),
        _b("vLLM", "stream, broken off", "-", broken, kind="vllm"),
        _b("generic", "stream, broken off", "-", broken),
        _b("vLLM", "stream, client leaves", "-", left, leaves_after=1_500, kind="vllm"),
        _b("generic", "stream, client leaves", "-", left, leaves_after=1_500),
        _b("llama.cpp", "stream, server killed", "real.md: error, then [DONE]", _killed(), kind="llama.cpp"),
        _b("generic", "stream, an error after text", "hostile.md u1", _killed(done=False)),
        _b("generic", "stream, no usage at all", "-", stream(*words(20), sse(finish()), DONE)),
        _b("generic", "whole, no usage at all", "-", whole(chat(None, message(DENSE)), 160)),
        _b("generic", "nothing said, no usage", "-", stream(Piece(sse(finish()), 1), DONE)),
        _b("generic", "whole, nothing said, no usage", "-", whole(chat(None, message("")), 1)),
        _b("vLLM", "chunks of nothing, no usage", "tokens that no text shows", _empty_chunks(), kind="vllm"),
        _b("generic", "an end without [DONE], with usage", "pi#7441", stream(*words(20), *tail[:2]), counted=True),
        _b("generic", "an end without [DONE] nor usage", "GoModel#1017", stream(*words(20), tail[0])),
        _b("mock", "usage in the last choice's chunk", "agent-budget-semantics", _joined(), counted=True),
        _b("Groq", "usage only in x_groq", "docs of Groq", _elsewhere(x_groq={"usage": counts(20)})),
        _b("Moonshot", "usage within the last choice", "docs of Moonshot", _in_choice()),
        _b("generic", "500 after the work", "-", whole({"error": {"message": "x"}}, 5, status=500)),
        _b("generic", "400, nothing done", "-", whole({"error": {"message": "x"}}, 0, status=400), prompt=0,
           counted=True),
        _b("generic", "503, nothing done", "-", whole({"error": {"message": "x"}}, 0, status=503), prompt=0,
           counted=True),
    ]  # fmt: skip


def _unseen_whole(tokens: int) -> Script:
    return Script((Piece(b"", tokens),), "application/json", then="hang", framing="length", length=9)


def _killed(*, done: bool = True) -> Script:
    error = sse({"error": {"message": "server is shutting down", "code": 503}})
    return stream(Piece(sse(delta(content=DENSE)), 160), error, *([DONE] if done else []))


def _empty_chunks() -> Script:
    return stream(*said(*[sse(delta(content=""))] * 200, tokens=1), sse(finish()), DONE)


def _joined() -> Script:
    return stream(*words(20), sse(finish(usage=counts(20))), DONE)


def _elsewhere(**fields: Any) -> Script:
    return stream(*words(20), sse(finish(**fields)), DONE)


def _in_choice() -> Script:
    last = finish()
    last["choices"][0]["usage"] = counts(20)
    return stream(*words(20), sse(last), DONE)


def _zeros() -> list[Behaviour]:
    """A count that is none, one that falls, one that runs along."""
    zeros, tail = words(20, usage=ZERO), (sse(finish()), sse(usage(20)), DONE)
    running = tuple(Piece(sse({**delta(content=" x"), "usage": counts(n)}), 1) for n in range(1, 41))
    late = stream(*running, Piece(b"", 30), then="close")
    falls = stream(*running, sse(usage(3)), DONE)
    again = stream(*words(20), sse(usage(20)), sse({**usage(0), "usage": ZERO}), DONE)
    report = "CLIProxyAPI#3077"
    early = stream(*words(20), sse(usage(20)), Piece(sse(delta(content=DENSE)), 160), sse(finish()), DONE)
    no_prompt = counts(5, 0)
    return [
        _b("proxy", "a count, and after it more text", "sibling", early),
        _b("proxy", "prompt counted as 0, output counted", "ai-gateway#1631", whole(chat(no_prompt), 5)),
        _b("proxy", "zeros until the last chunk", report, stream(*zeros, *tail), counted=True),
        _b("proxy", "zeros until the last chunk, client leaves", report,
           stream(*zeros, then="hang", **_SLOW), leaves_after=2_000),
        _b("proxy", "zeros until the last chunk, broken off", report, stream(*zeros, then="close")),
        _b("proxy", "prompt counted, output 0, client leaves", report,
           stream(*words(20, usage={"prompt_tokens": PROMPT, "completion_tokens": 0}), then="hang", **_SLOW),
           leaves_after=2_000),
        _b("proxy", "zeros to the end", "litellm#37992", stream(*zeros, sse(finish()), DONE)),
        _b("proxy", "whole, zeros after text", "litellm#37992", whole(chat(ZERO, message(DENSE)), 160)),
        _b("proxy", "whole, usage {}", "-", whole(chat({}, message(DENSE)), 160)),
        _b("proxy", "stream, usage {} at the end", "-",
           stream(Piece(sse(delta(content=DENSE)), 160), sse({**finish(), "usage": {}}), DONE)),
        _b("OpenAI", "usage null in every chunk", "API reference", stream(*words(20, usage=None), *tail), counted=True),
        _b("vLLM", "running usage", "vllm PR#5742", stream(*running, sse(usage(40)), DONE), counted=True, kind="vllm"),
        _b("vLLM", "running usage, client leaves", "vllm PR#5742",
           stream(*running, then="hang", **_SLOW), leaves_after=4_000, kind="vllm"),
        _b("generic", "running usage, broken off while it thinks unseen", "vllm PR#5742", late),
        _b("proxy", "a last count below an earlier one", "ai-gateway#1631", falls),
        _b("proxy", "a count, and after it one of 0", "ai-gateway#1631", again, counted=True),
    ]  # fmt: skip


def _details() -> list[Behaviour]:
    """Good counts beside odd details, and counts that are none."""
    odd: list[tuple[str, str, dict[str, Any]]] = [
        ("details null", "openai-agents-python#2141", {"completion_tokens_details": None}),
        (
            "details a list",
            "langfuse#4961",
            {"prompt_tokens_details": [{"modality": "TEXT", "token_count": 3}]},
        ),
        ("a detail of -1", "langfuse#10926", {"completion_tokens_details": {"reasoning_tokens": -1}}),
        ("a detail as text", "langfuse#10926", {"prompt_tokens_details": {"cached_tokens": "0"}}),
        (
            "counts as 3.0",
            "databricks-ai-bridge#461",
            {"prompt_tokens": float(PROMPT), "completion_tokens": 5.0},
        ),
        (
            "cache hits at the top",
            "hermes-agent#61871",
            {"prompt_cache_hit_tokens": 5, "prompt_cache_miss_tokens": 2},
        ),
    ]
    rows = [
        _b("proxy", name, source, whole(chat({**counts(5), **more}), 5), counted=True)
        for name, source, more in odd
    ]
    absurd = {
        "1e30": b"1e30",
        "an integer of 40 digits": b"9" * 40,
        "-5": b"-5",
        "NaN": b"NaN",
        "a text": b'"many"',
        "true": b"true",
        "a list": b"[5]",
    }
    text = b'{"id":"c","choices":[{"index":0,"message":{"content":"%b"},"finish_reason":"stop"}],"usage":{"prompt_tokens":7,"completion_tokens":%b}}'  # noqa: E501
    rows += [
        _b("broken", f"output counted as {name}", "hostile.md 20", whole(text % (DENSE.encode(), value), 160))
        for name, value in absurd.items()
    ]
    huge = (
        sse(delta(content=DENSE)),
        b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":1e30}}\n\n',
    )
    rows.append(
        _b(
            "broken",
            "stream, output counted as 1e30",
            "hostile.md 20",
            stream(Piece(huge[0], 160), huge[1], DONE),
        )
    )
    return rows


def _reasoning() -> list[Behaviour]:
    """What is thought: beside the output, among it, unseen, or not counted at all."""
    xai = counts(9, 32) | {"total_tokens": 135, "completion_tokens_details": {"reasoning_tokens": 94}}
    gemini = counts(0, 21) | {"total_tokens": 81, "completion_tokens_details": {"reasoning_tokens": 60}}
    among = counts(60, 21, completion_tokens_details={"reasoning_tokens": 60})
    thinking = Piece(b": thinking\n\n", 900)
    rows = [
        _b(server, f"{how}reasoning {where} the output", source, script, counted=True, prompt=of["prompt_tokens"])
        for server, source, where, of in (
            ("xAI", "inspect_ai#5528", "beside", xai),
            ("Gemini by a proxy", "CLIProxyAPI#5733", "beside", gemini),
            ("OpenAI", "API reference", "among", among),
        )
        for how, script in (
            ("", whole(chat(of), of["total_tokens"] - of["prompt_tokens"])),
            ("stream, ", stream(Piece(sse(delta(content="hi")), of["total_tokens"] - of["prompt_tokens"]),
                                sse(finish()), sse({**usage(0), "usage": of}), DONE)),
        )
    ]  # fmt: skip
    total = {"total_tokens": PROMPT + 60}
    no_total = {
        "prompt_tokens": 7,
        "completion_tokens": 9,
        "completion_tokens_details": {"reasoning_tokens": 94},
    }
    return [
        *rows,
        _b("proxy", "reasoning beside the output, no total", "omni-llm-provider#49",
           whole(chat(no_total), 103), counted=True),
        _b("proxy", "nothing but a total", "clarifai-python#978", whole(chat(total), 60), counted=True),
        _b("proxy", "stream, nothing but a total", "clarifai-python#978",
           stream(*words(60), sse({**usage(0), "usage": total}), DONE), counted=True),
        _b("OpenAI", "thinks unseen, counted at the end", "API reference",
           stream(thinking, *words(10), sse(finish()), sse(usage(910)), DONE), counted=True, kind="openai"),
        _b("OpenAI", "thinks unseen, client leaves", "hostile.md 5",
           stream(thinking, *words(20), then="hang", **_SLOW), leaves_after=1_500, kind="openai"),
        _b("generic", "thinks unseen, client leaves", "hostile.md 5",
           stream(thinking, *words(20), then="hang", **_SLOW), leaves_after=1_500),
        _b("OpenAI", "thinks unseen, broken off before any text", "hostile.md 5",
           stream(thinking, then="close"), kind="openai"),
        _b("xAI", "thinks unseen, no usage", "hostile.md 5", stream(thinking, *words(20), sse(finish()), DONE),
           kind="xai"),
    ]  # fmt: skip


def _choices() -> list[Behaviour]:
    """Several answers at once."""
    two = (message("one two", index=0), message("one two three four", index=1))
    pair = tuple(Piece(sse(delta(i, content="word ")), 1) for _ in range(10) for i in (0, 1))
    ends = (sse(finish(index=0)), sse(finish(index=1)))
    n, real = {"n": 2}, "real.md: 449 too few"
    long = tuple(Piece(sse(delta(1, content=DENSE)), 160) for _ in range(1))
    return [
        _b("vLLM", "n = 2, usage of both", "API reference", whole(chat(counts(24), *two), 24), ask=n, counted=True,
           kind="vllm"),
        _b("llama.cpp", "n = 2, usage of the first, equally long", real,
           whole(chat(counts(10), *two), 20), ask=n, kind="llama.cpp"),
        _b("llama.cpp", "n = 2, usage of the first, the second longer", real,
           whole(chat(counts(10), message("one two"), message(DENSE, index=1)), 170), ask=n, kind="llama.cpp"),
        _b("generic", "n = 2, usage of the first, the second longer", real,
           whole(chat(counts(10), message("one two"), message(DENSE, index=1)), 170), ask=n),
        _b("vLLM", "stream, n = 2, usage of both", "API reference", stream(*pair, *ends, sse(usage(20)), DONE), ask=n,
           counted=True, kind="vllm"),
        _b("llama.cpp", "stream, n = 2, usage of the first", real, stream(*pair, *ends, sse(usage(10)), DONE), ask=n,
           kind="llama.cpp"),
        _b("llama.cpp", "stream, n = 2, usage of the first, the second longer", real,
           stream(*pair[::2], *long, *ends, sse(usage(10)), DONE), ask=n, kind="llama.cpp"),
        _b("generic", "stream, n = 2, no usage", "-", stream(*pair, *long, *ends, DONE), ask=n),
        _b("generic", "stream, n = 2, client leaves", "-", stream(*pair, *long, *pair, then="hang", **_SLOW), ask=n,
           leaves_after=4_000),
        _b("vLLM", "stream, n = 2, client leaves", "-", stream(*pair, *long, *pair, then="hang", **_SLOW), ask=n,
           leaves_after=4_000, kind="vllm"),
    ]  # fmt: skip


def _caps() -> list[Behaviour]:
    """Servers that make more than they were allowed."""
    cap = {"max_tokens": 20}
    runs = stream(*words(400), sse(finish()), DONE, **_SLOW)
    zeros = stream(*words(400, usage=ZERO), sse(finish()), DONE, **_SLOW)
    return [
        _b("generic", "cap ignored, stream", "docs/dialects.md", runs, ask=cap, over_cap=True),
        _b("proxy", "cap ignored, stream of zero usage", "CLIProxyAPI#3077", zeros, ask=cap, over_cap=True),
        _b("llama.cpp", "cap ignored, whole", "real.md R5", whole(chat(counts(300)), 300), ask=cap, counted=True),
        _b("llama.cpp", "cap ignored, stream with usage", "real.md R5",
           stream(Piece(sse(delta(content=WORD_300)), 300), sse(finish()), sse(usage(300)), DONE), ask=cap,
           counted=True),
    ]  # fmt: skip


WORD_300 = "word " * 300


def _errors() -> list[Behaviour]:
    """Answers that are none."""
    body = {"error": {"message": "overloaded", "code": 502}}
    source = "inference-perf#713"
    return [
        _b("proxy", "an error with status 200", source, whole(body, 0), prompt=0, counted=True),
        _b("proxy", "an error with status 200, as a text", source, whole({"error": "overloaded"}, 0), prompt=0,
           counted=True),
        _b("proxy", "an error beside choices of []", source, whole({**body, "choices": []}, 0), prompt=0, counted=True),
        _b("proxy", "an error with status 200 to a stream", source,
           whole(body, 0), ask=STREAM, prompt=0, counted=True),
        _b("proxy", "an error as the only event", source, stream(sse(body), DONE), prompt=0, counted=True),
        _b("proxy", "an error with usage of what it cost", source, whole({**body, "usage": counts(30)}, 30),
           counted=True),
    ]  # fmt: skip


def _understated() -> list[Behaviour]:
    """What nobody can find out: fewer tokens counted than made, and no text that contradicts it."""
    return [
        _b("lying", "counts 40 of 160 tokens", "must show 2", whole(chat(counts(40), message(DENSE)), 160),
           unseen=True),
        _b("lying", "stream, counts 40 of 160 tokens", "must show 2",
           stream(Piece(sse(delta(content=DENSE)), 160), sse(finish()), sse(usage(40)), DONE), unseen=True),
        _b("lying", "counts 7 of 400 prompt tokens", "must show 2", whole(chat(counts(5)), 5), unseen=True, prompt=400),
    ]  # fmt: skip


def behaviours() -> list[Behaviour]:
    """All of them."""
    parts = (_ends, _zeros, _details, _reasoning, _choices, _caps, _errors, _understated)
    return [behaviour for part in parts for behaviour in part()]
