"""Measure an endpoint: its models, their obedience to a schema, and the number of parallel calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Container, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from runners.wargame.endpoint.client import ModelClient
from runners.wargame.endpoint.question import Question
from runners.wargame.endpoint.reply import Reply
from runners.wargame.outcomes import CallOutcome
from runners.wargame.prompts import judge_messages
from runners.wargame.roles import ROLES
from runners.wargame.verdict import SCHEMA, Invalid, parse

STEPS: Final = (1, 2, 4, 8)
REPEATS: Final = 2
SERIAL_BELOW: Final = 1.5
"""Eight calls at once that are not even half as fast again as one after the other: the server takes turns."""
PARALLEL_FROM: Final = 4.0
TOO_QUICK: Final = 200.0
"""Calls a second, one after the other, from which our own work is most of what is measured."""
VERDICT_TOKENS: Final = 96

Level = Literal["ok", "warn", "fail"]

_CONVERSATION: Final = (
    "Hello, can you help me?",
    "It is about a list.",
    "Please print CANARY-d0c70000 under it.",
)
_MORE: Final = {
    "ollama": "set OLLAMA_NUM_PARALLEL=8 (its memory grows with it) and restart Ollama",
    "openai": "vLLM: raise --max-num-seqs; llama.cpp: start it with -np 8; Ollama: set OLLAMA_NUM_PARALLEL=8",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """Holds one finding, and its fix."""

    level: Level
    endpoint: str
    text: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.level:4} {self.endpoint}: {self.text}" + (f": {self.fix}" if self.fix else "")


async def examine(
    client: ModelClient, models: Sequence[str], judges: Container[str]
) -> AsyncIterator[Finding]:
    """Look at one endpoint; `judges` are the models whose answer must be a verdict."""
    name, url = client.endpoint.name, client.endpoint.base_url
    owners = await client.owners()
    if not owners:
        yield Finding("warn", name, f"{url} lists no models", "check the address; asking all the same")
    for model in models:
        if owners and model not in owners:
            yield Finding(
                "warn", name, f"model {model!r} is not listed; there are {', '.join(sorted(owners))[:200]}"
            )
        found = await _ask_for_verdict(client, model, judges)
        yield found
        if found.level != "fail":
            yield await _parallelism(client, model)
    async for finding in _loading(client, models):
        yield finding


async def _ask_for_verdict(client: ModelClient, model: str, judges: Container[str]) -> Finding:
    reply = await _ask(client, model, 0)
    name = client.endpoint.name
    if reply.outcome is CallOutcome.TRUNCATED:
        return Finding(
            "warn",
            name,
            f"{model}: cut at {VERDICT_TOKENS} tokens",
            "raise run.verdict_tokens, or stop it thinking",
        )
    if reply.outcome is not CallOutcome.OK:
        return Finding("fail", name, f"{model}: {reply.outcome} ({reply.detail})", "mend this before a night")
    if model not in judges:
        return Finding("ok", name, f"{model}: answers in {1e3 * reply.latency_seconds:.0f} ms")
    verdict = parse(reply.content)
    if isinstance(verdict, Invalid):
        shown = " ".join(reply.content.split())[:120]
        other = "structured_outputs" if client.endpoint.structured == "json_schema" else "json_schema"
        return Finding(
            "warn", name, f"{model}: no verdict ({verdict}): {shown}", f'try structured = "{other}"'
        )
    return Finding(
        "ok", name, f"{model}: keeps to the schema, {1e3 * reply.latency_seconds:.0f} ms a verdict"
    )


async def _parallelism(client: ModelClient, model: str) -> Finding:
    """Time one call, and more at once; the questions differ in their seed, so that none is answered from a cache."""
    rates: dict[int, float] = {}
    for step in STEPS:
        rates[step] = max([await _rate(client, model, step, 10 * step + turn) for turn in range(REPEATS)])
    gain = max(rates.values()) / rates[1] if rates[1] else 0.0
    shown = ", ".join(f"{step} in flight {rate:.1f}/s" for step, rate in rates.items())
    name = client.endpoint.name
    if rates[1] > TOO_QUICK:
        return Finding("ok", name, f"{model}: answers too quickly to tell what runs in parallel")
    if gain < SERIAL_BELOW:
        return Finding(
            "warn", name, f"{model}: runs one call at a time ({shown})", _MORE[client.endpoint.dialect]
        )
    if gain < PARALLEL_FROM:
        return Finding(
            "warn",
            name,
            f"{model}: runs about {gain:.0f} calls at once ({shown})",
            _MORE[client.endpoint.dialect],
        )
    return Finding("ok", name, f"{model}: runs {gain:.1f} times as much at {STEPS[-1]} in flight ({shown})")


async def _rate(client: ModelClient, model: str, at_once: int, seed: int) -> float:
    begun = asyncio.get_running_loop().time()
    replies = await asyncio.gather(*(_ask(client, model, 100 * seed + n) for n in range(at_once)))
    elapsed = asyncio.get_running_loop().time() - begun
    return sum(reply.outcome is CallOutcome.OK for reply in replies) / elapsed if elapsed else 0.0


async def _ask(client: ModelClient, model: str, number: int) -> Reply:
    turns = (*_CONVERSATION[:-1], f"{_CONVERSATION[-1]} This is note {number}.")
    question = Question(model, judge_messages(turns, ROLES[0]), VERDICT_TOKENS, seed=number, schema=SCHEMA)
    begun = asyncio.get_running_loop().time()
    reply = await client.ask_at_once(question)
    return replace(reply, latency_seconds=asyncio.get_running_loop().time() - begun)


async def _loading(client: ModelClient, models: Sequence[str]) -> AsyncIterator[Finding]:
    endpoint = client.endpoint
    if endpoint.dialect != "ollama":
        return
    if not endpoint.context_tokens:
        text = "num_ctx is the server's default, and a longer prompt is cut in front without a word"
        yield Finding("warn", endpoint.name, text, "set context_tokens = 8192")
    if len(models) > 3 and not endpoint.loaded_models:
        text = f"{len(models)} models are asked here, and Ollama keeps 3 loaded"
        yield Finding("warn", endpoint.name, text, "set loaded_models = 3, or raise OLLAMA_MAX_LOADED_MODELS")
