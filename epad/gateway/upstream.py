"""The model servers: which one serves a model, and one request to it."""

from __future__ import annotations

import asyncio
import fnmatch
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from epad.config import UpstreamConfig
from epad.gateway.errors import UpstreamError
from epad.gateway.headers import CONVERSATION_HEADER
from epad.gateway.health import Health
from epad.gateway.upstream_key import present_key, read_keys
from statemachine.clock import Clock

# uvicorn, and so vLLM, closes an idle connection after 5 s; reusing one in that instant loses the request.
_KEEPALIVE_SECONDS = 4.0
_CATALOGUE_SECONDS = 10.0
_LOOK_EVERY_SECONDS = 10.0
_LOOK_SECONDS = 5.0
_LOOK_PATHS = {"ollama": "/api/tags", "openai": "/v1/models", "anthropic": "/v1/models"}
# A whole answer is held in memory to read its usage; no text of a permitted length comes near this.
MAX_ANSWER_BYTES = 64 << 20

_HOP_BY_HOP = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade",
})  # fmt: skip
# The client's key is ours to know, not the upstream's; the body is ours to frame; and usage in a compressed
# answer could not be read.
_NOT_FORWARDED = _HOP_BY_HOP | {
    "host", "content-length", "content-encoding", "accept-encoding", "authorization", "x-api-key", "cookie", "expect",
    CONVERSATION_HEADER.lower(),
}  # fmt: skip
_NOT_RETURNED = _HOP_BY_HOP | {"content-length"}

_NOTHING_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL)


@dataclass(frozen=True, slots=True, eq=False)
class Upstream:
    """A configured model server."""

    name: str
    base: str
    dialects: frozenset[str]
    models: tuple[str, ...]
    patterns: tuple[re.Pattern[str], ...]
    context_tokens: int
    free: bool
    session: aiohttp.ClientSession
    key: str
    health: Health

    def serves(self, model: str, dialect: str) -> bool:
        """Say whether a request for this model goes here."""
        return dialect in self.dialects and any(pattern.match(model) for pattern in self.patterns)

    def names(self, model: str) -> bool:
        """Say whether a pattern other than the one for everything matches the model."""
        pairs = zip(self.models, self.patterns, strict=True)
        return any(pattern.match(model) for text, pattern in pairs if text != "*")

    def url(self, path: str) -> URL:
        """Where a route lies; a base that ends in /v1, as OpenAI clients are given it, is not doubled."""
        if path.startswith("/v1/") and self.base.endswith("/v1"):
            path = path.removeprefix("/v1")
        return URL(self.base + path, encoded=True)


class Route:
    """The upstreams that one turn may go to, in order. It ends at the first that can be reached."""

    def __init__(self, candidates: tuple[Upstream, ...]) -> None:
        self.candidates = candidates
        self.served_by = candidates[0]

    @property
    def name(self) -> str:
        """Of the upstream that is asked."""
        return self.served_by.name


