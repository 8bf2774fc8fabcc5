"""Two scenarios of agent-budget-semantics 0.5.0 (MIT), and what a model server says that plays them.

Nothing but the standard library, since the package's own environment needs it too. The package's mock counts by its
script whatever is sent, and looks at no cap. Here a cap that is smaller than the script's completion cuts the answer,
as a real server does; and the server may have a tokenizer, which says for each of the script's prompts what the script
says, and for other text a number between, by its length.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Any

_SAYS = {"temperature": 72, "condition": "sunny", "note": "Check nearby cities too"}
TOOL_RESULT = json.dumps(_SAYS)
TASK = "Check the weather in various cities."
SYSTEM = "You are a helpful assistant. Use tools as needed."
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Get weather for a city.",
            "parameters": {
                "properties": {"city": {"title": "City", "type": "string"}},
                "required": ["city"],
                "title": "get_weather_args",
                "type": "object",
                "additionalProperties": False,
            },
            "strict": True,
        },
    }
]


@dataclass(frozen=True, slots=True)
class Turn:
    """What the script says of one call: its tokens, and the city that is asked for; none: the final answer."""

    prompt: int
    completion: int
    city: str = ""


@dataclass(frozen=True, slots=True)
class Scenario:
    """An agent's run, call by call."""

    name: str
    file: str
    turns: tuple[Turn, ...]

    @property
    def tokens(self) -> int:
        """What the whole run costs."""
        return sum(turn.prompt + turn.completion for turn in self.turns)


def _turns(prompts: tuple[int, ...], completions: tuple[int, ...], cities: str) -> tuple[Turn, ...]:
    return tuple(map(Turn, prompts, completions, [*cities.split(","), ""]))


S6 = Scenario(
    "S6-token-budget",
    "S6-token-budget.yaml",
    _turns((60, 120, 160, 190, 220, 260), (25, 30, 25, 30, 30, 40), "Tokyo,London,New York,Paris,Sydney"),
)
S2 = Scenario(
    "S2-budget-exhaustion",
    "S2-budget-exhaustion.yaml",
    _turns(
        tuple(range(100, 551, 50)),
        (25,) * 9 + (30,),
        "Seattle,Portland,San Francisco,Los Angeles,Denver,Chicago,New York,Boston,Miami",
    ),
)
SCENARIOS = (S6, S2)


def cap_of(body: dict[str, Any]) -> int | None:
    """The cap that a body gives."""
    caps = [body[name] for name in ("max_completion_tokens", "max_tokens") if body.get(name) is not None]
    return int(caps[0]) if caps else None


def calls_before(messages: list[dict[str, Any]]) -> int:
    """How many calls of the script an agent has behind it."""
    return sum(message.get("role") == "assistant" for message in messages)


def rendered(body: dict[str, Any]) -> str:
    """The prompt as a chat template would put it together."""
    parts = [json.dumps(body["tools"])] if body.get("tools") else []
    for message in body.get("messages", []):
        called = json.dumps(message["tool_calls"]) if message.get("tool_calls") else ""
        parts.append(f"<|{message.get('role')}|>{message.get('content') or ''}{called}")
    return "\n".join([*parts, "<|assistant|>"])


@dataclass
class Tokenizer:
    """Says the script's number for the script's prompts, and for other text one between, by its length.

    `points` are lengths of rendered prompts and their numbers, learnt as the prompts come.
    """

    scenario: Scenario
    points: dict[int, int] = field(default_factory=dict)

    def prompt(self, body: dict[str, Any]) -> int:
        """The tokens of a whole prompt."""
        calls = min(calls_before(body.get("messages", [])), len(self.scenario.turns) - 1)
        self.points[len(rendered(body))] = self.scenario.turns[calls].prompt
        return self.scenario.turns[calls].prompt

    def text(self, text: str) -> int:
        """The tokens of any text: exact where it is a whole prompt, in proportion elsewhere."""
        lengths = sorted(self.points)
        if not lengths:
            return max(1, len(text) // 4) if text else 0
        at = bisect_left(lengths, len(text))
        if at < len(lengths) and lengths[at] == len(text):
            return self.points[lengths[at]]
        low = (0, 0) if at == 0 else (lengths[at - 1], self.points[lengths[at - 1]])
        high = (lengths[at], self.points[lengths[at]]) if at < len(lengths) else (2 * low[0], 2 * low[1])
        share = (len(text) - low[0]) / (high[0] - low[0])
        return round(low[1] + share * (high[1] - low[1]))


def tokenizer_route(
    tokenizer: Tokenizer, kind: str, path: str, body: dict[str, Any]
) -> dict[str, Any] | None:
    """What llama.cpp or vLLM answers at the routes that only look; None: it has no such route."""
    if path == "/v1/models":
        return {"object": "list", "data": [_model(kind)]}
    return _vllm(tokenizer, path, body) if kind == "vllm" else _llama_cpp(tokenizer, path, body)


def _vllm(tokenizer: Tokenizer, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
    if path == "/tokenize":
        count = tokenizer.prompt(body) if "messages" in body else tokenizer.text(str(body.get("prompt", "")))
        return {"count": count, "max_model_len": 4096, "tokens": list(range(count))}
    return {"version": "0.32.0"} if path == "/version" else None


def _llama_cpp(tokenizer: Tokenizer, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
    if path == "/tokenize":
        return {"tokens": list(range(tokenizer.text(str(body.get("content", "")))))}
    if path == "/apply-template":
        tokenizer.prompt(body)
        return {"prompt": rendered(body)}
    if path == "/props":
        return {"default_generation_settings": {"n_ctx": 4096}, "total_slots": 4, "model_path": "tiny.gguf"}
    return None


def _model(kind: str) -> dict[str, Any]:
    model: dict[str, Any] = {"id": "mock-budget-llm", "object": "model"}
    if kind == "vllm":
        return {**model, "owned_by": "vllm", "max_model_len": 4096}
    if kind == "llama.cpp":
        return {**model, "owned_by": "llamacpp", "meta": {"n_ctx_train": 4096}}
    return model
