"""The model servers: which one serves a model, and one request to it."""

from __future__ import annotations

import asyncio
import base64
import errno
import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from yarl import URL

from epad.beat import sleep_to_beat
from epad.config import UpstreamConfig
from epad.gateway.answer import Answer, broke_off
from epad.gateway.dialects.dialect import Habits
from epad.gateway.errors import UpstreamError
from epad.gateway.headers import ATTEMPT_HEADER, CONVERSATION_HEADER
from epad.gateway.health import Health
from epad.gateway.http.message import HOP_BY_HOP, Field, Fields, request_head
from epad.gateway.http.pool import NotConnectedError, Origin, Pool
from epad.gateway.objections import OTHER_NAME, USAGE_OPTION
from epad.gateway.server_detection import MOST_BYTES as MOST_LOOKED_BYTES
from epad.gateway.server_profile import ServerProfile
from epad.gateway.servers import CHAT, Server
from epad.gateway.upstream_key import ANTHROPIC_PREFIX, ANTHROPIC_VERSION, key_fields, read_keys
from probes.blame import Failure
from statemachine.clock import Clock

_CATALOGUE_SECONDS = 10.0
_LOOK_EVERY_SECONDS = 10.0
_LOOK_SECONDS = 5.0
_MOST_ROUTED = 1_024
_PATTERN = re.compile(r"[*?\[]")
_LOOK_PATHS = {"ollama": "/api/tags", "openai": "/v1/models", "anthropic": "/v1/models"}

# The client's key is ours to know, not the upstream's; the body is ours to frame; and usage in a compressed
# answer could not be read.
_NOT_FORWARDED = HOP_BY_HOP | frozenset({
    b"host", b"content-length", b"content-encoding", b"accept-encoding", b"authorization", b"x-api-key", b"cookie",
    b"expect", CONVERSATION_HEADER.lower().encode(), ATTEMPT_HEADER.lower().encode(),
})  # fmt: skip
# What this machine lacks, and no server can help with: files, ports, memory, room on the disk.
_HOST_SHORT = frozenset({
    errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.ENOSPC,
})  # fmt: skip
_JSON: Field = (b"Content-Type", b"application/json")
_UNCOMPRESSED: Field = (b"Accept-Encoding", b"identity")


@dataclass(slots=True, eq=False)
class Upstream:
    """A configured model server; `profile` is what is known of it by now, `fields` what else it may be asked with."""

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

    @property
    def server(self) -> Server:
        """Its kind, as far as it is known by now."""
        return self.profile.server

    def context(self, model: str) -> int:
        """How many tokens a model holds here, prompt and answer together; 0 if that is not known."""
        return self.profile.context(model)

    def serves(self, model: str, dialect: str) -> bool:
        """Say whether a request for this model goes here."""
        return dialect in self.dialects and any(pattern.match(model) for pattern in self.patterns)

    def names(self, model: str) -> bool:
        """Say whether a pattern other than the one for everything matches the model."""
        pairs = zip(self.models, self.patterns, strict=True)
        return any(pattern.match(model) for text, pattern in pairs if text != "*")

    def server_for(self, dialect: str) -> Server:
        """Its kind, as a request in one dialect takes it."""
        return self.profile.for_dialect(dialect)

    def habits(self, path: str, model: str, refused: frozenset[str] = frozenset()) -> Habits:
        """How it takes what epad writes into a request to this route, for this model.

        `refused` is what it does not take as one turn has just learnt, beside what is known already.
        """
        server = self.server
        name, refused = server.cap_field(path), refused or self.profile.refused(model)
        if path == CHAT and name in refused:
            name = OTHER_NAME.get(name, name)
        asks_usage = server.takes_stream_options and USAGE_OPTION not in refused
        return Habits((name, *server.caps(path)), asks_usage, server.zero_cap_means_none)

    def target(self, path: str) -> bytes:
        """Where a route lies; a base that ends in /v1, as OpenAI clients are given it, is what /v1 lies in."""
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
        """Of the upstream that is asked."""
        return self.served_by.name


