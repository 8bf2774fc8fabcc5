"""Behaviours of Ollama's own routes: lines of JSON, whose last has the counts."""

from __future__ import annotations

from typing import Any

from _accounting_behaviour import (
    DENSE,
    OLLAMA_CHAT,
    OLLAMA_EMBED,
    OLLAMA_TEXT,
    PROMPT,
    Behaviour,
    line,
    lines,
    said,
    whole,
)
from _byte_server import PAUSE_SECONDS, Piece, Script

_WHOLE = {"stream": False}
_SLOW = {"pause": PAUSE_SECONDS}
_COUNTS = {"prompt_eval_count": PROMPT, "eval_count": 20}


def _word(**fields: Any) -> bytes:
    return line(message={"role": "assistant", "content": "word "}, done=False, **fields)


def _last(**fields: Any) -> bytes:
    return line(message={"role": "assistant", "content": ""}, done=True, done_reason="stop", **fields)


def _said_as(**message: Any) -> Piece:
    return Piece(line(message={"role": "assistant", "content": "", **message}, done=False), 160)


def _b(name: str, source: str, script: Script, **how: Any) -> Behaviour:
    how.setdefault("kind", "ollama")
    return Behaviour("Ollama", name, source, how.pop("path", OLLAMA_CHAT), script, **how)


def _chat() -> list[Behaviour]:
    words = said(*[_word()] * 20, tokens=1)
    answer = {"model": "tiny", "message": {"role": "assistant", "content": DENSE}, "done": True}
    call = {"function": {"name": "f", "arguments": {"a": DENSE}}}
    docs = "docs/api.md of Ollama"
    return [
        _b("whole", docs, whole({**answer, "prompt_eval_count": PROMPT, "eval_count": 160}, 160), ask=_WHOLE,
           counted=True),
        _b("stream", docs, lines(*words, _last(**_COUNTS)), counted=True),
        _b("stream, broken off", "-", lines(*words, then="close")),
        _b("stream, ended without its last line", "-", lines(*words)),
        _b("stream, client leaves", "-", lines(*words, then="hang", **_SLOW), leaves_after=1_500),
        _b("whole, client leaves before it", "-",
           Script((Piece(b"", 157),), "application/json", then="hang", framing="length", length=9), ask=_WHOLE,
           leaves_after=0),
        _b("stream, server killed", "cases 011", lines(*words, line(error="model runner has unexpectedly stopped"))),
        _b("an error with status 200", "cases 011",
           whole({"error": "model runner has unexpectedly stopped"}, 0), ask=_WHOLE, prompt=0, counted=True),
        _b("an error as the only line", "cases 011", lines(line(error="no room")), prompt=0, counted=True),
        _b("prompt_eval_count missing (cached)", "ollama#3427", lines(*words, _last(eval_count=20))),
        _b("whole, prompt_eval_count missing (cached)", "SWE-agent#44",
           whole({**answer, "eval_count": 160}, 160), ask=_WHOLE),
        _b("no counts at all", "-", lines(_said_as(content=DENSE), _last())),
        _b("whole, no counts at all", "-", whole(answer, 160), ask=_WHOLE),
        _b("eval_count 0 after text", "sibling",
           lines(_said_as(content=DENSE), _last(prompt_eval_count=PROMPT, eval_count=0))),
        _b("eval_count of 1e30", "hostile.md 20",
           lines(_said_as(content=DENSE), _last(prompt_eval_count=PROMPT, eval_count=1e30))),
        _b("zero counts in every line, client leaves", "CLIProxyAPI#3077",
           lines(*said(*[_word(prompt_eval_count=0, eval_count=0)] * 20, tokens=1), then="hang", **_SLOW),
           leaves_after=1_500),
        _b("thinking, no counts", docs, lines(_said_as(thinking=DENSE), _last())),
        _b("a tool call, no counts", docs, lines(_said_as(tool_calls=[call]), _last())),
        _b("a tool call, client leaves", docs, lines(_said_as(tool_calls=[call]), _word(), then="hang"),
           leaves_after=200),
        _b("content as a list, client leaves", "sibling",
           lines(_said_as(content=[{"type": "text", "text": DENSE}]), _word(), then="hang"), leaves_after=200),
        _b("stream called application/json", "Ollama-like servers",
           lines(*words, _last(**_COUNTS), content_type="application/json"), counted=True),
        _b("stream called application/jsonl", "sibling",
           lines(*words, _last(**_COUNTS), content_type="application/jsonl"),
           counted=True),
        _b("lines ended by CRLF", "sibling",
           lines(*(Piece(p.data.replace(b"\n", b"\r\n"), p.tokens) for p in words),
           _last(**_COUNTS).replace(b"\n", b"\r\n")),
           counted=True),
        _b("the last line without its end", "sibling", lines(*words, _last(**_COUNTS).rstrip()), counted=True),
        _b("a line cut in two", "any network", lines(*words, _last(**_COUNTS)[:40], _last(**_COUNTS)[40:]),
           counted=True),
        _b("cap ignored", "hostile.md 2", lines(*said(*[_word()] * 400, tokens=1), _last(), **_SLOW),
           ask={"options": {"num_predict": 20}}, over_cap=True),
    ]  # fmt: skip


def _others() -> list[Behaviour]:
    docs = "docs/api.md of Ollama"
    words = said(*[line(response="word ", done=False)] * 20, tokens=1)
    vector = {"model": "tiny", "embeddings": [[0.1] * 64]}
    return [
        _b("generate, stream", docs, lines(*words, line(response="", done=True, **_COUNTS)), path=OLLAMA_TEXT,
           counted=True),
        _b("generate, whole", docs,
           whole({"response": DENSE, "done": True, "prompt_eval_count": PROMPT, "eval_count": 160}, 160),
           path=OLLAMA_TEXT, ask=_WHOLE, counted=True),
        _b("generate, no counts", "-",
           lines(Piece(line(response=DENSE, done=False), 160), line(response="", done=True)),
           path=OLLAMA_TEXT),
        _b("generate, thinking, client leaves", docs,
           lines(Piece(line(response="", thinking=DENSE, done=False), 160), line(response="x", done=False),
           then="hang"),
           path=OLLAMA_TEXT, leaves_after=200),
        _b("embed", docs, whole({**vector, "prompt_eval_count": PROMPT}, 0), path=OLLAMA_EMBED, counted=True),
        _b("embed, no count", "-", whole(vector, 0), path=OLLAMA_EMBED),
    ]  # fmt: skip


def behaviours() -> list[Behaviour]:
    """All of them."""
    return [*_chat(), *_others()]
