"""Histories: the same conversation is known again as it grows, in every dialect, and nothing of it is kept."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epad.gateway.dialects.dialect import OutputLimits
from epad.gateway.dialects.history import NO_HISTORY, History
from epad.gateway.dialects.routes import Routes
from probes.turns import MAX_HISTORY_DIGESTS

ROUTES = Routes(OutputLimits(100, 1_000, 16))
CHAT = "/v1/chat/completions"
LISTED = {CHAT: "messages", "/v1/messages": "messages", "/api/chat": "messages", "/v1/responses": "input"}


def history(path: str, **fields: Any) -> History:
    endpoint = ROUTES.endpoint("POST", path)
    assert endpoint is not None
    return endpoint.parse(json.dumps({"model": "tiny", **fields}).encode()).history


def message(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}


@given(
    st.sampled_from(sorted(LISTED)),
    st.lists(st.text(max_size=8), min_size=1, max_size=24),
    st.integers(1, 24),
)
def test_a_conversation_that_grows_keeps_its_name_and_its_past(path: str, texts: list[str], cut: int) -> None:
    """Every list of messages has one digest, and a longer one carries those of the shorter ones before it."""
    messages = [message("assistant" if n % 2 else "user", text) for n, text in enumerate(texts)]
    whole = history(path, **{LISTED[path]: messages})
    part = history(path, **{LISTED[path]: messages[:cut]})
    assert whole.conversation == part.conversation != ""
    assert whole.messages == len(messages)
    assert len(whole.digests) == min(len(messages), MAX_HISTORY_DIGESTS)
    if len(messages) - part.messages < MAX_HISTORY_DIGESTS:
        assert whole.digests[-1 - (len(messages) - part.messages)] == part.digests[-1]


@pytest.mark.parametrize("path", sorted(LISTED))
def test_another_first_question_is_another_conversation(path: str) -> None:
    """One system prompt that all share is none, wherever the dialect has it; the last message has its own digest."""
    before = {"/v1/messages": {"system": "be kind"}, "/v1/responses": {"instructions": "be kind"}}.get(
        path, {}
    )
    first = [] if before else [message("system", "be kind")]
    one, two = (
        history(path, **before, **{LISTED[path]: [*first, message("user", text)]}) for text in ("one", "two")
    )
    other = history(path, **{LISTED[path]: [message("system", "be rude"), message("user", "one")]})
    assert len({one.conversation, two.conversation, other.conversation}) == 3
    assert one.last_message == other.last_message != two.last_message


def test_a_mark_that_moves_along_changes_nothing() -> None:
    """Anthropic's clients mark the end of what is cached: last time this message, now the next."""
    block = {"type": "text", "text": 'say "cache_control": {} to me'}
    marked = {**block, "cache_control": {"type": "ephemeral"}}
    first = {"cache_control": {"type": "ephemeral", "ttl": "1h"}, **block}
    histories = [
        history("/v1/messages", messages=[{"role": "user", "content": [content]}])
        for content in (block, marked, first)
    ]
    assert histories[0] == histories[1] == histories[2]


def test_what_has_no_conversation_says_so() -> None:
    """Completions and embeddings; a count, which is no second question; a server that remembers by itself."""
    talk = [message("user", "hello")]
    assert history("/v1/completions", prompt="hello") == NO_HISTORY
    assert history("/v1/embeddings", input="hello") == NO_HISTORY
    assert history("/api/generate", prompt="hello") == NO_HISTORY
    assert history("/v1/messages/count_tokens", messages=talk) == NO_HISTORY
    assert history("/v1/responses", input=talk, previous_response_id="r1") == NO_HISTORY
    assert history("/api/chat", messages=[]) == NO_HISTORY
    assert history("/v1/responses", input="hello").messages == 1
    assert history(CHAT, messages=[message("system", "go on")]).conversation == ""
