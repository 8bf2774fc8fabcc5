"""Asking models at one endpoint: unlimited connections, measured concurrency, bounded patience, a breaker each."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import count
from random import Random
from typing import Any, Final

import aiohttp
import msgspec

from runners.contract import attempt_headers
from runners.wargame import wellformed
from runners.wargame.endpoint.admission import Admission
from runners.wargame.endpoint.breaker import Breaker
from runners.wargame.endpoint.endpoint import Endpoint
from runners.wargame.endpoint.gate import Gate
from runners.wargame.endpoint.question import Question, body, path
from runners.wargame.endpoint.reply import DETAIL_CHARACTERS, Reply, classify
from runners.wargame.outcomes import CallOutcome
from runners.wargame.prompts import probe_messages
from runners.wargame.settings import TOTAL_SECONDS, Limits

MAX_REPLY_BYTES: Final = 1024 * 1024
PROBE_TOKENS: Final = 4


def open_session(limits: Limits) -> aiohttp.ClientSession:
    """A session that never queues on our side: aiohttp's own limit of 100 halves the throughput at 256."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=False),
        timeout=aiohttp.ClientTimeout(total=TOTAL_SECONDS, sock_connect=limits.connect_seconds),
    )


class ModelClient:
    """Asks, retries temporary failures, and never waits beyond its deadline."""

    def __init__(
        self, session: aiohttp.ClientSession, endpoint: Endpoint, limits: Limits, jitter: Random
    ) -> None:
        self.endpoint = endpoint
        self.admission = Admission(endpoint.max_in_flight, endpoint.start_in_flight)
        self.gate = Gate(lambda: self.admission.limit, endpoint.loaded_models)
        self._session = session
        self._url = endpoint.base_url.rstrip("/") + path(endpoint)
        self._headers = {"Authorization": f"Bearer {endpoint.key}"} if endpoint.key else {}
        self._limits = limits
        self._jitter = jitter
        self._breakers: dict[str, Breaker] = {}
        self._probes = 0
        self._calls = count()
        self._has_answered = False

    @property
    def down(self) -> list[Breaker]:
        """Return the models that are not asked now, the one that may be tried first in front."""
        return sorted((b for b in self._breakers.values() if b.is_open), key=lambda b: b.retry_at)

    async def owners(self) -> dict[str, str]:
        """Return the maker of each model by the endpoint's account; empty if it gives none."""
        is_ollama = self.endpoint.dialect == "ollama"
        url = self.endpoint.base_url.rstrip("/") + ("/api/tags" if is_ollama else "/models")
        try:
            async with asyncio.timeout(self._limits.call_seconds):
                response = await self._session.get(url, headers=self._headers)
                async with response:
                    listed = wellformed.loads(await _read(response))
            return _owners(listed)
        except (
            aiohttp.ClientError,
            OSError,
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            RecursionError,
        ):
            return {}

    async def ask(self, question: Question, deadline: float) -> Reply:
        """Ask until there is an answer, the retries are spent or `deadline` (loop time) has come."""
        breaker = self.breaker(question.model)
        if self._overflows(question):
            detail = f"about {question.estimated_tokens} tokens do not fit num_ctx"
            return Reply(CallOutcome.CONTEXT_TRUNCATED, detail=detail, attempts=0)
        attempt = timeouts = 0
        queue_seconds = 0.0
        while True:
            if breaker.is_open:
                return Reply(CallOutcome.CIRCUIT_OPEN, detail=breaker.reason, attempts=attempt)
            if self._now() >= deadline:
                return Reply(CallOutcome.DEADLINE, detail="the round's time was over", attempts=attempt)
            attempt += 1
            reply = await self._admitted(question, deadline, attempt, timeouts)
            timeouts += reply.outcome is CallOutcome.TIMEOUT
            now = self._now()
            queue_seconds += reply.queue_seconds
            reply = replace(reply, attempts=attempt, queue_seconds=queue_seconds)
            breaker.record(reply.outcome, reply.status, reply.detail, now)
            self._has_answered = self._has_answered or reply.status > 0
            if not reply.outcome.is_transient or attempt > self._limits.retries:
                self._respect(breaker, reply, now)
                return reply
            delay = reply.retry_after_seconds or self._jitter.uniform(
                0.0, self._limits.backoff_seconds * 2.0**attempt
            )
            if now + delay >= deadline:
                self._respect(breaker, reply, now)
                return reply
            await asyncio.sleep(delay)

    def breaker(self, model: str) -> Breaker:
        """Return the model's breaker."""
        return self._breakers.setdefault(model, Breaker(model, self._limits))

    def _overflows(self, question: Question) -> bool:
        """Tell if Ollama would silently cut the prompt's front off, the defender's orders with it."""
        room = self.endpoint.context_tokens
        return bool(room) and question.estimated_tokens + question.max_tokens > room

    async def _admitted(self, question: Question, deadline: float, attempt: int, timeouts: int) -> Reply:
        """Wait for a place, ask once, and let the limit learn from it."""
        asked_at = self._now()
        key = self.gate.enter_at_once(question.lane)
        if key is None:
            try:
                async with asyncio.timeout_at(deadline):
                    key = await self.gate.enter(question.lane, question.model)
            except TimeoutError:
                waited = self._now() - asked_at
                return Reply(CallOutcome.DEADLINE, detail="no place in time", queue_seconds=waited)
        begun = self._now()
        self.admission.started(self.gate.in_flight, begun)
        try:
            # One that was too slow is given twice the time: asked again with the same, it would be as late again,
            # and what it made for nobody is charged each time.
            is_slow = timeouts and not self.breaker(question.model).has_hung
            patience = self._limits.call_seconds * (2.0 if is_slow else 1.0)
            reply = await self._once(question, min(deadline, begun + patience), attempt)
        finally:
            self.gate.leave(key)
        now = self._now()
        self.admission.ended(reply.outcome, reply.status, now - begun, now)
        return replace(reply, latency_seconds=now - begun, queue_seconds=begun - asked_at)

    def _respect(self, breaker: Breaker, reply: Reply, now: float) -> None:
        """Leave a server alone for as long as it asks that, after our patience, still cannot serve.

        It says so (429, or a 503 of one that loads or is known to be down), or nobody is where it answered before.
        Then the run pauses until it is back: twenty failed calls before that would cost rounds for nothing.
        """
        is_limited = reply.outcome is CallOutcome.HTTP_429
        asks = reply.outcome is CallOutcome.HTTP_5XX and reply.retry_after_seconds > 0
        is_gone = reply.outcome is CallOutcome.CONNECTION and self._has_answered
        if is_limited or asks or is_gone:
            breaker.hold(reply.retry_after_seconds or self._limits.pause_first_seconds, reply.detail, now)

    async def probe(self, breaker: Breaker) -> bool:
        """Ask one small question of a model that is down; its breaker closes if an answer comes."""
        self._probes += 1
        question = Question(breaker.model, probe_messages(self._probes), PROBE_TOKENS)
        reply = await self._once(question, self._now() + self._limits.call_seconds)
        breaker.record(reply.outcome, reply.status, reply.detail, self._now())
        if breaker.is_open:
            breaker.postpone(self._now(), reply.retry_after_seconds)
        return not breaker.is_open

    async def ask_at_once(self, question: Question) -> Reply:
        """Ask once, without waiting for a place and without any second try: for measuring."""
        return await self._once(question, self._now() + self._limits.call_seconds)

    async def _once(self, question: Question, until: float, attempt: int = 1) -> Reply:
        call = question.idempotency_key or f"{id(self)}:{next(self._calls)}"
        headers = {"Content-Type": "application/json", **self._headers, **attempt_headers(call, attempt)}
        if question.idempotency_key:
            headers["Idempotency-Key"] = question.idempotency_key
        try:
            async with asyncio.timeout_at(until):
                response = await self._session.post(
                    self._url,
                    data=msgspec.json.encode(body(question, self.endpoint)),
                    headers=headers,
                    allow_redirects=False,
                )
                async with response:
                    raw = await _read(response)
                    reply = classify(response.status, response.headers, raw, self.endpoint.dialect)
                    return self._checked(reply)
        except TimeoutError:
            return Reply(CallOutcome.TIMEOUT, detail="no answer in time")
        except (aiohttp.ClientError, OSError) as error:
            return Reply(
                CallOutcome.CONNECTION, detail=f"{type(error).__name__}: {error}"[:DETAIL_CHARACTERS]
            )

    def _checked(self, reply: Reply) -> Reply:
        """A context that is full to the brim was cut by Ollama, whatever its status says (ollama#4967)."""
        room = self.endpoint.context_tokens
        if room and reply.outcome is CallOutcome.OK and reply.prompt_tokens + reply.completion_tokens >= room:
            return replace(reply, outcome=CallOutcome.CONTEXT_TRUNCATED, detail="num_ctx is full")
        return reply

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """Read a whole answer; one that does not end is cut, and then it is no JSON."""
    raw = bytearray()
    async for chunk in response.content.iter_any():
        raw += chunk
        if len(raw) > MAX_REPLY_BYTES:
            response.close()
            break
    return bytes(raw)


def _owners(listed: Any) -> dict[str, str]:
    """Read OpenAI's `data` or Ollama's `models`; the latter says who made a model in its details."""
    if "data" in listed:
        return {str(item["id"]): str(item.get("owned_by", "")) for item in listed["data"]}
    return {
        str(item["name"]).removesuffix(":latest"): str((item.get("details") or {}).get("family", ""))
        for item in listed["models"]
    }
