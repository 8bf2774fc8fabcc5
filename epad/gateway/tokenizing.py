"""The exact tokens of a prompt, by the server's own tokenizer, or by a tokenizer.json that the configuration names.

It is asked only where the bound by bytes is in the way: where a budget or a context has too little left for it. It has
little time; where it fails, the bound by bytes stands, and the server is not asked again for a while.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
from collections import Counter, OrderedDict
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Protocol

import msgspec

from epad.configuration.schema import UpstreamConfig
from epad.configuration.server_kinds import CHAT, MESSAGES, TEXT
from epad.gateway.dialects.dialect import Ask
from epad.gateway.errors import GatewayError, UpstreamError
from epad.gateway.upstream import Upstream, Upstreams
from statemachine.clock import Clock

COUNT_SECONDS = 1.0
COUNTS_AT_ONCE = 4
"""In a crowd before a small budget the others go by their bytes: a server is there to answer, not to count."""

RETRY_SECONDS = 30.0
SLACK_TOKENS = 8
"""What a template may put before an answer beside what it was asked for: a word of a role, a mark of its begin."""

MESSAGE_TOKENS = 8
"""What a template puts around a message, where only the texts are counted: 2 to 8 tokens."""

MOST_COUNTED_BYTES = 4 << 20
MOST_KEPT = 1_024
_SEEN_BY_TEMPLATE = ("model", "messages", "system", "tools", "chat_template_kwargs", "documents")
_FAILURES = (UpstreamError, TimeoutError, msgspec.MsgspecError, KeyError, TypeError)


class Tokenizer(Protocol):
    """The part of the tokenizers library's object for a tokenizer.json that is used."""

    def encode(self, sequence: str, add_special_tokens: bool = True) -> Any: ...


class Tokenizers:
    """Counts prompts; None where nobody can."""

    def __init__(self, upstreams: Upstreams, clock: Clock, files: Mapping[str, Tokenizer]) -> None:
        """`files` are the tokenizers of those upstreams whose configuration names one."""
        self._upstreams = upstreams
        self._clock = clock
        self._files = files
        self._kept: OrderedDict[tuple[Upstream, str, bytes], int] = OrderedDict()
        self._failed_until: dict[Upstream, float] = {}
        self._counting: Counter[str] = Counter()

    def configure(self, files: Mapping[str, Tokenizer]) -> None:
        """Count by these from now on; former counts may be by others."""
        self._files = files
        self._kept.clear()
        self._failed_until.clear()

    def may_count(self, upstream: Upstream, route: str) -> bool:
        """Say whether anybody could count the prompts of a route, as far as is known without a request."""
        return upstream.name in self._files or (upstream.server.name, route) in _SERVERS

    async def count(self, upstream: Upstream, route: str, ask: Ask) -> int | None:
        """Return the most tokens that a prompt has on an upstream."""
        way = self._way(upstream, route, ask)
        if way is None:
            return None
        key = (upstream, route, _digest(ask))
        if key not in self._kept:
            self._counting[upstream.name] += 1
            try:
                async with asyncio.timeout(COUNT_SECONDS):
                    counted = await way
            except _FAILURES:
                self._failed_until[upstream] = self._clock.monotonic() + RETRY_SECONDS
                return None
            finally:
                self._counting[upstream.name] -= 1
            if counted <= 0:
                return None
            self._kept[key] = counted + SLACK_TOKENS
            if len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        else:
            way.close()
        return self._kept[key]

    def _way(self, upstream: Upstream, route: str, ask: Ask) -> Coroutine[Any, Any, int] | None:
        """Return the way to count this prompt there; None if there is none, or none worked a moment ago."""
        failed = self._clock.monotonic() < self._failed_until.get(upstream, 0.0)
        if failed or self._counting[upstream.name] >= COUNTS_AT_ONCE:
            return None
        if ask.prompt_bound is None or len(ask.fields.text) > MOST_COUNTED_BYTES:
            return None
        file, server = self._files.get(upstream.name), _SERVERS.get((upstream.server.name, route))
        if file is not None:
            return asyncio.to_thread(_count_texts, file, ask)
        return server(_Asker(self._upstreams, upstream), ask) if server is not None else None


