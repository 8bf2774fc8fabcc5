"""Asking models through one endpoint: unlimited connections, bounded patience, a breaker for each model."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Final

import aiohttp

from runners.wargame.endpoint.breaker import Breaker
from runners.wargame.endpoint.reply import DETAIL_CHARACTERS, Reply, classify
from runners.wargame.outcomes import CallOutcome
from runners.wargame.prompts import ChatMessage, probe_messages
from runners.wargame.settings import TOTAL_SECONDS, Limits

MAX_REPLY_BYTES: Final = 1024 * 1024
PROBE_TOKENS: Final = 4


@dataclass(frozen=True, slots=True)
class Question:
    """One request to one model. The key lets epad answer a question that was already paid for."""

    model: str
    messages: Sequence[ChatMessage]
    max_tokens: int
    seed: int = 0
    idempotency_key: str = ""
    schema: dict[str, Any] | None = None

    def body(self) -> dict[str, Any]:
        """The request in the OpenAI dialect."""
        body: dict[str, Any] = {
            "model": self.model,
            "messages": list(self.messages),
            "max_tokens": self.max_tokens,
            "temperature": 0,
            "seed": self.seed,
        }
        if self.schema is not None:
            shape = {"name": "verdict", "schema": self.schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": shape}
        return body


def open_session(limits: Limits) -> aiohttp.ClientSession:
    """A session that never queues on our side: aiohttp's own limit of 100 halves the throughput at 256."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=False),
        timeout=aiohttp.ClientTimeout(total=TOTAL_SECONDS, sock_connect=limits.connect_seconds),
    )


class ModelClient:
    """Asks, retries what may pass, and never waits beyond the deadline it is given."""

    def __init__(
        self, session: aiohttp.ClientSession, base_url: str, key: str, limits: Limits, jitter: Random
    ) -> None:
        self._session = session
        self._base_url = base_url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._limits = limits
        self._jitter = jitter
        self._breakers: dict[str, Breaker] = {}
        self._probes = 0

    @property
    def down(self) -> list[Breaker]:
        """The models that are not asked now, the one that may be tried first in front."""
        return sorted((b for b in self._breakers.values() if b.is_open), key=lambda b: b.retry_at)

    async def owners(self) -> dict[str, str]:
        """Who the endpoint says made each model; empty when it does not say."""
        try:
            async with asyncio.timeout(self._limits.call_seconds):
                response = await self._session.get(f"{self._base_url}/models", headers=self._headers)
                async with response:
                    listed = (await response.json(content_type=None))["data"]
            return {str(item["id"]): str(item.get("owned_by", "")) for item in listed}
        except (
            aiohttp.ClientError,
            TimeoutError,
            OSError,
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
        ):
            return {}

    async def ask(self, question: Question, deadline: float) -> Reply:
        """Ask until there is an answer, the retries are spent or `deadline` (loop time) has come."""
        breaker = self._breakers.setdefault(question.model, Breaker(question.model, self._limits))
        begun = self._now()
        attempt = 0
        while True:
            if breaker.is_open:
                return Reply(CallOutcome.CIRCUIT_OPEN, detail=breaker.reason, attempts=attempt)
            if self._now() >= deadline:
                return Reply(CallOutcome.DEADLINE, detail="the round's time was over", attempts=attempt)
            attempt += 1
            reply = await self._once(question, min(deadline, self._now() + self._limits.call_seconds))
            now = self._now()
            reply = replace(reply, attempts=attempt, latency_seconds=now - begun)
            breaker.record(reply.outcome, reply.status, reply.detail, now)
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

    def _respect(self, breaker: Breaker, reply: Reply, now: float) -> None:
        """A server that still says 429 after our patience is left alone for as long as it asks."""
        if reply.outcome is CallOutcome.HTTP_429:
            breaker.hold(reply.retry_after_seconds or self._limits.pause_first_seconds, reply.detail, now)

    async def probe(self, breaker: Breaker) -> bool:
        """Ask one small question of a model that is down; its breaker closes if an answer comes."""
        self._probes += 1
        question = Question(breaker.model, probe_messages(self._probes), PROBE_TOKENS)
        reply = await self._once(question, self._now() + self._limits.call_seconds)
        breaker.record(reply.outcome, reply.status, reply.detail, self._now())
        if breaker.is_open:
            breaker.postpone(self._now())
        return not breaker.is_open

    async def _once(self, question: Question, until: float) -> Reply:
        headers = dict(self._headers)
        if question.idempotency_key:
            headers["Idempotency-Key"] = question.idempotency_key
        try:
            async with asyncio.timeout_at(until):
                response = await self._session.post(
                    f"{self._base_url}/chat/completions",
                    json=question.body(),
                    headers=headers,
                    allow_redirects=False,
                )
                async with response:
                    raw = await _read(response)
                    return classify(response.status, response.headers, raw)
        except TimeoutError:
            return Reply(CallOutcome.TIMEOUT, detail="no answer in time")
        except (aiohttp.ClientError, OSError) as error:
            return Reply(
                CallOutcome.CONNECTION, detail=f"{type(error).__name__}: {error}"[:DETAIL_CHARACTERS]
            )

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
