"""Declare the tool that keeps prompts. The daemon answers it."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct

from runners.tools.signature import Args, Result, meta


class LibraryArgs(Args, frozen=True):
    """Names a prompt, and has its text where it is to be saved."""

    name: Annotated[str, Meta(min_length=1, max_length=120)] | None = None
    save: Annotated[str, Meta(min_length=1, max_length=8192)] | None = None


class Prompt(Struct, frozen=True):
    """A prompt, and where it comes from."""

    name: str
    text: str
    source: str


class LibraryResult(Result, frozen=True):
    """Holds prompts, the newest first."""

    prompts: list[Prompt]


PROMPT_LIBRARY: Final = meta(
    "prompt_library",
    LibraryArgs,
    LibraryResult,
    risk="W0",
    timeout=10,
    description="List saved prompts, get one by name, or save one.",
    examples=({"name": "review", "save": "Review this diff for errors: $diff"},),
)
TOOLS: Final = (PROMPT_LIBRARY,)

prompt_library = PROMPT_LIBRARY.answered_by_daemon()
