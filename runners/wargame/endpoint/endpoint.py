"""Describe a server that serves models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Dialect = Literal["openai", "ollama"]
Structured = Literal["json_schema", "structured_outputs", "guided_json", "none"]
"""How the verdict's schema is asked for. `json_schema` is understood by vLLM, Ollama's /v1 and llama.cpp alike;
the next two are vLLM's own, from 0.12 and before it."""

DEFAULT_MAX_IN_FLIGHT = 64


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Describes one server. `loaded_models` above 0: it swaps models in and out, so calls are batched by model."""

    name: str
    base_url: str
    key: str = ""
    dialect: Dialect = "openai"
    structured: Structured = "json_schema"
    max_in_flight: int = DEFAULT_MAX_IN_FLIGHT
    start_in_flight: int = 4
    loaded_models: int = 0
    context_tokens: int = 0
    """Ollama's num_ctx; 0 leaves it to the server, whose default of 4,096 cuts long prompts silently."""
