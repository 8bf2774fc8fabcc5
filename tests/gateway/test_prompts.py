"""How large a prompt can be: by its bytes, by counts of its beginning, and with what its server puts before it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from asking import LIMITS
from hypothesis import given
from hypothesis import strategies as st

from epad.configuration.schema import UpstreamConfig
from epad.gateway.dialects.anthropic import Anthropic, Messages
from epad.gateway.dialects.dialect import Ask
from epad.gateway.dialects.openai import ChatCompletions, OpenAI
from epad.gateway.health import Health
from epad.gateway.prompts import MOST_MODELS, MOST_UNSAID_TOKENS, PromptBound, Prompts
from epad.gateway.server_detection import MODELS
from epad.gateway.upstream import Upstream
from epad.gateway.upstream_making import make_upstream
from statemachine.clock import ManualClock

_CHAT = ChatCompletions(OpenAI(), LIMITS)
_MESSAGES = Messages(Anthropic(), LIMITS)
TEMPLATE = LIMITS.template_tokens


def upstream(context: int = 0, **config: Any) -> Upstream:
    made = UpstreamConfig(url="http://127.0.0.1:1", dialects=("openai",), context_tokens=context, **config)
    return make_upstream("u", made, "", Health(ManualClock()))


def said(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": text}


def asked(*messages: dict[str, Any], model: str = "m", **fields: Any) -> Ask:
    return _CHAT.parse(json.dumps({"model": model, "messages": list(messages), **fields}).encode())


class Told:
    """A server that is asked, and counts."""

    def __init__(self, at: Upstream | None = None) -> None:
        self.prompts = Prompts(TEMPLATE)
        self.at = at or upstream()

    def bound(self, ask: Ask) -> PromptBound:
        bound = self.prompts.bound(self.at, "openai", ask)
        assert bound is not None
        return bound

    def counts(self, ask: Ask, tokens: int) -> bool:
        return self.prompts.counted(self.at, ask, self.bound(ask), tokens)


HELLO, HI, MORE = said("user", "hello" * 40), said("assistant", "hi there"), said("user", "and now?")


class TestHistory:
    def test_what_was_counted_of_the_beginning_holds_and_the_rest_is_bounded_by_its_bytes(self) -> None:
        told = Told()
        assert not told.counts(asked(HELLO), 60)
        grown = asked(HELLO, HI, MORE)
        new = sum(len(json.dumps(message)) for message in (HI, MORE))
        assert told.bound(grown) == PromptBound(60 + new + TEMPLATE, "history")

    def test_an_agent_of_six_calls_needs_less_than_a_third_more_than_it_uses(self) -> None:
        """S6 of agent-budget-semantics: the script's own counts, about 300 bytes of messages more with every call."""
        told, spent = Told(), 0
        tools = [{"type": "function", "function": {"name": "f", "description": "x" * 200}}]
        messages, largest = [said("user", "x" * 60)], 0
        for prompt, completion in ((60, 25), (120, 30), (160, 25), (190, 30), (220, 30), (260, 40)):
            ask = asked(*messages, tools=tools)
            largest = max(largest, spent + told.bound(ask).tokens + completion)
            assert not told.counts(ask, prompt)
            spent += prompt + completion
            messages += [said("assistant", "y" * 110), said("tool", "z" * 110)]
        assert spent == 1_190
        assert largest <= 1_600

    @pytest.mark.parametrize(
        "around",
        [{"truncate_prompt_tokens": 30}, {"options": {"num_ctx": 64}}, {"tools": []}, {"documents": [{"text": "x"}]},
         {"chat_template_kwargs": {"enable_thinking": False}}, {"transforms": ["middle-out"]}, {"never_heard_of": 1}],
    )  # fmt: skip
    def test_a_count_holds_only_where_nothing_else_can_change_the_prompt(
        self, around: dict[str, Any]
    ) -> None:
        """Whoever has the prompt cut away once would be believed a small count of all of it."""
        told = Told()
        told.counts(asked(HELLO, **around), 30)
        assert told.bound(asked(HELLO, HI, MORE)).by == "bytes"
        assert told.bound(asked(HELLO, HI, MORE, **around)).by == "history"

    @pytest.mark.parametrize(
        "fields", [{"seed": 4}, {"temperature": 0.5}, {"max_tokens": 9}, {"n": 3}, {"user": "x"}]
    )
    def test_sampling_changes_no_prompt(self, fields: dict[str, Any]) -> None:
        told = Told()
        told.counts(asked(HELLO), 60)
        assert told.bound(asked(HELLO, HI, MORE, **fields)).by == "history"

    def test_another_model_server_or_beginning_is_another_prompt(self) -> None:
        told = Told()
        told.counts(asked(HELLO), 60)
        assert told.bound(asked(HELLO, HI, MORE, model="other")).by == "bytes"
        assert told.bound(asked(said("user", "hullo" * 40), HI, MORE)).by == "bytes"
        other = upstream()
        other.name = "v"
        bound = told.prompts.bound(other, "openai", asked(HELLO, HI, MORE))
        assert bound is not None
        assert bound.by == "bytes"

    def test_a_count_below_that_of_a_shorter_prompt_is_not_taken(self) -> None:
        """Ollama left out what it had cached: ollama#3427."""
        told = Told()
        told.counts(asked(HELLO), 60)
        told.counts(asked(HELLO, HI, MORE), 20)
        longest = asked(HELLO, HI, MORE, HI, MORE)
        new = 2 * sum(len(json.dumps(message)) for message in (HI, MORE))
        assert told.bound(longest).tokens == 60 + new + TEMPLATE

    def test_a_count_that_no_tokenizer_makes_of_so_much_text_is_not_taken(self) -> None:
        told = Told()
        told.counts(asked(HELLO), 3)
        assert told.bound(asked(HELLO, HI, MORE)).by == "bytes"

    def test_a_template_that_renders_old_messages_anew_is_not_trusted_again(self) -> None:
        told = Told()
        told.counts(asked(HELLO), 60)
        grown = asked(HELLO, HI, MORE)
        assert told.counts(grown, told.bound(grown).tokens + 1), "and the client is not shut out for it"
        assert told.bound(asked(HELLO, HI, MORE, HI, MORE)).by == "bytes"

    @given(
        texts=st.lists(st.text(max_size=60), min_size=1, max_size=8),
        a_message=st.integers(0, 6),
        preamble=st.integers(0, TEMPLATE - 3),
        bytes_a_token=st.integers(1, 5),
    )
    def test_the_bound_never_falls_below_what_an_additive_tokenizer_counts(
        self, texts: list[str], a_message: int, preamble: int, bytes_a_token: int
    ) -> None:
        told, messages = Told(), []
        for text in texts:
            messages += [said("user", text), said("assistant", text[::-1])]
            ask = asked(*messages)
            counted = preamble + 3  # the beginning of the answer
            for message in messages:
                size = len(message["content"].encode("utf-8", "surrogatepass"))
                counted += a_message + -(-size // bytes_a_token)
            assert told.bound(ask).tokens >= counted
            assert not told.counts(ask, counted)


class TestUnsaid:
    def test_a_models_own_system_prompt_is_learnt_from_the_first_count_and_reserved(self) -> None:
        told, short = Told(), asked(said("user", "hi"))
        before = told.bound(short).tokens
        assert told.counts(short, 310)
        assert before + 310 >= told.bound(short).tokens >= 310
        for text in ("x" * 50, "no", "what is this?"):
            ask = asked(said("user", text))
            assert not told.counts(ask, 300 + len(text))

    def test_it_is_another_one_with_tools(self) -> None:
        tools = [{"type": "function", "function": {"name": "f"}}]
        told = Told()
        assert told.counts(asked(said("user", "hi"), tools=tools), 500)
        plain = asked(said("user", "hi"))
        assert told.bound(plain).tokens < 200

    def test_anthropics_preamble_of_tools_is_known_before(self) -> None:
        at = upstream(server="anthropic")
        body = {"model": "claude-sonnet-4", "max_tokens": 5, "messages": [said("user", "hi")]}
        plain = _MESSAGES.parse(json.dumps(body).encode())
        with_tools = _MESSAGES.parse(
            json.dumps({**body, "tools": [{"name": "f", "input_schema": {}}]}).encode()
        )
        prompts = Prompts(TEMPLATE)
        assert prompts.unsaid(at, "anthropic", plain) == 0
        assert prompts.unsaid(at, "anthropic", with_tools) == 346

    def test_a_large_prompt_of_dense_text_does_not_starve_the_small_ones(self) -> None:
        """Each of its bytes is a token, so what its count exceeds its bytes by is all that it proves."""
        told = Told()
        dense = asked(said("user", "~" * 20_000))
        assert told.counts(dense, told.bound(dense).tokens + 250)
        assert told.bound(asked(said("user", "hi"))).tokens < 1_600
        told.counts(asked(said("user", "hi")), 310)
        assert told.bound(asked(said("user", "hi"))).tokens < 500, (
            "and the smallest count says how much it is at most"
        )

    def test_a_count_that_is_nonsense_is_not_learnt(self) -> None:
        told, ask = Told(), asked(HELLO)
        before = told.bound(ask).tokens
        assert not told.counts(ask, before + MOST_UNSAID_TOKENS + 1)
        assert told.bound(ask).tokens == before

    def test_nonsense_in_small_steps_comes_to_an_end(self) -> None:
        told, ask = Told(), asked(HELLO)
        learnt = [told.counts(ask, told.bound(ask).tokens + MOST_UNSAID_TOKENS // 2) for _ in range(10)]
        assert False in learnt
        assert told.bound(ask).tokens < 3 * MOST_UNSAID_TOKENS

    def test_made_up_names_for_the_one_model_share_what_is_learnt(self) -> None:
        """llama-server takes any name: a new one for every turn would overshoot with every turn."""
        told = Told()
        told.at.profile.looked(MODELS, 200, {}, b'{"data":[{"id":"real"}]}')
        assert told.counts(asked(said("user", "hi"), model="a"), 310)
        for number in range(MOST_MODELS + 5):
            assert not told.counts(asked(said("user", "hi"), model=f"b{number}"), 310)
        assert told.bound(asked(said("user", "hi"), model="real")).tokens < 200

    def test_a_context_that_bounds_the_prompt_has_the_unsaid_in_it(self) -> None:
        told = Told(upstream(context=4_096))
        told.counts(asked(said("user", "hi")), 310)
        picture = asked({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]})
        assert told.bound(picture) == PromptBound(4_096)
        assert not told.counts(picture, 4_000)


def test_nothing_bounds_a_picture_without_a_context() -> None:
    picture = asked({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]})
    assert Prompts(TEMPLATE).bound(upstream(), "openai", picture) is None
