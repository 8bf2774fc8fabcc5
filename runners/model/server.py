"""The model server's HTTP side: routes, refusals and the pace at which tokens leave."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

from runners.model import ollama_dialect, openai_dialect
from runners.model.completion import Completion, complete
from runners.model.engine import Engine
from runners.model.request import ChatRequest, RequestError, from_ollama, from_openai

MAX_BODY_BYTES: Final = 32 * 1024 * 1024
CONTEXT_TOKENS: Final = 32_768


class ModelNotFoundError(Exception):
    """No such model is served here."""


class ContextLengthError(Exception):
    """The prompt is longer than a model reads; nothing is ever cut off silently."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Sets how slowly to answer; zeros mean at once."""

    latency_seconds: float = 0.0
    tokens_per_second: float = 0.0

    def seconds_for(self, tokens: int) -> float:
        """Return how long this many tokens take to say."""
        return tokens / self.tokens_per_second if self.tokens_per_second else 0.0


class ModelServer:
    """Serves embedded models over both dialects."""

    def __init__(self, engines: Mapping[str, Engine], pace: Pace) -> None:
        self._engines = engines
        self._pace = pace
        self._started = datetime.now(tz=UTC)
        self.answered = 0

    def application(self) -> web.Application:
        """Return the aiohttp application, ready to be run."""
        application = web.Application(client_max_size=MAX_BODY_BYTES)
        application.add_routes(
            [
                web.get("/health", self._health),
                web.get("/v1/models", self._openai_models),
                web.post("/v1/chat/completions", self._openai_chat),
                web.get("/api/version", self._ollama_version),
                web.get("/api/tags", self._ollama_tags),
                web.post("/api/chat", self._ollama_chat),
            ]
        )
        return application

    async def _health(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "answered": self.answered})

    async def _openai_models(self, _request: web.Request) -> web.Response:
        return web.json_response(openai_dialect.models(self._engines, int(self._started.timestamp())))

    async def _openai_chat(self, request: web.Request) -> web.StreamResponse:
        kind = "invalid_request_error"
        try:
            chat = from_openai(await _json(request))
            completion = self._complete(chat)
        except RequestError as error:
            place = str(error).partition(":")[0]
            return web.json_response(openai_dialect.error(str(error), kind, None, place), status=400)
        except ContextLengthError as error:
            shape = openai_dialect.error(str(error), kind, "context_length_exceeded", "messages")
            return web.json_response(shape, status=400)
        except ModelNotFoundError as error:
            return web.json_response(
                openai_dialect.error(str(error), kind, "model_not_found", "model"), status=404
            )
        turn, created = f"chatcmpl-{uuid.uuid4().hex}", int(time.time())
        if chat.stream:
            events = openai_dialect.events(chat, completion, turn, created)
            return await self._stream(request, events, "text/event-stream")
        await self._wait_for(completion)
        return web.json_response(openai_dialect.plain(chat, completion, turn, created))

    async def _ollama_version(self, _request: web.Request) -> web.Response:
        return web.json_response({"version": "0.0.0-epad-embedded"})

    async def _ollama_tags(self, _request: web.Request) -> web.Response:
        return web.json_response(ollama_dialect.tags(self._engines, self._started))

    async def _ollama_chat(self, request: web.Request) -> web.StreamResponse:
        begun = time.monotonic_ns()
        try:
            chat = from_ollama(await _json(request))
            completion = self._complete(chat)
        except (RequestError, ContextLengthError) as error:
            return web.json_response({"error": str(error)}, status=400)
        except ModelNotFoundError as error:
            return web.json_response({"error": str(error)}, status=404)
        now = datetime.now(tz=UTC)
        if chat.stream:
            # The durations belong into the last line, which is written when the others have left.
            lines = ollama_dialect.lines(chat, completion, now, self._nanoseconds(completion))
            return await self._stream(request, lines, "application/x-ndjson")
        await self._wait_for(completion)
        return web.json_response(ollama_dialect.plain(chat, completion, now, time.monotonic_ns() - begun))

    def _complete(self, chat: ChatRequest) -> Completion:
        engine = self._engines.get(chat.model)
        if engine is None:
            raise ModelNotFoundError(f"model {chat.model!r} not found: served are {', '.join(self._engines)}")
        completion = complete(engine, chat)
        if completion.prompt_tokens > CONTEXT_TOKENS:
            raise ContextLengthError(
                f"messages: {completion.prompt_tokens} tokens do not fit the context of {CONTEXT_TOKENS}"
            )
        self.answered += 1
        return completion

    def _nanoseconds(self, completion: Completion) -> int:
        seconds = self._pace.latency_seconds + self._pace.seconds_for(completion.completion_tokens)
        return int(seconds * 1e9)

    async def _wait_for(self, completion: Completion) -> None:
        await asyncio.sleep(self._pace.latency_seconds + self._pace.seconds_for(completion.completion_tokens))

    async def _stream(self, request: web.Request, pieces: Iterator[bytes], kind: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": kind, "Cache-Control": "no-cache"})
        await asyncio.sleep(self._pace.latency_seconds)
        await response.prepare(request)
        async for piece in _paced(pieces, self._pace.seconds_for):
            await response.write(piece)
        await response.write_eof()
        return response


async def _paced(pieces: Iterator[bytes], seconds_for: Callable[[int], float]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
        await asyncio.sleep(seconds_for(1))


async def _json(request: web.Request) -> Any:
    try:
        return json.loads(await request.read())
    except (ValueError, RecursionError) as error:
        raise RequestError(f"body: not JSON ({error})") from error
