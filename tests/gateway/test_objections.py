"""What servers say when they refuse what was written into a request, as public issues and their sources show it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from asking import LIMITS

from epad.gateway.dialects.dialect import Ask
from epad.gateway.dialects.openai import ChatCompletions, OpenAI
from epad.gateway.objections import Limit, names_objected, smaller_cap

WRITTEN = ("max_tokens", "stream_options")


def asked(**fields: Any) -> Ask:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}
    return ChatCompletions(OpenAI(), LIMITS).parse(json.dumps(body).encode())


_NAMES = [
    # BerriAI/litellm#13381, ESPHomeDesigner#379
    ({"error": {"message": "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
      "'max_completion_tokens' instead.", "param": "max_tokens", "code": "unsupported_parameter"}}, "max_tokens"),
    # Mistral itself: cline#582, php-mistral#76
    ({"object": "error", "message": {"detail": [{"type": "extra_forbidden", "loc": ["body", "stream_options"],
      "msg": "Extra inputs are not permitted", "input": {"include_usage": True}}]}}, "stream_options"),
    # Azure AI Foundry: litellm#11696
    ({"error": {"code": "Invalid input", "status": 422, "message": '{"detail":[{"type":"extra_forbidden","loc":["body",'
      '"stream_options","include_usage"],"msg":"Extra inputs are not permitted","input":true}]}'}}, "stream_options"),
    # Azure: sample-app-aoai-chatGPT#1260
    ({"error": {"code": 400, "message": "Validation error at #/stream_options: Extra inputs are not permitted"}},
     "stream_options"),
    # TGI, to whose parser both names are one
    ({"error": "Failed to deserialize the JSON body into the target type: duplicate field `max_tokens` at line 1"},
     "max_tokens"),
    # OpenAI, of both at once
    ({"error": {"message": "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported."}},
     "max_tokens"),
    ({"error": {"message": "Unrecognized request argument supplied: stream_options"}}, "stream_options"),
    ({"error": {"message": "Unknown field 'stream_options'"}}, "stream_options"),
]  # fmt: skip


class TestNames:
    @pytest.mark.parametrize(("refusal", "name"), _NAMES)
    def test_what_epad_wrote_is_told(self, refusal: object, name: str) -> None:
        body = json.dumps(refusal).encode()
        assert names_objected(asked(), body, WRITTEN) == (name,)
        null = asked(**{name: None})
        assert names_objected(null, body, WRITTEN) == (name,), "null is nobody's word"

    @pytest.mark.parametrize(("refusal", "name"), _NAMES)
    def test_the_clients_own_word_is_its_own_affair(self, refusal: object, name: str) -> None:
        own = asked(stream=True, **{name: 5 if name == "max_tokens" else {"include_usage": True}})
        assert names_objected(own, json.dumps(refusal).encode(), WRITTEN) == ()

    @pytest.mark.parametrize(
        "text",
        ["max_tokens must be at least 1, got -186.", "max_tokens is too large: 6000.", "invalid api key",
         "unsupported parameter: my_max_tokens_2", ""],
    )  # fmt: skip
    def test_what_is_said_of_a_value_or_of_another_field_is_no_objection_to_a_name(self, text: str) -> None:
        assert names_objected(asked(), text.encode(), WRITTEN) == ()

    def test_what_is_no_text_is_read_as_well(self) -> None:
        assert names_objected(asked(), b"\xff\x00unsupported max_tokens\xfe", WRITTEN) == ("max_tokens",)


_ANSWERS = [
    # vLLM before 0.9 and OpenAI: vllm#20409, NextChat#3195
    (("This model's maximum context length is 2048 tokens. However, you requested 4120 tokens (24 in the messages, "
     "4096 in the completion). Please reduce the length of the messages or completion."), 2_048, True, 2_024),
    # A context that is larger than the cap, a prompt that leaves less.
    (("This model's maximum context length is 8192 tokens. However, you requested 9096 tokens (5000 in the messages, "
     "4096 in the completion)."), 8_192, True, 3_192),
    # vLLM of today: claude-code#272, real.md R4
    (("'max_tokens' or 'max_completion_tokens' is too large: 4096. This model's maximum context length is 2048 tokens "
     "and your request has 37 input tokens (4096 > 2048 - 37)."), 2_048, True, 2_011),
    ("max_tokens=4096 cannot be greater than max_model_len=2048. Please request fewer output tokens.",
     2_048, True, 1_948),
    (("This model's maximum context length is 2048 tokens. However, you requested 4096 output tokens and your prompt "
     "contains at least 1 input tokens, for a total of at least 2049 tokens."), 2_048, True, 1_948),
    # SGLang
    (("Requested token count exceeds the model's maximum context length of 2048 tokens. You requested a total of 4133 "
     "tokens: 37 tokens from the input messages and 4096 tokens for the completion."), 2_048, True, 2_011),
    # TGI: text-generation-inference#628, llm-vscode#94
    (("Input validation error: `inputs` tokens + `max_new_tokens` must be <= 2048. Given: 44 `inputs` tokens and 4096 "
     "`max_new_tokens`"), 2_048, True, 2_004),
    # Anthropic
    ("input length and `max_tokens` exceed context limit: 6000 + 4096 > 8192, decrease input length or `max_tokens`",
     8_192, True, 2_192),
    ("max_tokens: 4096 > 2048, which is the maximum allowed number of output tokens for claude-2", 2_048, False, 2_048),
    # OpenAI: NextChat#3195. It says nothing of how long a prompt may be.
    ("max_tokens is too large: 4096. This model supports at most 2048 completion tokens, whereas you provided 4096.",
     2_048, False, 2_048),
    # DeepSeek: DeepSeek-V3#69
    ("Invalid max_tokens value, the valid range of max_tokens is [1, 2048]", 2_048, False, 2_048),
    # Groq
    (("`max_tokens` must be less than or equal to `2048`, the maximum value for `max_tokens` is less than the "
     "`context_window` for this model"), 2_048, False, 2_048),
    # Volcengine: openclaude#331
    (("The parameter `max_tokens` specified in the request are not valid: integer above maximum value, expected a "
     "value <= 2048, but got 4096 instead."), 2_048, False, 2_048),
]  # fmt: skip


class TestCaps:
    @pytest.mark.parametrize(("text", "limit", "of_context", "fits"), _ANSWERS)
    def test_the_limit_and_what_fits_it_are_read(
        self, text: str, limit: int, of_context: bool, fits: int
    ) -> None:
        body = json.dumps({"error": {"message": text, "code": 400}}).encode()
        assert smaller_cap(body, 4_096, 100) == (Limit(limit, of_context), fits)

    @pytest.mark.parametrize(
        "text",
        ["max_tokens must be at least 1, got -186.",
         "maximum context length is 4097 tokens. However, your messages resulted in 13393 tokens.",
         "maximum context length is 2048 tokens; you requested 7096 tokens (3000 in the messages, 4096 in the)",
         "max_tokens: 5 is not of type string", "temperature must be less than or equal to 2", "", "\x00" * 100],
    )  # fmt: skip
    def test_what_no_smaller_cap_would_mend_is_left(self, text: str) -> None:
        assert smaller_cap(text.encode(), 4_096, 100) is None

    def test_a_cap_that_fits_the_limit_already_is_not_what_is_wrong(self) -> None:
        body = b"max_tokens is too large. This model supports at most 2048 completion tokens"
        assert smaller_cap(body, 2_048, 100) is None
