"""Speak with a server at a URL: Streamable HTTP of both eras, whose answers are JSON or a stream of events.

The URL and the credentials are the operator's, and no agent sees either. A redirect is not followed: it would take the
credentials elsewhere. Every answer is bounded, and so is the time of all of it.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import aiohttp
import msgspec

from epad.foreign.dialogue import MODERN
from epad.foreign.errors import NoAnswerError, NotSentError, ServerError, ServerLostError
from epad.foreign.framing import MOST_BYTES
from epad.foreign.peer import CANCELLED, Params, encoded, error_of
from runners.tools.visible import visible

CONNECT_SECONDS: Final = 10.0
_CLOSE_SECONDS: Final = 2.0
_ACCEPT: Final = "application/json, text/event-stream"
_VERSION: Final = "MCP-Protocol-Version"
_SESSION: Final = "Mcp-Session-Id"
_NAMED: Final = {"tools/call": "name"}
_MOST_SESSION: Final = 256
_METHOD_NOT_FOUND: Final = -32601


class HttpPeer:
    """One conversation at a URL; implements `epad.foreign.dialogue.Asking`."""

    def __init__(self, url: str, headers: Mapping[str, str], lost: Callable[[str], None]) -> None:
        """`lost` is called with the reason once the server is not there: its list is looked at anew then."""
        self._url = url
        self._tell = lost
        self._headers = {**headers, "Accept": _ACCEPT, "Content-Type": "application/json"}
        self._client = aiohttp.ClientSession(
            trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS),
            max_line_size=16 << 10,
        )
        self._number = 0
        self._version = ""
        self._session = ""
        self.lost = ""

    async def ask(self, method: str, params: Mapping[str, Any], seconds: float) -> Params:
        """Return the result of a request. Raises ServerError."""
        if self.lost:
            raise NotSentError(self.lost)
        self._number += 1
        number = self._number
        body = encoded({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        try:
            async with asyncio.timeout(seconds):
                return await self._asked(number, method, body, self._head(method, params))
        except TimeoutError:
            await self._cancel(number, method)
            raise NoAnswerError(f"no answer to {method} within {seconds:g} s") from None
        except asyncio.CancelledError:
            await asyncio.shield(self._cancel(number, method))
            raise
        except (aiohttp.ClientError, OSError, ValueError) as error:
            self._lose(f"it cannot be reached: {visible(str(error))[:300]}")
            raise ServerLostError(self.lost) from error

    async def told(self, method: str) -> None:
        """Send a notification. Raises ServerError."""
        await self._post(encoded({"jsonrpc": "2.0", "method": method}), method)

    def speak(self, version: str) -> None:
        """Name the version in each request from now on."""
        self._version = version

    async def close(self) -> None:
        """Hang up; a session of the older era is ended at the server."""
        self.lost = self.lost or "it is closed"
        with suppress(aiohttp.ClientError, TimeoutError, OSError):
            if self._session:
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await self._client.delete(self._url, headers=self._head("", {}), allow_redirects=False)
        await self._client.close()

    def _lose(self, why: str) -> None:
        if not self.lost:
            self.lost = why
            self._tell(why)

    async def _asked(self, number: int, method: str, body: bytes, head: Mapping[str, str]) -> Params:
        async with self._client.post(self._url, data=body, headers=head, allow_redirects=False) as answer:
            self._heed_status(answer, method)
            if answer.content_type == "text/event-stream":
                async for message in _events(answer):
                    if message.get("id") == number and "method" not in message:
                        return _result(message)
                    await self._refuse(message)
                raise ServerError("its stream has ended without an answer")
            message = _decoded(await _whole(answer))
            if answer.status >= 400 and "error" not in message:
                raise ServerError(f"it answers {answer.status}")
            return _result(message)

    def _heed_status(self, answer: aiohttp.ClientResponse, method: str) -> None:
        """Raise ServerError for an answer that is none, and take the session of the older era."""
        if method == "initialize":
            self._session = answer.headers.get(_SESSION, "")[:_MOST_SESSION]
        if answer.status in {401, 403}:
            raise ServerError(f"it answers {answer.status}: its credentials are missing or not good")
        if 300 <= answer.status < 400:
            raise ServerError(f"it answers {answer.status}: redirects are not followed; name the final URL")
        if answer.status == 404 and self._session:
            self._lose("its session has ended")
            raise ServerLostError(self.lost)
        if answer.content_type not in {"application/json", "text/event-stream"}:
            raise ServerError(
                f"it answers {answer.status} with {visible(answer.content_type)[:80]}, not as MCP has it"
            )

    async def _refuse(self, message: Params) -> None:
        """Say no to a request of the server's within its stream; a notification is passed over."""
        number = message.get("id")
        if "method" not in message or not isinstance(number, int | str):
            return
        error = {"code": _METHOD_NOT_FOUND, "message": "epad answers no requests of servers"}
        with suppress(ServerError):
            await self._post(encoded({"jsonrpc": "2.0", "id": number, "error": error}), "")

    async def _cancel(self, number: int, method: str) -> None:
        """Have a request given up; in the newer era the end of its connection says so."""
        if self._version == MODERN or method == "initialize":
            return
        message = {"jsonrpc": "2.0", "method": CANCELLED, "params": {"requestId": number}}
        with suppress(ServerError):
            await self._post(encoded(message), CANCELLED)

    async def _post(self, body: bytes, method: str) -> None:
        try:
            async with (
                asyncio.timeout(_CLOSE_SECONDS),
                self._client.post(
                    self._url, data=body, headers=self._head(method, {}), allow_redirects=False
                ) as answer,
            ):
                if answer.status >= 400:
                    raise ServerError(f"it answers {answer.status} to {method}")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ServerError(f"it cannot be reached: {error}") from error

    def _head(self, method: str, params: Mapping[str, Any]) -> dict[str, str]:
        head = dict(self._headers)
        if self._version:
            head[_VERSION] = self._version
        if self._session:
            head[_SESSION] = self._session
        if self._version == MODERN and method:
            head["Mcp-Method"] = method
            if isinstance(name := params.get(_NAMED.get(method, "")), str):
                head["Mcp-Name"] = _field(name)
        return head


