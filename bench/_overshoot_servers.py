"""Model servers that make as much as they are let, each by the fields that the real one obeys."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from _byte_server import JSON, Piece, Script

CONTEXT = 4_096
_TEMPLATE = 20
_CHAT = "/v1/chat/completions"

Obeys = Callable[[dict[str, Any]], tuple[int, int]]
"""The cap of one answer and how many answers there are, as a server reads a body; without a cap, its context."""


def _number(*values: Any) -> int:
    """The first that is a number, also one written as text; negative or none: up to the context."""
    for value in values:
        if value is None or isinstance(value, bool):
            continue
        try:
            number = int(float(value))
        except (TypeError, ValueError):
            continue
        return min(number, CONTEXT) if number > 0 else CONTEXT
    return CONTEXT


def llama_cpp(body: dict[str, Any]) -> tuple[int, int]:
    """`n_predict` overwrites what max_tokens said (server-common.cpp, oaicompat_chat_params_parse)."""
    cap = _number(body.get("n_predict"), body.get("max_completion_tokens"), body.get("max_tokens"))
    return cap, _many(body.get("n_cmpl"), body.get("n"))


def vllm(body: dict[str, Any]) -> tuple[int, int]:
    """The new name first; numbers written as text are numbers to pydantic."""
    return _number(body.get("max_completion_tokens"), body.get("max_tokens")), _many(body.get("n"))


def old_completions(body: dict[str, Any]) -> tuple[int, int]:
    """`best_of` answers are made, whatever is shown."""
    return _number(body.get("max_tokens")), max(_many(body.get("n")), _many(body.get("best_of")))


def ollama_openai(body: dict[str, Any]) -> tuple[int, int]:
    """Only the old name (openai/openai.go)."""
    return _number(body.get("max_tokens")), 1


def ollama(body: dict[str, Any]) -> tuple[int, int]:
    """Only the option; -1 and -2 are no limit."""
    options = body.get("options")
    return _number(options.get("num_predict") if isinstance(options, dict) else None), 1


def text_generation_webui(body: dict[str, Any]) -> tuple[int, int]:
    """`auto_max_new_tokens` fills the context, whatever the cap says."""
    if body.get("auto_max_new_tokens"):
        return CONTEXT, 1
    return _number(body.get("max_new_tokens"), body.get("max_tokens")), 1


def transformers(body: dict[str, Any]) -> tuple[int, int]:
    """`generation_config` is a whole configuration, as text."""
    config = body.get("generation_config")
    inner = json.loads(config) if isinstance(config, str) else config or {}
    cap = _number(inner.get("max_new_tokens"), body.get("max_completion_tokens"), body.get("max_tokens"))
    return cap, _many(inner.get("num_return_sequences"), body.get("n"))


def worst(body: dict[str, Any]) -> tuple[int, int]:
    """A server that obeys whatever looks like a cap or a number of answers, anywhere, and takes the largest."""
    caps, answers = [], [1]
    for name, value in _fields(body):
        key = name.lower().replace("_", "")
        if key in _CAP_NAMES:
            caps.append(_number(value))
        elif key in _MANY_NAMES:
            answers.append(_many(value))
        elif key == "automaxnewtokens" and value:
            caps.append(CONTEXT)
    return max(caps, default=CONTEXT), max(answers)


_CAP_NAMES = frozenset({
    "maxtokens", "maxcompletiontokens", "maxoutputtokens", "maxnewtokens", "npredict", "numpredict", "maxlength",
    "maxgenlen", "maxtokenstosample", "maxgeneratedtokens", "tokenstogenerate", "maxdecodesteps", "ntokens",
})  # fmt: skip
_MANY_NAMES = frozenset({
    "n", "ncmpl", "bestof", "numreturnsequences", "numgenerations", "candidatecount", "samples", "numresults",
    "numsamples", "numcompletions", "beamwidth", "numbeams",
})  # fmt: skip


def _fields(value: Any) -> Iterator[tuple[str, Any]]:
    """Every field of every object within; what is text may be JSON too."""
    if isinstance(value, str) and value.startswith("{"):
        value = json.loads(value)
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name, inner
            if name not in ("messages", "prompt", "tools"):
                yield from _fields(inner)


def _many(*values: Any) -> int:
    """The first that is a number of answers."""
    for value in values:
        if value is not None:
            try:
                return max(1, min(128, int(float(value))))
            except (TypeError, ValueError):
                continue
    return 1


def usage_of_all(prompt: int, cap: int, answers: int) -> dict[str, int]:
    """OpenAI's usage, honest."""
    made = cap * answers
    return {"prompt_tokens": prompt, "completion_tokens": made, "total_tokens": prompt + made}


def usage_of_one(prompt: int, cap: int, answers: int) -> dict[str, int]:
    """As llama.cpp counts: the first answer alone."""
    return usage_of_all(prompt, cap, min(answers, 1))


@dataclass(frozen=True, slots=True)
class Model:
    """Answers every metered route with all the tokens that a body lets it make, and counts them honestly.

    `usage` is what it tells of its count. A prompt has a token for every byte of its text, the most there can be.
    """

    obeys: Obeys
    usage: Callable[[int, int, int], dict[str, int]] = usage_of_all
    seconds: float = 0.05

    def answer(self, path: str, body: dict[str, Any]) -> tuple[Script, int]:
        """A whole answer, or a stream of one chunk an answer."""
        cap, answers = self.obeys(body)
        prompt = prompt_tokens(body)
        usage = self.usage(prompt, cap, answers)
        made = Piece(b"", cap * answers)
        if path.startswith("/api/"):
            counts = {"prompt_eval_count": prompt, "eval_count": usage["completion_tokens"]}
            text = {"message": {"role": "assistant", "content": "x"}, "response": "x"}
            data = json.dumps({"model": "tiny", **text, "done": True, **counts}).encode() + b"\n"
        else:
            shown = [{"index": i, "message": {"role": "assistant", "content": "x"}, "text": "x",
                      "finish_reason": "length"} for i in range(answers)]  # fmt: skip
            data = json.dumps({"id": "c", "choices": shown, "usage": usage}).encode()
        return Script((made, Piece(data)), JSON, pause=self.seconds), prompt


def prompt_tokens(body: dict[str, Any]) -> int:
    """A token for every byte of the prompt's text, and a template's."""
    texts = [message.get("content") or "" for message in body.get("messages", [])]
    prompts = body.get("prompt", [])
    texts += prompts if isinstance(prompts, list) else [prompts]
    return sum(len(str(text).encode()) for text in texts) + _TEMPLATE
