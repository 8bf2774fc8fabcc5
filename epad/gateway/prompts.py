"""Bound the tokens of a prompt: by its bytes, by its server's former counts, or by the server's tokenizer.

A byte-level tokenizer makes no more tokens than there are bytes, but five times fewer is usual. A server's count for
the beginning of a conversation is exact, and holds for the next request of the same conversation: a chat template ends
every message with a token of its own, so text after a message changes no token of it. The text that a server puts
before a prompt by itself (a system prompt of the model's, words about tools) is in no body: it is learnt from the first
usage that shows it, and reserved from then on.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from msgspec import Struct

from epad.gateway.dialects.caps import CAP_NAMES, CHOICE_NAMES
from epad.gateway.dialects.dialect import Ask
from epad.gateway.upstream import Upstream

# Each is some hundred bytes.
MOST_CONVERSATIONS = 4_096
MOST_MODELS = 1_024
MOST_UNSAID_TOKENS = 32_768
"""More than any model's own system prompt has: a count beyond that is no prompt's."""
# Of the fields of a request those that leave a prompt as it is. Every other may change it: a template gets it, a server
# puts something in because of it, or cuts some of the prompt away.
_NO_PART_OF_IT = frozenset({
    "messages", "input", "model", "stream", "stream_options", "temperature", "top_p", "top_k", "min_p", "seed", "stop",
    "user", "metadata", "store", "logprobs", "top_logprobs", "frequency_penalty", "presence_penalty", "logit_bias",
    "keep_alive", "service_tier", "prompt_cache_key", "safety_identifier", "session_id", "request_id",
    *CAP_NAMES, *CHOICE_NAMES,
})  # fmt: skip
_NOTHING_AROUND = hashlib.sha256().hexdigest()
_MOST_TIMES_PROVEN, _LEAST_GUESSED = 4, 1_024
# A token of more bytes than that is rare; a count below it is none of the whole prompt: Ollama leaves out what it had
# cached (ollama#3427).
MOST_BYTES_A_TOKEN = 24


class PromptBound(Struct, frozen=True, gc=False):
    """Holds the most tokens a prompt has, and the source: its bytes, a count of its beginning, or a tokenizer."""

    tokens: int
    by: Literal["bytes", "history", "tokenizer"] = "bytes"


@dataclass(slots=True)
class _Unsaid:
    """Holds the size of a server's own text before a model's prompts: `proven`, and at most the `smallest` count."""

    proven: int = 0
    smallest: int = 0

    @property
    def most(self) -> int:
        """Return the likely most; the count of a prompt of dense text tells little of it."""
        if not self.proven:
            return 0
        guessed = max(_MOST_TIMES_PROVEN * self.proven, self.proven + _LEAST_GUESSED)
        return max(self.proven, min(self.smallest, guessed))


class Prompts:
    """Keeps the knowledge about the prompts of each model at each upstream.

    A newly configured upstream is another one, even under the same name: a turn under way teaches nothing about later
    requests.
    """

    def __init__(self, template_tokens: int) -> None:
        self._template_tokens = template_tokens
        self._counted: OrderedDict[tuple[Upstream, str, str, bytes], int] = OrderedDict()
        self._unsaid: OrderedDict[tuple[Upstream, str, bool], _Unsaid] = OrderedDict()
        self._untrusted: set[tuple[Upstream, str, str]] = set()

    def forget(self, upstreams: Iterable[Upstream]) -> None:
        """Keep nothing of upstreams that are asked no more."""
        gone = frozenset(upstreams)
        if not gone:
            return
        self._counted = OrderedDict((key, n) for key, n in self._counted.items() if key[0] not in gone)
        self._unsaid = OrderedDict((key, known) for key, known in self._unsaid.items() if key[0] not in gone)
        self._untrusted = {key for key in self._untrusted if key[0] not in gone}

    def bound(self, upstream: Upstream, dialect: str, ask: Ask) -> PromptBound | None:
        """Bound a prompt as one upstream would count it; None if nothing does."""
        tokens = ask.prompt_tokens(upstream.profile.context(ask.model))
        if not tokens:  # nothing bounds it; or none is read, where tokens are only counted
            return None if tokens is None else PromptBound(0)
        if ask.prompt_bound is None:
            return PromptBound(tokens)  # all that a context holds is in it already
        tokens += self.unsaid(upstream, dialect, ask)
        counted = self._by_history(upstream, ask)
        if counted is not None and counted < tokens:
            return PromptBound(counted, "history")
        return PromptBound(tokens)

    def unsaid(self, upstream: Upstream, dialect: str, ask: Ask) -> int:
        """Return the most that the server puts before a prompt by itself, as far as is known."""
        tools = ask.fields.has("tools")
        published = upstream.server_for(dialect).tool_preamble(ask.model) if tools else 0
        learnt = self._unsaid.get((*_model(upstream, ask), tools))
        return max(published, learnt.most) if learnt is not None and learnt.proven else published

    def trusts(self, upstream: Upstream, ask: Ask, by: str) -> bool:
        """Tell if a model's bounds other than the prompts' bytes have never been found too low."""
        return (*_model(upstream, ask), by) not in self._untrusted

    def counted(self, upstream: Upstream, ask: Ask, bound: PromptBound, tokens: int) -> bool:
        """Learn from the server's own count of a prompt; tell if the missing part of its bound is known from now on."""
        said = ask.prompt_tokens(upstream.profile.context(ask.model))
        if not said or ask.prompt_bound is None:
            return False
        proven = tokens - said if tokens > said else 0
        if proven > MOST_UNSAID_TOKENS:
            return False  # its count is wrong, or its context is
        more = tokens > bound.tokens
        if more and bound.by != "bytes":
            # Its template renders what was said before anew, or its tokenizer counts something else.
            self._untrusted.add((*_model(upstream, ask), bound.by))
        if tokens * MOST_BYTES_A_TOKEN >= len(ask.fields.text):
            key = (*_model(upstream, ask), ask.fields.has("tools"))
            known = self._unsaid.get(key)
            if known is None or known.proven < proven or tokens < known.smallest:
                self._learn_unsaid(key, proven, tokens)
        self._remember(upstream, ask, tokens)
        return more

    def _by_history(self, upstream: Upstream, ask: Ask) -> int | None:
        history = ask.history
        if len(history.digests) < 2 or not self.trusts(upstream, ask, "history"):
            return None
        place = _place(upstream, ask)
        for digest, size in zip(history.digests[-2::-1], history.sizes[-2::-1], strict=True):
            counted = self._counted.get((*place, digest))
            if counted is not None:
                return counted + history.sizes[-1] - size + self._template_tokens
        return None

    def _remember(self, upstream: Upstream, ask: Ask, tokens: int) -> None:
        history = ask.history
        if not history.digests or tokens * MOST_BYTES_A_TOKEN < history.sizes[-1]:
            return
        place = _place(upstream, ask)
        shorter = [self._counted.get((*place, digest), 0) for digest in history.digests[:-1]]
        if shorter and tokens <= max(shorter):
            return  # less than of a shorter prompt: what was cached is left out
        key = (*place, history.digests[-1])
        known = self._counted.pop(key, 0)
        self._counted[key] = max(known, tokens)
        if len(self._counted) > MOST_CONVERSATIONS:
            self._counted.popitem(last=False)

    def _learn_unsaid(self, key: tuple[Upstream, str, bool], proven: int, tokens: int) -> None:
        known = self._unsaid.get(key)
        if known is None:
            self._unsaid[key] = _Unsaid(proven, tokens)
            if len(self._unsaid) > MOST_MODELS:
                self._unsaid.popitem(last=False)
            return
        known.proven = max(known.proven, proven)
        known.smallest = min(known.smallest, tokens)
        if known.smallest < known.proven:  # it was of another kind of request
            known.smallest = tokens


def _model(upstream: Upstream, ask: Ask) -> tuple[Upstream, str]:
    """Return the server and the model.

    Some servers take any name for the one model that they have: these are one here.
    """
    known = ask.model in upstream.models or ask.model in upstream.profile.models
    return upstream, ask.model if known else ""


def _place(upstream: Upstream, ask: Ask) -> tuple[Upstream, str, str]:
    """Return the scope of a count beside the messages: the server, the model, and all that may change the prompt."""
    if _NO_PART_OF_IT.issuperset(ask.fields.values):
        return upstream, ask.model, _NOTHING_AROUND
    around = hashlib.sha256()
    for name, raw in sorted(ask.fields.values.items()):
        if name not in _NO_PART_OF_IT:
            around.update(b"%s\0%d\0" % (name.encode("utf-8", "surrogatepass"), len(raw)))
            around.update(raw)
    return upstream, ask.model, around.hexdigest()
