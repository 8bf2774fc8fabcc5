"""Identify the engine: language models, or the embedded ones, whose results must never pass for an LLM's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final

BANNER: Final = (
    "EMBEDDED ENGINE - no language model was run. A seeded grammar writes the attacks, and word counts and "
    "hand-written rules judge them. The numbers exercise the harness (pace, bookkeeping, statistics); they say "
    "nothing about any LLM and must not be quoted or compared as if they did."
)
MIXED_BANNER: Final = (
    "MIXED ENGINES - some of the models are embedded ones and no language models: no number below describes an "
    "LLM swarm."
)
EMBEDDED_OWNER: Final = "epad-embedded"
EMBEDDED_NAME: Final = "embedded-"


class Engine(StrEnum):
    """Names the kind of models that a run asked."""

    EMBEDDED = "embedded"
    MIXED = "mixed"
    LLM = "llm"

    @property
    def banner(self) -> str:
        """Return the notice to show with every result; empty for language models."""
        return {Engine.EMBEDDED: BANNER, Engine.MIXED: MIXED_BANNER}.get(self, "")


def detect(models: Iterable[str], owners: Mapping[str, str]) -> Engine:
    """Tell the engine from who made the models, as the endpoint lists them, and from their names."""
    embedded = [
        name.startswith(EMBEDDED_NAME) or owners.get(name, "").startswith(EMBEDDED_OWNER) for name in models
    ]
    if all(embedded):
        return Engine.EMBEDDED
    return Engine.MIXED if any(embedded) else Engine.LLM
