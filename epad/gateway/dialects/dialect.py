"""Define the dialects, and the values that requests and answers are reduced to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Protocol

from msgspec import Meta, Struct

from epad.gateway.dialects.body import JsonObject
from epad.gateway.dialects.history import NO_HISTORY, History
from epad.gateway.dialects.reply import Reply
from epad.gateway.dialects.seen import Seen, Whole
from epad.gateway.dialects.usage import TokenUsage
from epad.gateway.refusal import Refusal

Tokens = Annotated[int, Meta(ge=0)]


@dataclass(frozen=True, slots=True)
class OutputLimits:
    """Holds the limits of `[gateway]` on a request's output, and on the prompt beside its own bytes."""

    default_tokens: int
    max_tokens: int
    template_tokens: int

    def cap(self, wish: int | None) -> int:
        """Return the most output tokens a choice may have; no wish, or one for no limit, gets the default."""
        return min(self.default_tokens if wish is None else wish, self.max_tokens)


class Habits(Struct, frozen=True, gc=False):
    """Says which values written by epad an upstream takes.

    `caps` are the fields that cap an answer there, the first of them is the one to write; `usage_option` says
    whether it takes `stream_options`; `zero_is_none` whether a cap of 0 means no output, and not output without end.
    """

    caps: tuple[str, ...] = ("max_tokens",)
    usage_option: bool = True
    zero_is_none: bool = False


class Ask(Struct, frozen=True):
    """Holds a request, as far as metering needs; `fields` is the body as it came.

    `model` is empty if none is named. `prompt_bound` is None if the body's bytes tell nothing about the prompt's
    tokens: images, audio, search. `wish` is the output asked for in each choice, None if there is no cap or one that
    means no limit; 0 asks for the prompt alone. A request that `generates` nothing has no output in any case. A request
    may hold several prompts, each of which fills a context of its own; `context_wish` is the context that the request
    itself asks the server for. `caps` are those that the body names, if they have been read already.
    """

    model: str
    stream: bool
    prompt_bound: int | None
    wish: int | None
    choices: int
    wants_usage: bool
    fields: JsonObject
    prompt_digest: bytes
    prompts: int = 1
    context_wish: int = 0
    history: History = NO_HISTORY
    generates: bool = True
    caps: Mapping[str, int] | None = None

    def prompt_tokens(self, context_tokens: int) -> int | None:
        """The most tokens the prompts can have on an upstream with this context; None if nothing bounds them."""
        if not context_tokens:
            return self.prompt_bound
        context = max(context_tokens, self.context_wish) * self.prompts
        if self.prompt_bound is None:
            return context
        return min(self.prompt_bound, context)


class StreamMeter(Protocol):
    """Reads a streamed answer as it passes, whole events at a time."""

    usage: TokenUsage | None
    chunks: int
    complete: bool
    failed: bool
    reply: Reply

    def feed(self, data: bytes) -> bytes:
        """Take bytes that came; return those that go on to the client."""
        ...

    def most_tokens(self) -> int:
        """The most tokens that have come: each is a byte of text or more, and several may come in one chunk."""
        ...

    def read_lines(self) -> None:
        """Take each line for an event."""
        ...

    @property
    def absurd(self) -> str:
        """Name the absurd count and its field; empty if there was none."""
        ...

    def seen(self) -> Seen:
        """Return the answer so far, as far as its cost goes."""
        ...

    def finish(self) -> bytes:
        """Take the upstream's end; return the remaining bytes."""
        ...

    def cut(self, refusal: Refusal) -> bytes:
        """Return the end of a stream that is broken off here: the dialect's error and terminator."""
        ...

    def stop(self, why: str, input_tokens: int, output_tokens: int) -> bytes:
        """The end of an answer that is ended here although its server would go on, as if it had reached its cap."""
        ...


class Endpoint(Protocol):
    """Describes one metered route of a dialect."""

    @property
    def dialect(self) -> Dialect: ...

    @property
    def path(self) -> str: ...

    def parse(self, body: bytes) -> Ask:
        """Read a request. Raises RequestError."""
        ...

    def write(self, ask: Ask, cap: int, habits: Habits) -> bytes:
        """The request's body as an upstream of these habits gets it, with the cap of each choice written into it."""
        ...

    def read(self, body: bytes) -> Whole:
        """Read a whole answer."""
        ...

    def usage(self, body: bytes) -> TokenUsage | None:
        """Return the usage in a whole answer."""
        ...

    def reply(self, body: bytes) -> Reply:
        """Return the text of a whole answer."""
        ...

    def meter(self, ask: Ask) -> StreamMeter:
        """Something to read a streamed answer with."""
        ...


class Dialect(Protocol):
    """A family of routes with one shape of errors, and one of its list of models."""

    @property
    def name(self) -> str: ...

    @property
    def catalogue(self) -> Catalogue: ...

    def error_body(self, refusal: Refusal) -> bytes:
        """Return a refusal as a whole answer."""
        ...


@dataclass(frozen=True, slots=True)
class Catalogue:
    """A route whose answer is every upstream's list: its place in the answer, a model's name in an entry."""

    path: str
    entries: str
    name: str
    envelope: Mapping[str, object]
