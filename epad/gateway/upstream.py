"""The model servers: which one serves a model, and one request to it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from epad.answers import status
from epad.configuration.schema import UpstreamConfig
from epad.gateway.answer import Answer, broke_off
from epad.gateway.dialects import loose
from epad.gateway.errors import UpstreamError
from epad.gateway.headers import ATTEMPT_HEADER, CONVERSATION_HEADER
from epad.gateway.health import Health, State
from epad.gateway.health_check import HealthCheck, Starting, nothing_starts
from epad.gateway.http.message import HOP_BY_HOP, Field, Fields, request_head
from epad.gateway.http.pool import NotConnectedError, Pool
from epad.gateway.looking import Looker
from epad.gateway.retry_after import retry_after_seconds
from epad.gateway.route import NOBODY, Asker, Down, Route, Upstream
from epad.gateway.upstream_key import (
    ANTHROPIC_PREFIX,
    ANTHROPIC_VERSION,
    host_of,
    key_fields,
    read_all,
    refused_key,
)
from epad.gateway.upstream_making import KeyedUpstreams, make_upstream, without_secrets
from epad.secrets.purpose import GATEWAY, Purpose
from epad.secrets.vault import Vault
from probes.blame import Ending, Failure, Fault, Said, fault_of, said_in
from statemachine.clock import Clock

__all__ = ["NOBODY", "Asker", "Down", "KeyedUpstreams", "Route", "Upstream", "Upstreams"]

_CATALOGUE_SECONDS = 10.0
_MOST_ROUTED = 1_024
_PATTERN = re.compile(r"[*?\[]")

# What these say is read: a server answers so before it has begun, and the next may be asked.
# (400 says so of a key at Gemini and xAI.)
_TELLING = frozenset({400, 401, 402, 403, 407, 429, 503})
_LIMITING = frozenset({402, 403, 429})
_READ_BYTES = 2_048
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


class Upstreams:
    """The configured model servers, in order: the first that matches a model serves it."""

    def __init__(
        self,
        config: Mapping[str, UpstreamConfig],
        connect_seconds: float,
        idle_seconds: float,
        clock: Clock,
        credentials: Path | None = None,
        starting: Starting = nothing_starts,
        vault: Vault | None = None,
    ) -> None:
        self._config = config
        self._clock = clock
        self._credentials = credentials
        self._vault = vault
        if vault is not None:
            vault.tell(self._secret_changed)
        self._check = HealthCheck(self._request, self._reread_key, starting)
        self._looker = Looker(self._check.look, self._check.watch)
        # A total would count while an answer streams; how long a model may be silent is what is limited.
        self._pool = Pool(connect_seconds, idle_seconds)
        self._upstreams: tuple[Upstream, ...] = ()
        self._is_open = False
        self._routed: dict[tuple[str, str], tuple[Upstream, ...]] = {}
        self._speaking: dict[str, tuple[Upstream, ...]] = {}
        self._telling_context: frozenset[str] = frozenset()

    async def start(self) -> None:
        """Read the upstreams' keys and make ready to connect. Raises UpstreamError."""
        self.configure(await self.read_keys(self._config))
        self._is_open = True
        self._looker.configure(self._upstreams)

    async def read_keys(self, config: Mapping[str, UpstreamConfig]) -> KeyedUpstreams:
        """Read the keys of a configuration, and change nothing yet. Raises UpstreamError."""
        return KeyedUpstreams(config, await read_all(config, self._credentials, self._vault))

    def configure(self, keyed: KeyedUpstreams) -> tuple[Upstream, ...]:
        """Serve by these from now on, and return the removed ones.

        An unchanged one keeps its knowledge, its breaker as well. Turns under way end where they began.
        """
        before = self._upstreams
        former = {
            each.name: each for each in before if self._config[each.name] == keyed.config.get(each.name)
        }
        self._upstreams = tuple(
            former.get(name) or make_upstream(name, config, keyed.keys[name], self._health(name))
            for name, config in keyed.config.items()
        )
        for name, upstream in former.items():
            upstream.key = keyed.keys[name]
        self._config = keyed.config
        self._routed.clear()
        self._speaking.clear()
        self._telling_context = frozenset(
            dialect
            for upstream in self._upstreams
            if upstream.context_tokens
            for dialect in upstream.dialects
        )
        if self._is_open:
            self._looker.configure(self._upstreams)
        return tuple(each for each in before if each not in self._upstreams)

    def _health(self, name: str) -> Health:
        return Health(self._clock, partial(self._looker.opened, name))

    async def stop(self) -> None:
        """Close every connection."""
        self._is_open = False
        await self._looker.stop()
        self._upstreams = ()
        self._routed.clear()
        self._speaking.clear()
        await self._pool.close()

    def route(self, model: str, dialect: str) -> Upstream | None:
        """Choose the upstream for a model; None if none serves it."""
        return next((upstream for upstream in self._upstreams if upstream.serves(model, dialect)), None)

    def routes(self, model: str, dialect: str) -> tuple[Upstream, ...]:
        """Return every upstream that serves a model: the healthy ones first, each kind in the configured order.

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

    def status(self) -> list[status.Upstream]:
        """Return each upstream for people; the URL without any secret in it."""
        return [
            {
                "name": upstream.name,
                "url": without_secrets(self._config[upstream.name].url),
                "healthy": not upstream.health.reason,
                "reason": upstream.health.reason or upstream.health.limit,
                "state": upstream.health.state.value,
                "breaker": "open" if upstream.health.is_open else "closed",
                "seconds": round(max(0.0, self._clock.monotonic() - upstream.health.since), 3),
                "retry_seconds": round(upstream.health.seconds_closed(), 3),
                "server": upstream.server.name,
            }
            for upstream in self._upstreams
        ]

    def all(self) -> tuple[Upstream, ...]:
        """Return every upstream, in the configured order."""
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
        """Return every upstream that speaks a dialect."""
        speaking = self._speaking.get(dialect)
        if speaking is None:
            speaking = tuple(upstream for upstream in self._upstreams if dialect in upstream.dialects)
            self._speaking[dialect] = speaking
        return speaking

    def tells_context(self, dialect: str) -> bool:
        """Say whether the configuration says of any that speaks a dialect how much its models hold."""
        return dialect in self._telling_context

    def down(self, route: Route, asker: Asker) -> Down | None:
        """Say which upstream keeps a turn away for how long, if none of its candidates may be asked now."""
        candidates = route.candidates
        if not candidates[0].health.seconds_until_asked(asker.model, asker.name):
            return None
        waits = [each.health.seconds_until_asked(asker.model, asker.name) for each in candidates]
        if not all(waits):
            return None
        wait, number = min((wait, number) for number, wait in enumerate(waits))
        return Down.of(candidates[number], wait, asker.model)

    async def post(
        self,
        route: Route | Upstream,
        path: str,
        body: bytes | Callable[[Upstream], bytes],
        client: Fields,
        asker: Asker = NOBODY,
    ) -> Answer:
        """Forward a request, as each upstream is to get it; return when its answer begins. Raises UpstreamError.

        The next upstream is asked only where the one before cannot have begun: no turn is ever made twice.
        """
        if isinstance(route, Upstream):
            route = Route((route,))
        failure: UpstreamError | None = None
        for number, upstream in enumerate(route.candidates):
            if not upstream.health.ask(asker.model, asker.name):
                failure = _kept_away(upstream, asker)
                continue
            route.served_by = upstream
            try:
                written = body if isinstance(body, bytes) else body(upstream)
                answer = await self._post(upstream, path, written, client, asker)
            except UpstreamError as error:
                if not error.nothing_spent:
                    raise
                failure = error
                continue
            others = route.candidates[number + 1 :]
            if not answer.declined or all(
                each.health.seconds_until_asked(asker.model, asker.name) for each in others
            ):
                return answer
            answer.close()
            failure = UpstreamError(f"upstream {upstream.name} answered {answer.status}", nothing_spent=True)
        raise failure or UpstreamError(f"upstream {route.name} is not asked now", nothing_spent=True)

    async def _post(self, upstream: Upstream, path: str, body: bytes, client: Fields, asker: Asker) -> Answer:
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
            answer.who, answer.model = asker.name, asker.model
            if answer.status == 200:
                answer.judged = False  # it may still be an error: whoever reads it says what it is
            else:
                await self._judge(upstream, answer, asker)
        except UpstreamError as error:
            self._unanswered(upstream, error, asker)
            raise
        upstream.profile.answered(answer.head)
        return answer

    def _unanswered(self, upstream: Upstream, error: UpstreamError, asker: Asker) -> None:
        """Remember that nothing came; a shortage on this machine tells nothing about the upstream."""
        look = self._check.not_seen(upstream, error)
        if look is None:
            return
        if look.state is State.FAILING:
            upstream.health.failed(look.reason, asker.name)
        else:
            upstream.health.gone(look.reason, asker.name, starting=look.state is State.LOADING)

    async def _judge(self, upstream: Upstream, answer: Answer, asker: Asker) -> None:
        """Remember the lesson of a refusal, or a failure, about its upstream. Raises UpstreamError."""
        status, health = answer.status, upstream.health
        try:
            said = await _said(answer) if status in _TELLING and answer.readable else Said.NOTHING
        except BaseException:
            answer.close()
            raise
        fault = fault_of(Ending(failed=True, status=status, said=said))
        answer.declined = status in _TELLING and fault is not Fault.CLIENT
        if status < 400 or fault is Fault.CLIENT:
            health.succeeded(asker.name, asker.model)
        elif fault is Fault.KEY:
            health.rejected(refused_key(upstream.name, upstream.key, upstream.secret), asker.name)
        elif status in _LIMITING:
            seconds = retry_after_seconds(answer.head, self._clock.utc())
            health.limited(
                f"upstream {upstream.name} limits what it takes: it answered {status}", seconds, asker.model
            )
        elif said is Said.LOADING:
            health.loading(f"upstream {upstream.name} is loading its model")
        elif status >= 500:
            health.failed(f"it answered {status}", asker.name)

    async def _reread_key(self, upstream: Upstream) -> None:
        """Take a key that was put right since it was read."""
        config = {upstream.name: self._config[upstream.name]}
        with contextlib.suppress(UpstreamError):
            keys = await read_all(config, self._credentials, self._vault)
            upstream.key = keys[upstream.name]

    async def _secret_changed(self, secret: str) -> None:
        """Take the new key of each upstream that has it from this secret; what is under way ends with the former."""
        for upstream in self._upstreams:
            if upstream.secret and secret in {upstream.secret, ""}:
                await self._reread_key(upstream)

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
        if upstream.secret and upstream.key and self._vault is not None:
            self._vault.used(upstream.secret, Purpose(GATEWAY, host_of(upstream.base)))
        if method == b"POST":
            sent.append((b"Content-Length", b"%d" % len(body)))
        request = request_head(method, upstream.target(path), sent)
        try:
            incoming = await self._pool.send(upstream.origin, request, repeatable=method == b"GET", body=body)
        except NotConnectedError as error:
            message = (
                f"upstream {upstream.name} cannot be reached at {without_secrets(upstream.base)}: {error}"
            )
            raise UpstreamError(message, nothing_spent=True, failure=_why_unconnected(error)) from error
        except OSError as error:
            raise broke_off(upstream.name, error) from error
        return Answer(upstream.name, upstream.health, incoming)


def _why_unconnected(error: NotConnectedError) -> Failure:
    cause = error.__cause__
    short = isinstance(cause, OSError) and cause.errno in _HOST_SHORT
    return Failure.HOST_SHORT if short else Failure.NOT_CONNECTED


async def _said(answer: Answer) -> Said:
    """Read a refusal's text, and leave it to be read again. Raises UpstreamError."""
    body = await answer.read()
    answer.put_back(body)
    value = loose.read(body) if len(body) <= _READ_BYTES else None
    message = loose.what_it_says(value[0] if isinstance(value, list) and value else value)
    return said_in(answer.status, body[:_READ_BYTES].decode("utf-8", "replace"), message)


def _kept_away(upstream: Upstream, asker: Asker) -> UpstreamError:
    wait = upstream.health.seconds_until_asked(asker.model, asker.name)
    down = Down.of(upstream, wait, asker.model)
    return UpstreamError(down.sentence, nothing_spent=True, failure=Failure.NOT_ASKED)
