"""Classify why a model stopped, in every dialect: only its own stop, or a call of a tool, is an end.

A reason that is not known here is no end. Each server invents some, and an answer that a filter or a fault cut, taken
for a whole one, is a vote that nobody gave. No reason at all is taken for an end: some servers give none.
"""

from __future__ import annotations

from typing import Final

from runners.wargame.outcomes import CallOutcome

_ENDS: Final = frozenset(
    {
        "stop",  # OpenAI, Ollama, vLLM, llama.cpp, Gemini (STOP)
        "finish_reason_stop",  # Vertex
        "eos",
        "eos_token",  # TGI
        "end_turn",  # Anthropic
        "end_of_turn",
        "stop_sequence",
        "complete",  # Cohere (COMPLETE)
        "completed",
        "tool_calls",
        "tool_call",
        "tool_use",
        "function_call",
    }
)
_LENGTHS: Final = frozenset(
    {
        "length",
        "max_tokens",  # Anthropic, Gemini (MAX_TOKENS)
        "max_length",
        "max_new_tokens",
        "max_output_tokens",
        "max_completion_tokens",
        "finish_reason_max_tokens",
        "model_length",  # Mistral
        "context_length",
        "context_length_exceeded",
        "model_context_window_exceeded",
        "token_limit",
        "limit",
    }
)
_FAULTS: Final = frozenset(
    {
        "error",
        "server_error",
        "failed",
        "abort",  # vLLM, SGLang
        "aborted",
        "cancelled",
        "canceled",
        "interrupted",
        "timeout",
        "load",  # Ollama, when it answers before it has read the prompt
        "unload",
        "network_error",
        "insufficient_system_resource",  # DeepSeek
    }
)


def outcome_of_ending(reason: str) -> CallOutcome:
    """Return the outcome of an answer with this reason, regardless of its text; `ok` if it ended by itself."""
    word = reason.strip().lower().replace("-", "_")
    if not word or word in _ENDS:
        return CallOutcome.OK
    if word in _LENGTHS:
        return CallOutcome.TRUNCATED
    return CallOutcome.BROKEN_OFF if word in _FAULTS else CallOutcome.CUT