def load_tokenizers(upstreams: Mapping[str, UpstreamConfig]) -> dict[str, Tokenizer]:
    """Read each upstream's tokenizer.json. Raises GatewayError naming the upstream, and the fix."""
    loaded: dict[str, Tokenizer] = {}
    for name, config in upstreams.items():
        if not config.tokenizer:
            continue
        try:
            library = importlib.import_module("tokenizers")
            loaded[name] = library.Tokenizer.from_file(config.tokenizer)
        except ImportError as error:
            needed = "needs the tokenizers library: pip install 'epad[tokenizer]'"
            raise GatewayError(f"[upstreams.{name}] tokenizer: {needed}") from error
        except Exception as error:  # the library raises nothing more particular
            message = f"[upstreams.{name}] tokenizer: {config.tokenizer} cannot be read: {error}"
            raise GatewayError(message) from error
    return loaded


class _Asker:
    """Asks one upstream for a count."""

    def __init__(self, upstreams: Upstreams, upstream: Upstream) -> None:
        self._upstreams = upstreams
        self._upstream = upstream

    async def __call__(self, path: str, body: bytes) -> dict[str, Any]:
        answer = await self._upstreams.ask(self._upstream, path, body)
        return msgspec.json.decode(answer, type=dict[str, Any])


async def _count_by_vllm(asker: _Asker, ask: Ask) -> int:
    return int((await asker("/tokenize", _fields(ask, (*_SEEN_BY_TEMPLATE, "prompt"))))["count"])


async def _count_by_llama_cpp(asker: _Asker, ask: Ask) -> int:
    if ask.fields.has("messages"):
        rendered = (await asker("/apply-template", _fields(ask, _SEEN_BY_TEMPLATE)))["prompt"]
    elif ask.fields.begins("prompt") == b'"':
        rendered = ask.fields.read("prompt", str)
    else:
        return 0  # token ids, or several prompts
    body = msgspec.json.encode({"content": rendered, "add_special": True, "parse_special": True})
    return len((await asker("/tokenize", body))["tokens"])


async def _count_messages(asker: _Asker, ask: Ask) -> int:
    return int((await asker("/v1/messages/count_tokens", _fields(ask, _SEEN_BY_TEMPLATE)))["input_tokens"])


_SERVERS: dict[tuple[str, str], Callable[[_Asker, Ask], Coroutine[Any, Any, int]]] = {
    ("vllm", CHAT): _count_by_vllm,
    ("vllm", TEXT): _count_by_vllm,
    ("vllm", MESSAGES): _count_messages,
    ("llama.cpp", CHAT): _count_by_llama_cpp,
    ("llama.cpp", TEXT): _count_by_llama_cpp,
    ("llama.cpp", MESSAGES): _count_messages,
}


def _count_texts(tokenizer: Tokenizer, ask: Ask) -> int:
    """Count every text of a request by the tokenizer, and a template's text around each message."""
    values = [
        msgspec.json.decode(ask.fields.values[name])
        for name in ("system", "instructions", "messages", "input", "prompt", "suffix")
        if name in ask.fields.values
    ]
    texts = list(_texts(values))
    if ask.fields.has("tools"):
        texts.append(ask.fields.raw("tools").decode("utf-8", "replace"))
    tokens = sum(len(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts)
    return tokens + MESSAGE_TOKENS * max(1, ask.history.messages)


def _texts(value: object) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)


def _fields(ask: Ask, names: Iterable[str]) -> bytes:
    """Return some of a request's fields, as they came."""
    parts = [b'"%b":%b' % (name.encode(), ask.fields.raw(name)) for name in names if ask.fields.has(name)]
    return b"{" + b",".join(parts) + b"}"


def _digest(ask: Ask) -> bytes:
    return hashlib.sha256(
        _fields(ask, (*_SEEN_BY_TEMPLATE, "prompt", "suffix", "input", "instructions"))
    ).digest()