class Upstreams:
    """The configured model servers, in order: the first that matches a model serves it."""

    def __init__(
        self,
        config: Mapping[str, UpstreamConfig],
        connect_seconds: float,
        idle_seconds: float,
        clock: Clock,
        credentials: Path | None = None,
    ) -> None:
        self._config = config
        self._clock = clock
        self._credentials = credentials
        self._looking: asyncio.Task[None] | None = None
        # A total would count while an answer streams; how long a model may be silent is what is limited.
        self._pool = Pool(connect_seconds, idle_seconds)
        self._upstreams: tuple[Upstream, ...] = ()
        self._routed: dict[tuple[str, str], tuple[Upstream, ...]] = {}
        self._speaking: dict[str, tuple[Upstream, ...]] = {}
        self._telling_context: frozenset[str] = frozenset()

    async def start(self) -> None:
        """Read the upstreams' keys and make ready to connect. Raises UpstreamError."""
        keys = await asyncio.to_thread(read_keys, self._config, self._credentials)
        self._upstreams = tuple(
            self._upstream(name, config, keys[name]) for name, config in self._config.items()
        )
        self._routed.clear()
        self._speaking.clear()
        self._telling_context = frozenset(
            dialect
            for upstream in self._upstreams
            if upstream.context_tokens
            for dialect in upstream.dialects
        )
        self._looking = asyncio.create_task(self._look_at_all(), name="upstreams")

    async def stop(self) -> None:
        """Close every connection."""
        looking, self._looking = self._looking, None
        if looking is not None:
            looking.cancel()
            await asyncio.wait({looking})
        self._upstreams = ()
        self._routed.clear()
        self._speaking.clear()
        await self._pool.close()

    def route(self, model: str, dialect: str) -> Upstream | None:
        """Choose the upstream for a model; None if none serves it."""
        return next((upstream for upstream in self._upstreams if upstream.serves(model, dialect)), None)

    def routes(self, model: str, dialect: str) -> tuple[Upstream, ...]:
        """Every upstream that serves a model: the healthy ones first, each kind in the configured order.

        Where one names the model, those that merely take everything do not: `models = ["llama*"]` beats none.
        """
        routed = self._routed.get((model, dialect))
        if routed is None:
            serving = [upstream for upstream in self._upstreams if upstream.serves(model, dialect)]
            naming = [upstream for upstream in serving if upstream.names(model)]
            routed = tuple(naming or serving)
            if len(self._routed) >= _MOST_ROUTED:
                self._routed.clear()  # whoever makes models' names up gains nothing by it
            self._routed[model, dialect] = routed
        if len(routed) < 2:
            return routed
        return tuple(sorted(routed, key=lambda upstream: bool(upstream.health.reason)))

    def status(self) -> list[dict[str, object]]:
        """Each upstream as people see it; the URL without whatever secret may be in it."""
        return [
            {
                "name": upstream.name,
                "url": _without_secrets(self._config[upstream.name].url),
                "healthy": not upstream.health.reason,
                "reason": upstream.health.reason,
                "server": upstream.server.name,
            }
            for upstream in self._upstreams
        ]

    def all(self) -> tuple[Upstream, ...]:
        """Every upstream, in the configured order."""
        return self._upstreams

    def models(self, dialect: str) -> list[str]:
        """The models that are known to be served in a dialect: those listed by the servers, or named in [upstreams]."""
        names: set[str] = set()
        for upstream in self.of(dialect):
            listed = upstream.profile.models
            named = [pattern for pattern in upstream.models if not _PATTERN.search(pattern)]
            names.update(model for model in listed if upstream in self.routes(model, dialect)[:1])
            names.update(named if not listed else ())
        return sorted(names)

    def of(self, dialect: str) -> tuple[Upstream, ...]:
        """Every upstream that speaks a dialect."""
        speaking = self._speaking.get(dialect)
        if speaking is None:
            speaking = tuple(upstream for upstream in self._upstreams if dialect in upstream.dialects)
            self._speaking[dialect] = speaking
        return speaking

    def tells_context(self, dialect: str) -> bool:
        """Say whether the configuration says of any that speaks a dialect how much its models hold."""
        return dialect in self._telling_context

    async def post(
        self, route: Route | Upstream, path: str, body: bytes | Callable[[Upstream], bytes], client: Fields
    ) -> Answer:
        """Forward a request, as each upstream is to get it; return when its answer begins. Raises UpstreamError.

        The next upstream is asked only where the one before cannot have begun: no turn is ever made twice.
        """
        if isinstance(route, Upstream):
            route = Route((route,))
        failure = UpstreamError(f"upstream {route.name} is not asked now", nothing_spent=True)
        for upstream in route.candidates:
            if not upstream.health.ask():
                failure = _kept_away(upstream)
                continue
            route.served_by = upstream
            try:
                written = body if isinstance(body, bytes) else body(upstream)
                return await self._post(upstream, path, written, client)
            except UpstreamError as error:
                if not error.nothing_spent:
                    raise
                failure = error
        raise failure

    async def _post(self, upstream: Upstream, path: str, body: bytes, client: Fields) -> Answer:
        """Ask one upstream, and remember how it went. Raises UpstreamError."""
        fields = client.without(_NOT_FORWARDED)
        if "content-type" not in client:
            fields.append(_JSON)
        if path.startswith(ANTHROPIC_PREFIX) and "anthropic-version" not in client:
            fields.append(
                ANTHROPIC_VERSION
            )  # epad's own clients, who check a server or repeat a lost turn, know none
        try:
            answer = await self._request(b"POST", upstream, path, body, fields)
        except UpstreamError as error:
            upstream.health.failed(str(error))
            raise
        if answer.status >= 500:
            upstream.health.failed(f"it answered {answer.status}")
        elif answer.status != 200:
            upstream.health.succeeded()
        else:
            answer.judged = False  # it may still be an error: whoever reads it says what it is
        upstream.profile.answered(answer.head)
        return answer

    async def _look_at_all(self) -> None:
        """Look at every upstream again and again; a look that fails is what it is for, and ends nothing."""
        while True:
            await asyncio.gather(*(self._look(upstream) for upstream in self._upstreams))
            await sleep_to_beat(_LOOK_EVERY_SECONDS)

    async def _look(self, upstream: Upstream) -> None:
        dialect = next(name for name in _LOOK_PATHS if name in upstream.dialects)
        failure = await self._look_on(upstream, _LOOK_PATHS[dialect])
        upstream.health.looked(failure)
        if failure:
            upstream.profile.forget_refusals()  # who comes back may be another server
        if not failure and (path := upstream.profile.more_to_read()):
            await self._look_on(upstream, path)

    async def _look_on(self, upstream: Upstream, path: str) -> str:
        """Learn what one answer tells of a server; how it failed, if it did."""
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                answer = await self._request(b"GET", upstream, path)
        except TimeoutError:
            return f"a look at it took longer than {_LOOK_SECONDS:g} s"
        except UpstreamError as error:
            return str(error)
        async with answer:
            # 404 and 401 come from a server that is there; what it says of turns, turns will tell.
            if answer.status >= 500:
                return f"a look at it got {answer.status}"
            upstream.profile.looked(path, answer.status, answer.head, await _read_for_a_look(answer))
        return ""

    async def get(self, upstream: Upstream, path: str) -> bytes:
        """Fetch a small document. Raises UpstreamError."""
        try:
            async with (
                asyncio.timeout(_CATALOGUE_SECONDS),
                await self._request(b"GET", upstream, path) as answer,
            ):
                body = await answer.read()
        except TimeoutError as error:
            raise UpstreamError(f"upstream {upstream.name}: no answer on {path}") from error
        if not answer.readable:
            raise UpstreamError(f"upstream {upstream.name}: {path} came as {', '.join(answer.codings)}")
        if answer.status != 200:
            raise UpstreamError(f"upstream {upstream.name}: {path} answered {answer.status}")
        return body

    async def ask(self, upstream: Upstream, path: str, body: bytes) -> bytes:
        """Ask a small question that is no turn. Raises UpstreamError."""
        async with await self._request(b"POST", upstream, path, body, [_JSON]) as answer:
            said = await answer.read()
        if answer.status != 200:
            raise UpstreamError(f"upstream {upstream.name}: {path} answered {answer.status}")
        return said

    async def _request(
        self, method: bytes, upstream: Upstream, path: str, body: bytes = b"", fields: Sequence[Field] = ()
    ) -> Answer:
        sent = [*upstream.own_fields, *fields, _UNCOMPRESSED]
        sent += key_fields(upstream.key, upstream.dialects, path)
        if method == b"POST":
            sent.append((b"Content-Length", b"%d" % len(body)))
        request = request_head(method, upstream.target(path), sent)
        try:
            incoming = await self._pool.send(upstream.origin, request, repeatable=method == b"GET", body=body)
        except NotConnectedError as error:
            message = (
                f"upstream {upstream.name} cannot be reached at {_without_secrets(upstream.base)}: {error}"
            )
            raise UpstreamError(message, nothing_spent=True, failure=_why_unconnected(error)) from error
        except OSError as error:
            raise broke_off(upstream.name, error) from error
        return Answer(upstream.name, upstream.health, incoming)

    def _upstream(self, name: str, config: UpstreamConfig, key: str) -> Upstream:
        scheme, _, rest = config.url.partition(":")
        base = "http://localhost" if scheme == "unix" else config.url.rstrip("/")
        url = URL(base, encoded=True)
        origin = (
            Origin(path=rest)
            if scheme == "unix"
            else Origin(url.raw_host or "", url.port or 0, url.scheme == "https")
        )
        return Upstream(
            name=name,
            base=base,
            prefix=url.raw_path.rstrip("/"),
            own_fields=_own_fields(url, key),
            dialects=frozenset(config.dialects),
            models=config.models,
            patterns=tuple(re.compile(fnmatch.translate(pattern)) for pattern in config.models),
            context_tokens=config.context_tokens,
            free=config.free or config.embedded,
            origin=origin,
            key=key,
            health=Health(self._clock),
            profile=ServerProfile(config.url, config.server, config.context_tokens),
            fields=frozenset(config.fields),
        )


