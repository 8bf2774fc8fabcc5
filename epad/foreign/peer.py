"""Speak JSON-RPC with one server: requests out, answers to their requests, and no to whatever a server asks of us.

| from the server | then |
|---|---|
| the answer to a request under way | that request has it |
| any other answer: late, made up, of the wrong type | it is counted, and nothing else |
| a request (sampling, elicitation, roots) | it is refused by its code, a few times a second; more are not answered |
| `ping` | it is answered, as often |
| `notifications/tools/list_changed` | the list is looked at anew before the next call |
| any other notification, a log message, what is no message at all | it is counted, and nothing else |

So a flood fills no memory: nothing of it is kept, and nothing is sent that nobody reads.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, Protocol

import msgspec

from epad.foreign.errors import AnswerError, NoAnswerError, NotSentError, ServerError, ServerLostError
from epad.foreign.framing import TooLong
from epad.tools.shown import cut
from runners.tools.visible import visible

LIST_CHANGED: Final = "notifications/tools/list_changed"
CANCELLED: Final = "notifications/cancelled"
MOST_UNDER_WAY: Final = 128
REPLIES_A_SECOND: Final = 20
_METHOD_NOT_FOUND: Final = -32601
_MOST_MESSAGE: Final = 500

Params = dict[str, Any]


class Send(Protocol):
    """Sends one message to the server. Raises ServerError."""

    def __call__(self, message: bytes) -> None: ...


class Peer:
    """One connection. `changed` is called when the server says that its list has."""

    def __init__(self, send: Send, changed: Callable[[], None], now: Callable[[], float]) -> None:
        self._send = send
        self._changed = changed
        self._now = now
        self._number = 0
        self._waiting: dict[int, asyncio.Future[Params]] = {}
        self._replied: list[float] = []
        self.lost = ""
        """Why the connection has ended; empty while it has not."""
        self.ignored: Counter[str] = Counter()
        """How many messages of each kind were passed over."""

    @property
    def under_way(self) -> int:
        """Return how many requests wait for their answers."""
        return len(self._waiting)

    async def ask(self, method: str, params: Mapping[str, Any], seconds: float) -> Params:
        """Return the result of a request.

        Raises AnswerError, NoAnswerError or ServerLostError. A request that is given up is cancelled at the server.
        """
        if self.lost:
            raise NotSentError(self.lost)
        if len(self._waiting) >= MOST_UNDER_WAY:
            raise ServerError(f"{MOST_UNDER_WAY} requests wait for its answers already")
        self._number += 1
        number = self._number
        answer: asyncio.Future[Params] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            self._send(encoded({"jsonrpc": "2.0", "id": number, "method": method, "params": params}))
            return await asyncio.wait_for(answer, seconds)
        except TimeoutError:
            self._cancel(number, method, "it took too long")
            raise NoAnswerError(f"no answer to {method} within {seconds:g} s") from None
        except asyncio.CancelledError:
            self._cancel(number, method, "the call was ended")
            raise
        finally:
            self._waiting.pop(number, None)

    def tell(self, method: str, params: Mapping[str, Any] | None = None) -> None:
        """Send a notification. Raises ServerError."""
        self._send(encoded({"jsonrpc": "2.0", "method": method, **({"params": params} if params else {})}))

    async def told(self, method: str) -> None:
        """Send a notification. Raises ServerError."""
        self.tell(method)

    def speak(self, version: str) -> None:
        """Take note of the version that is spoken; on a line of text nothing depends on it."""

    def heard(self, line: bytes | TooLong) -> None:
        """Take one message of the server's."""
        if isinstance(line, TooLong):
            self._too_long(line)
            return
        try:
            message = msgspec.json.decode(line)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            self.ignored["no message"] += 1
            return
        if not isinstance(message, dict):
            self.ignored["no message"] += 1
        elif isinstance(method := message.get("method"), str):
            self._asked(method, message)
        else:
            self._answered(message)

    def lose(self, why: str) -> None:
        """Fail each request under way: the connection has ended."""
        if self.lost:
            return
        self.lost = why
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(ServerLostError(why))

    def _answered(self, message: Params) -> None:
        number = message.get("id")
        answer = self._waiting.get(number) if type(number) is int else None
        if answer is None or answer.done():
            self.ignored["answer to nothing"] += 1
            return
        if isinstance(error := message.get("error"), dict):
            answer.set_exception(error_of(error))
        elif isinstance(result := message.get("result"), dict):
            answer.set_result(result)
        else:
            answer.set_exception(ServerError("its answer has neither a result nor an error"))

    def _asked(self, method: str, message: Params) -> None:
        if (number := message.get("id")) is None:
            if method == LIST_CHANGED:
                self._changed()
            else:
                self.ignored["notification"] += 1
            return
        self.ignored["request"] += 1
        if not isinstance(number, int | str) or isinstance(number, bool) or not self._may_reply():
            return
        reply: Params = {"jsonrpc": "2.0", "id": number}
        if method == "ping":
            reply["result"] = {}
        else:
            reply["error"] = {"code": _METHOD_NOT_FOUND, "message": "epad answers no requests of servers"}
        with suppress(ServerError):
            self._send(encoded(reply))

    def _may_reply(self) -> bool:
        now = self._now()
        self._replied = [at for at in self._replied if now - at < 1]
        if len(self._replied) >= REPLIES_A_SECOND:
            return False
        self._replied.append(now)
        return True

    def _too_long(self, line: TooLong) -> None:
        """Fail the request that a line of too many bytes answers; every one, where that cannot be told."""
        error = f"it answered with {line.size} bytes in one message, which is more than epad takes"
        known = self._waiting.get(line.answers) if line.answers is not None else None
        for answer in [known] if known is not None else list(self._waiting.values()):
            if not answer.done():
                answer.set_exception(ServerError(error))
        self.ignored["too long"] += 1

    def _cancel(self, number: int, method: str, why: str) -> None:
        if method == "initialize":  # the protocol forbids it
            return
        with suppress(ServerError):
            self.tell(CANCELLED, {"requestId": number, "reason": why})


def encoded(message: Mapping[str, Any]) -> bytes:
    """Return a message in one line. Raises ServerError for text that is none."""
    try:
        return msgspec.json.encode(message)
    except (UnicodeEncodeError, RecursionError, TypeError) as error:
        raise ServerError(f"the arguments cannot be sent: {error}") from error


def error_of(error: Params) -> AnswerError:
    """Return an error of JSON-RPC as one of ours."""
    code, message = error.get("code"), error.get("message")
    text = visible(message) if isinstance(message, str) else "an error without words"
    return AnswerError(code if isinstance(code, int) else 0, cut(text, _MOST_MESSAGE))
