"""Declare the tools of the category `ollama`: models by the gateway, on the caller's own budget.

`epad/tools/own_models.py` answers them, through the gateway's listener like any request of the caller.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta

from runners.tools.signature import Args, Result, meta

MOST_PROMPT: Final = 64 << 10
MOST_TOKENS: Final = 8_192


class ModelsArgs(Args, frozen=True):
    """Holds nothing."""


class ModelsResult(Result, frozen=True):
    """Holds the names of the models that the gateway routes."""

    models: list[str]


OLLAMA_MODELS: Final = meta(
    "ollama_models",
    ModelsArgs,
    ModelsResult,
    risk="M1",
    timeout=15,
    description="The models that the gateway leads to.",
    examples=({},),
)
ollama_models = OLLAMA_MODELS.answered_by_daemon()


class GenerateArgs(Args, frozen=True):
    """Holds a model, a prompt of at most 65,536 characters, and the most tokens of its answer."""

    model: Annotated[str, Meta(min_length=1, max_length=200)]
    prompt: Annotated[str, Meta(min_length=1, max_length=MOST_PROMPT)]
    max_tokens: Annotated[int, Meta(ge=1, le=MOST_TOKENS)]


class GenerateResult(Result, frozen=True):
    """Holds the text, the tokens as the server counted them, and the model's turn in the ledger."""

    text: str
    input_tokens: int
    output_tokens: int
    turn: str


OLLAMA_GENERATE: Final = meta(
    "ollama_generate",
    GenerateArgs,
    GenerateResult,
    risk="M1",
    timeout=300,
    description="Ask a model one prompt, on your own budget.",
    examples=({"model": "tiny", "prompt": "Say hello.", "max_tokens": 16},),
)
ollama_generate = OLLAMA_GENERATE.answered_by_daemon()

TOOLS: Final = (OLLAMA_GENERATE, OLLAMA_MODELS)