def _field(value: str) -> str:
    """Return a header's value, in base64 where it is not plain ASCII."""
    if value.isascii() and value.isprintable() and value == value.strip():
        return value
    return f"=?base64?{base64.b64encode(value.encode(errors='replace')).decode()}?="


async def _whole(answer: aiohttp.ClientResponse) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in answer.content.iter_any():
        size += len(part)
        if size > MOST_BYTES:
            raise ServerError(f"it answered with more than {MOST_BYTES} bytes")
        parts.append(part)
    return b"".join(parts)


async def _events(answer: aiohttp.ClientResponse) -> AsyncIterator[Params]:
    """Yield the messages of a stream of events. Raises ServerError above the bound of bytes."""
    size, rest, data = 0, b"", list[bytes]()
    async for part in answer.content.iter_any():
        size += len(part)
        if size > MOST_BYTES:
            raise ServerError(f"it answered with more than {MOST_BYTES} bytes")
        *lines, rest = (rest + part).replace(b"\r\n", b"\n").split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
            elif not line and data:
                text, data = b"\n".join(data), []
                if text.strip():
                    yield _decoded(text)


def _decoded(body: bytes) -> Params:
    try:
        message = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ServerError(f"its answer is not JSON: {error}") from error
    if not isinstance(message, dict):
        raise ServerError("its answer is no message")
    return message


def _result(message: Params) -> Params:
    if isinstance(error := message.get("error"), dict):
        raise error_of(error)
    if isinstance(result := message.get("result"), dict):
        return result
    raise ServerError("its answer has neither a result nor an error")