class Answer:
    """What an upstream answers, before its body is read. Leaving it unread closes the connection."""

    def __init__(self, upstream: Upstream, response: aiohttp.ClientResponse) -> None:
        self._upstream = upstream
        self._response = response

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up, which is what tells vLLM and Ollama to stop; after the end of the body it does nothing."""
        self._response.close()

    @property
    def status(self) -> int:
        return self._response.status

    @property
    def reason(self) -> str | None:
        return self._response.reason

    @property
    def is_stream(self) -> bool:
        """Whether events follow one another, rather than one whole body."""
        return self._response.content_type in {"text/event-stream", "application/x-ndjson"}

    def headers(self) -> CIMultiDict[str]:
        """The headers that are passed on to the client."""
        return _without(self._response.headers, _NOT_RETURNED)

    @property
    def ended(self) -> bool:
        """Whether all of the body has come, and come whole; what was not read yet is still to be had."""
        return self._response.content.is_eof() and self._response.content.exception() is None

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises UpstreamError."""
        content = self._response.content
        while True:
            try:
                data = await content.readany()
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise _broke_off(self._upstream, error) from error
            if not data:
                return
            yield data

    async def read(self) -> bytes:
        """The whole body. Raises UpstreamError."""
        content = self._response.content
        if self.ended and content.total_bytes <= MAX_ANSWER_BYTES:
            return content.read_nowait()  # it came with its headers: nothing to wait for
        parts = []
        size = 0
        async for data in self.chunks():
            parts.append(data)
            size += len(data)
            if size > MAX_ANSWER_BYTES:
                raise UpstreamError(
                    f"upstream {self._upstream.name}: an answer of over {MAX_ANSWER_BYTES} bytes"
                )
        return b"".join(parts)


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
        # The total would count while an answer streams; how long a model may be silent is what is limited.
        self._timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=connect_seconds, sock_read=idle_seconds
        )
        self._sessions: dict[str, aiohttp.ClientSession] = {}
        self._upstreams: tuple[Upstream, ...] = ()

    async def start(self) -> None:
        """Read the upstreams' keys and make ready to connect. Raises UpstreamError."""
        keys = await asyncio.to_thread(read_keys, self._config, self._credentials)
        self._upstreams = tuple(
            self._upstream(name, config, keys[name]) for name, config in self._config.items()
        )
        self._looking = asyncio.create_task(self._look_at_all(), name="upstreams")

    async def stop(self) -> None:
        """Close every connection."""
        looking, self._looking = self._looking, None
        if looking is not None:
            looking.cancel()
            await asyncio.wait({looking})
        sessions, self._sessions, self._upstreams = self._sessions, {}, ()
        for session in sessions.values():
            await session.close()

    def route(self, model: str, dialect: str) -> Upstream | None:
        """Choose the upstream for a model; None if none serves it."""
        return next((upstream for upstream in self._upstreams if upstream.serves(model, dialect)), None)

    def routes(self, model: str, dialect: str) -> tuple[Upstream, ...]:
        """Every upstream that serves a model: the healthy ones first, each kind in the configured order.

        Where one names the model, those that merely take everything do not: `models = ["llama*"]` beats none.
        """
        serving = [upstream for upstream in self._upstreams if upstream.serves(model, dialect)]
        naming = [upstream for upstream in serving if upstream.names(model)]
        return tuple(sorted(naming or serving, key=lambda upstream: bool(upstream.health.reason)))

    def status(self) -> list[dict[str, object]]:
        """Each upstream as people see it; the URL without whatever secret may be in it."""
        return [
            {
                "name": upstream.name,
                "url": _without_secrets(self._config[upstream.name].url),
                "healthy": not upstream.health.reason,
                "reason": upstream.health.reason,
            }
            for upstream in self._upstreams
        ]

    def of(self, dialect: str) -> tuple[Upstream, ...]:
        """Every upstream that speaks a dialect."""
        return tuple(upstream for upstream in self._upstreams if dialect in upstream.dialects)

    async def post(
        self, route: Route | Upstream, path: str, body: bytes, client_headers: Mapping[str, str]
    ) -> Answer:
        """Forward a request; return when its answer begins. Raises UpstreamError.

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
                return await self._post(upstream, path, body, client_headers)
            except UpstreamError as error:
                if not error.nothing_spent:
                    raise
                failure = error
        raise failure

    async def _post(
        self, upstream: Upstream, path: str, body: bytes, client_headers: Mapping[str, str]
    ) -> Answer:
        """Ask one upstream, and remember how it went. Raises UpstreamError."""
        headers = _without(client_headers, _NOT_FORWARDED)
        headers.setdefault("Content-Type", "application/json")
        headers["Accept-Encoding"] = "identity"
        try:
            answer = await self._request("POST", upstream, path, body, headers)
        except UpstreamError as error:
            upstream.health.failed(str(error))
            raise
        if answer.status >= 500:
            upstream.health.failed(f"it answered {answer.status}")
        else:
            upstream.health.succeeded()
        return answer

    async def _look_at_all(self) -> None:
        """Look at every upstream again and again; a look that fails is what it is for, and ends nothing."""
        while True:
            await asyncio.gather(*(self._look(upstream) for upstream in self._upstreams))
            await asyncio.sleep(_LOOK_EVERY_SECONDS)

    async def _look(self, upstream: Upstream) -> None:
        dialect = next(name for name in _LOOK_PATHS if name in upstream.dialects)
        headers = CIMultiDict({"Accept-Encoding": "identity"})
        failure = ""
        try:
            async with (
                asyncio.timeout(_LOOK_SECONDS),
                await self._request("GET", upstream, _LOOK_PATHS[dialect], None, headers) as answer,
            ):
                # 404 and 401 come from a server that is there; what it says of turns, turns will tell.
                failure = f"a look at it got {answer.status}" if answer.status >= 500 else ""
        except TimeoutError:
            failure = f"a look at it took longer than {_LOOK_SECONDS:g} s"
        except UpstreamError as error:
            failure = str(error)
        upstream.health.looked(failure)

    async def get(self, upstream: Upstream, path: str) -> bytes:
        """Fetch a small document. Raises UpstreamError."""
        headers = CIMultiDict({"Accept-Encoding": "identity"})
        try:
            async with (
                asyncio.timeout(_CATALOGUE_SECONDS),
                await self._request("GET", upstream, path, None, headers) as answer,
            ):
                body = await answer.read()
        except TimeoutError as error:
            raise UpstreamError(f"upstream {upstream.name}: no answer on {path}") from error
        if answer.status != 200:
            raise UpstreamError(f"upstream {upstream.name}: {path} answered {answer.status}")
        return body

    async def _request(
        self, method: str, upstream: Upstream, path: str, body: bytes | None, headers: CIMultiDict[str]
    ) -> Answer:
        present_key(headers, upstream.key, upstream.dialects, path)
        url = upstream.url(path)
        try:
            response = await upstream.session.request(
                method, url, data=body, headers=headers, allow_redirects=False
            )
        except _NOTHING_SENT as error:
            message = (
                f"upstream {upstream.name} cannot be reached at {_without_secrets(upstream.base)}: {error}"
            )
            raise UpstreamError(message, nothing_spent=True) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _broke_off(upstream, error) from error
        return Answer(upstream, response)

    def _upstream(self, name: str, config: UpstreamConfig, key: str) -> Upstream:
        scheme, _, rest = config.url.partition(":")
        return Upstream(
            name=name,
            base="http://localhost" if scheme == "unix" else config.url.rstrip("/"),
            dialects=frozenset(config.dialects),
            models=config.models,
            patterns=tuple(re.compile(fnmatch.translate(pattern)) for pattern in config.models),
            context_tokens=config.context_tokens,
            free=config.free or config.embedded,
            session=self._session(rest if scheme == "unix" else ""),
            key=key,
            health=Health(self._clock),
        )

    def _session(self, socket_path: str) -> aiohttp.ClientSession:
        """One session for everything on TCP, one for each Unix socket."""
        if socket_path not in self._sessions:
            connector: aiohttp.BaseConnector = (
                aiohttp.UnixConnector(socket_path, limit=0, keepalive_timeout=_KEEPALIVE_SECONDS)
                if socket_path
                else aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_SECONDS)
            )
            self._sessions[socket_path] = aiohttp.ClientSession(
                connector=connector,
                timeout=self._timeout,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._sessions[socket_path]


def _kept_away(upstream: Upstream) -> UpstreamError:
    seconds = upstream.health.seconds_until_asked()
    reason = upstream.health.reason or "another turn tries it"
    message = f"upstream {upstream.name} is not asked for another {seconds:.0f} s: {reason}"
    return UpstreamError(message, nothing_spent=True)


def _without_secrets(url: str) -> str:
    if url.startswith("unix:"):
        return url
    return str(URL(url).with_user(None).with_query(None).with_fragment(None))


def _broke_off(upstream: Upstream, error: Exception) -> UpstreamError:
    detail = str(error) or type(error).__name__
    return UpstreamError(f"upstream {upstream.name} broke off: {detail}")


def _without(headers: Mapping[str, str], dropped: frozenset[str]) -> CIMultiDict[str]:
    """The headers that are for the other end: neither dropped by name nor by `Connection`."""
    connection = headers.get("Connection")
    if connection:
        dropped = dropped.union(name.strip().lower() for name in connection.split(","))
    return CIMultiDict([item for item in headers.items() if item[0].lower() not in dropped])
