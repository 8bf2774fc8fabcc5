"""What every dialect is, and the values that requests and answers are reduced to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Protocol

from msgspec import Meta

from epad.gateway.refusal import Refusal

Tokens = Annotated[int, Meta(ge=0)]


@dataclass(frozen=True, slots=True)
class OutputLimits:
    """What `[gateway]` says about a request's output, and about the prompt beside its own bytes."""

    default_tokens: int
    max_tokens: int
    template_tokens: int

    def cap(self, wish: int | None) -> int:
        """The most output tokens a choice may have; no wish, or one for no limit, gets the default."""
        if wish is None or wish <= 0:
            return min(self.default_tokens, self.max_tokens)
        return min(wish, self.max_tokens)


@dataclass(frozen=True, slots=True)
class Ask:
    """A request, as far as metering needs. `body` is what is forwarded, with the cap written into it.

    `prompt_bound` is None where the body's bytes say nothing about the prompt's tokens: images, audio, search.
    """

    model: str
    stream: bool
    prompt_bound: int | None
    output_cap: int
    choices: int
    wants_usage: bool
    body: bytes
    prompt_digest: bytes

    def prompt_tokens(self, context_tokens: int) -> int | None:
        """The most tokens the prompt can have on an upstream with this context; None if nothing bounds it."""
        if self.prompt_bound is None:
            return context_tokens or None
        return min(self.prompt_bound, context_tokens) if context_tokens else self.prompt_bound

    @property
    def output_tokens(self) -> int:
        """The most tokens the answer can have."""
        return self.choices * self.output_cap


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """The upstream's own count; None where it gave none, which is not 0."""

    input_tokens: int | None = None
    output_tokens: int | None = None


class StreamMeter(Protocol):
    """Reads a streamed answer as it passes, whole events at a time."""

    usage: TokenUsage | None
    chunks: int
    complete: bool
    failed: bool

    def feed(self, data: bytes) -> bytes:
        """Take what came; return what goes on to the client."""
        ...

    def finish(self) -> bytes:
        """The upstream has ended: return what is left."""
        ...


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The route that lists models: where the list lies in the answer, and a model's name in its entry."""

    path: str
    entries: str
    name: str
    envelope: Mapping[str, str]


class Endpoint(Protocol):
    """One metered route of a dialect."""

    @property
    def dialect(self) -> Dialect: ...

    @property
    def path(self) -> str: ...

    def parse(self, body: bytes) -> Ask:
        """Read a request. Raises RequestError."""
        ...

    def usage(self, body: bytes) -> TokenUsage | None:
        """The usage in a whole answer."""
        ...

    def meter(self, ask: Ask) -> StreamMeter:
        """Something to read a streamed answer with."""
        ...


class Dialect(Protocol):
    """A family of routes with one shape of errors."""

    @property
    def name(self) -> str: ...

    @property
    def catalogue(self) -> Catalogue: ...

    def error_body(self, refusal: Refusal) -> bytes:
        """A refusal as a whole answer."""
        ...

    def cut(self, refusal: Refusal) -> bytes:
        """The end of a stream that is broken off: the dialect's error and terminator."""
        ...