async def _read_for_a_look(answer: Answer) -> bytes:
    """The body of an answer; nothing of one that breaks off or does not end: that it began says that all is well."""
    try:
        async with asyncio.timeout(_LOOK_SECONDS):
            return await answer.read(MOST_LOOKED_BYTES)
    except (UpstreamError, TimeoutError):
        return b""


def _own_fields(url: URL, key: str) -> tuple[Field, ...]:
    """What every request to an upstream has: whom it is for, and who asks if its URL says so and no key does."""
    host = (b"Host", url.authority.rpartition("@")[2].encode())
    if url.user is None or key:
        return (host,)
    login = f"{url.user}:{url.password or ''}".encode()
    return host, (b"Authorization", b"Basic " + base64.b64encode(login))


def _why_unconnected(error: NotConnectedError) -> Failure:
    cause = error.__cause__
    short = isinstance(cause, OSError) and cause.errno in _HOST_SHORT
    return Failure.HOST_SHORT if short else Failure.NOT_CONNECTED


def _kept_away(upstream: Upstream) -> UpstreamError:
    seconds = upstream.health.seconds_until_asked()
    reason = upstream.health.reason or "another turn tries it"
    message = f"upstream {upstream.name} is not asked for another {seconds:.0f} s: {reason}"
    return UpstreamError(message, nothing_spent=True, failure=Failure.NOT_ASKED)


def _without_secrets(url: str) -> str:
    if url.startswith("unix:"):
        return url
    return str(URL(url).with_user(None).with_query(None).with_fragment(None))
