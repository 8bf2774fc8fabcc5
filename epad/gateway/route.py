"""An upstream, and the way of one turn to those that may serve it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from msgspec import Struct

from epad.configuration.server_kinds import CHAT, Server
from epad.gateway.dialects.dialect import Habits
from epad.gateway.health import Health, State
from epad.gateway.http.message import Field
from epad.gateway.http.pool import Origin
from epad.gateway.objections import OTHER_NAME, USAGE_OPTION
from epad.gateway.server_profile import ServerProfile


@dataclass(slots=True, eq=False)
class Upstream:
    """Holds a configured model server; `profile` is its present knowledge, `fields` the fields it may be asked with.

    `subsystem` is the one that serves it, empty if that is none of epad's. `secret` names its key in the vault.
    """

    name: str
    base: str
    prefix: str
    own_fields: tuple[Field, ...]
    dialects: frozenset[str]
    models: tuple[str, ...]
    patterns: tuple[re.Pattern[str], ...]
    context_tokens: int
    free: bool
    origin: Origin
    key: str
    health: Health
    profile: ServerProfile
    fields: frozenset[str] = frozenset()
    subsystem: str = ""
    secret: str = ""

    @property
    def server(self) -> Server:
        """Return its kind, as far as it is known by now."""
        return self.profile.server

    def context(self, model: str) -> int:
        """Return a model's context here, prompt and answer together; 0 if that is not known."""
        return self.profile.context(model)

    def serves(self, model: str, dialect: str) -> bool:
        """Say whether a request for this model goes here."""
        return dialect in self.dialects and any(pattern.match(model) for pattern in self.patterns)

    def names(self, model: str) -> bool:
        """Say whether a pattern other than the one for everything matches the model."""
        pairs = zip(self.models, self.patterns, strict=True)
        return any(pattern.match(model) for text, pattern in pairs if text != "*")

    def server_for(self, dialect: str) -> Server:
        """Return its kind, as a request in one dialect takes it."""
        return self.profile.for_dialect(dialect)

    def habits(self, path: str, model: str, refused: frozenset[str] = frozenset()) -> Habits:
        """Return which values written by epad it takes in a request to this route, for this model.

        `refused` are the values refused in this very turn, beside those known already.
        """
        server = self.profile.server
        name, refused = server.cap_field(path), refused or self.profile.refused(model)
        if path == CHAT and name in refused:
            name = OTHER_NAME.get(name, name)
        asks_usage = server.takes_stream_options and USAGE_OPTION not in refused
        return Habits((name, *server.caps(path)), asks_usage, server.zero_cap_means_none)

    def target(self, path: str) -> bytes:
        """Return the target of a route; a base that ends in /v1, as OpenAI clients are given it, is the one of /v1."""
        if not self.prefix.endswith("/v1"):
            return (self.prefix + path).encode()
        return (self.prefix.removesuffix("/v1") + path).encode()


class Route:
    """The upstreams that one turn may go to, in order. It ends at the first that can be reached."""

    def __init__(self, candidates: tuple[Upstream, ...]) -> None:
        self.candidates = candidates
        self.served_by = candidates[0]

    @property
    def name(self) -> str:
        """Return the name of the upstream that is asked."""
        return self.served_by.name


class Asker(Struct, frozen=True, gc=False):
    """Names the subsystem and the model: a server's limit holds for one model, and a client's failures for no other."""

    name: str = ""
    model: str = ""


NOBODY = Asker()


@dataclass(frozen=True, slots=True)
class Down:
    """An upstream that is not asked now: why, and for how long; `limiting` if it told so itself."""

    upstream: str
    state: State
    reason: str
    seconds: float
    limiting: bool

    @classmethod
    def of(cls, upstream: Upstream, seconds: float, model: str) -> Down:
        """Say why one is not asked for a model."""
        health = upstream.health
        limited = health.seconds_limited(model)
        limiting = limited > 0 and limited >= seconds
        state = State.LIMITING if limiting else health.state
        return cls(upstream.name, state, health.limit if limiting else health.why, seconds, limiting)

    @property
    def sentence(self) -> str:
        """Say it in one sentence, with the upstream's name in it."""
        named = (
            self.reason
            if self.reason.startswith(f"upstream {self.upstream} ")
            else (f"upstream {self.upstream} is {self.state.value}: {self.reason}")
        )
        return f"{named}; it is asked again in {max(1, round(self.seconds))} s" if self.limiting else named
