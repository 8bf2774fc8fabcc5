"""The most tokens a prompt can have: by its bytes, by what its server counted before, or by the server's tokenizer.

A byte-level tokenizer makes no more tokens than there are bytes, but five times fewer is usual. What a server counted
for the beginning of a conversation is exact, and holds for the next request of the same conversation: a chat template
ends every message with a token of its own, so what comes after a message changes no token of it. What a server puts
before a prompt by itself (a system prompt of the model's, words about tools) is in no body: it is learnt from the first
usage that shows it, and reserved from then on.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

from epad.gateway.dialects.dialect import Ask
from epad.gateway.upstream import Upstream

# Each is some hundred bytes.
MOST_CONVERSATIONS = 4_096
MOST_MODELS = 1_024
MOST_UNSAID_TOKENS = 32_768
"""More than any model's own system prompt has: a count beyond that is no prompt's."""
# Beside the messages, what a template puts into a prompt, or what makes a server put something.
_SURROUNDINGS = (
    "tools", "functions", "tool_choice", "response_format", "chat_template_kwargs", "documents", "reasoning_effort",
    "reasoning", "think", "thinking", "format", "instructions",
)  # fmt: skip
# A token of more bytes than that is rare; a count below it is none of the whole prompt: Ollama leaves out what it had
# cached (ollama#3427).
MOST_BYTES_A_TOKEN = 24


@dataclass(frozen=True, slots=True)
class PromptBound:
    """How many tokens a prompt has at most, and by what: its bytes, a count of its beginning, or a tokenizer."""

    tokens: int
    by: Literal["bytes", "history", "tokenizer"] = "bytes"


class Prompts:
    """What is known of the prompts of each model at each upstream."""

    def __init__(self, template_tokens: int) -> None:
        self._template_tokens = template_tokens
        self._counted: OrderedDict[tuple[str, ...], int] = OrderedDict()
        self._unsaid: OrderedDict[tuple[str, str, bool], int] = OrderedDict()
        self._untrusted: set[tuple[str, str, str]] = set()

    def bound(self, upstream: Upstream, dialect: str, ask: Ask) -> PromptBound | None:
        """Bound a prompt as one upstream would count it; None if nothing does."""
        tokens = ask.prompt_tokens(upstream.context(ask.model))
        if not tokens:  # nothing bounds it; or none is read, where tokens are only counted
            return None if tokens is None else PromptBound(0)
        tokens += self.unsaid(upstream, dialect, ask)
        counted = self._by_history(upstream, ask) if ask.prompt_bound is not None else None
        if counted is not None and counted < tokens:
            return PromptBound(counted, "history")
        return PromptBound(tokens)

    def unsaid(self, upstream: Upstream, dialect: str, ask: Ask) -> int:
        """What the server puts before a prompt by itself, at most, as far as is known."""
        tools = ask.fields.has("tools")
        published = upstream.server_for(dialect).tool_preamble(ask.model) if tools else 0
        return max(published, self._unsaid.get((upstream.name, ask.model, tools), 0))

    def trusts(self, upstream: Upstream, model: str, by: str) -> bool:
        """Say whether what bounds a model's prompts, other than their bytes, has never been found too low."""
        return (upstream.name, model, by) not in self._untrusted

    def counted(self, upstream: Upstream, ask: Ask, bound: PromptBound, tokens: int) -> bool:
        """Learn from the server's own count of a prompt; say whether what its bound lacked is known from now on."""
        more = tokens > bound.tokens
        if tokens > bound.tokens + MOST_UNSAID_TOKENS or (more and ask.prompt_bound is None):
            return False  # its count is wrong, or its context is
        if more and bound.by != "bytes":
            # Its template renders what was said before anew, or its tokenizer counts something else.
            self._untrusted.add((upstream.name, ask.model, bound.by))
        elif more:
            # How much of it is the prompt's own is not known; all of it is what it can be at most.
            self._remember_unsaid((upstream.name, ask.model, ask.fields.has("tools")), tokens)
        self._remember(upstream, ask, tokens)
        return more

    def _by_history(self, upstream: Upstream, ask: Ask) -> int | None:
        history = ask.history
        if len(history.digests) < 2 or not self.trusts(upstream, ask.model, "history"):
            return None
        place = _place(upstream, ask)
        for digest, size in zip(history.digests[-2::-1], history.sizes[-2::-1], strict=True):
            counted = self._counted.get((*place, digest.hex()))
            if counted is not None:
                return counted + history.sizes[-1] - size + self._template_tokens
        return None

    def _remember(self, upstream: Upstream, ask: Ask, tokens: int) -> None:
        history = ask.history
        if not history.digests or tokens * MOST_BYTES_A_TOKEN < history.sizes[-1]:
            return
        place = _place(upstream, ask)
        shorter = [self._counted.get((*place, digest.hex()), 0) for digest in history.digests[:-1]]
        if tokens <= max(shorter, default=0):
            return  # less than of a shorter prompt: what was cached is left out
        key = (*place, history.digests[-1].hex())
        self._counted[key] = max(tokens, self._counted.get(key, 0))
        self._counted.move_to_end(key)
        if len(self._counted) > MOST_CONVERSATIONS:
            self._counted.popitem(last=False)

    def _remember_unsaid(self, key: tuple[str, str, bool], tokens: int) -> None:
        self._unsaid[key] = max(tokens, self._unsaid.get(key, 0))
        if len(self._unsaid) > MOST_MODELS:
            self._unsaid.popitem(last=False)


def _place(upstream: Upstream, ask: Ask) -> tuple[str, str, str]:
    """What a count holds for beside the messages: the server, the model, and what the template is given."""
    around = hashlib.sha256()
    for name in _SURROUNDINGS:
        raw = ask.fields.values.get(name)
        if raw is not None:
            around.update(name.encode() + b"\0")
            around.update(raw)
    return upstream.name, ask.model, around.hexdigest()
