"""Questions that a client answers before a call goes on: as a result of its own kind, or as requests to the client.

From 2026-07-28 on the result says `input_required`, and the client repeats its request with the replies. Before that
each question is a request on the stream of the call, and the reply is posted by itself: the call is repeated here.

| the client | then |
|---|---|
| has not declared the capability | the request fails with MISSING_CAPABILITY, which names it |
| replies | the call is repeated with the replies, and with the state that came with the questions |
| refuses with an error | the same, with `{"action": "decline"}` for a reply |
| hangs up, or the call is cancelled | its questions are forgotten |
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from itertools import count
from typing import Any

from epad.tools.protocol import Question, Replies
from epad.tools.wire.asked import Result
from epad.tools.wire.messages import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    MISSING_CAPABILITY,
    Id,
    Message,
    Params,
    ProtocolError,
    encode,
)

REQUESTS, RESPONSES, STATE = "inputRequests", "inputResponses", "requestState"
_CAPABILITIES = {
    "elicitation/create": "elicitation",
    "sampling/createMessage": "sampling",
    "roots/list": "roots",
}
ASKED = frozenset(_CAPABILITIES.values())
"""The capabilities by which clients can be asked; each begins with a letter of its own."""
_MOST_ROUNDS = 8
_MOST_STATE_CHARACTERS = 8 << 10
_DECLINED: Mapping[str, object] = {"action": "decline"}


def capabilities_of(declared: object) -> frozenset[str]:
    """Return those of a client's declared capabilities that questions need."""
    given = declared if isinstance(declared, Mapping) else {}
    return frozenset(name for name in ASKED if isinstance(given.get(name), Mapping))


def read_replies(params: Params, may_ask: frozenset[str]) -> Replies:
    """Read the replies that a request repeats an earlier one with. Raises ProtocolError."""
    by_name, state = params.get(RESPONSES, {}), params.get(STATE, "")
    if not isinstance(by_name, dict) or not all(isinstance(one, dict) for one in by_name.values()):
        raise ProtocolError(INVALID_PARAMS, f"params.{RESPONSES}: an object of replies, each an object")
    if not isinstance(state, str) or len(state) > _MOST_STATE_CHARACTERS:
        raise ProtocolError(
            INVALID_PARAMS, f"params.{STATE}: the text that came with the questions, as it was"
        )
    return Replies(by_name, state, may_ask)


def asking(questions: Mapping[str, Question], state: str, replies: Replies) -> Result:
    """Return the result that puts questions to a client. Raises ProtocolError if it cannot be asked."""
    needed = {_CAPABILITIES.get(one.method, one.method) for one in questions.values()}
    if missing := sorted(needed - replies.may_ask):
        said = f"the client must declare {' and '.join(missing)}: the call asks it something"
        capabilities: dict[str, dict[str, object]] = {name: {} for name in missing}
        raise ProtocolError(MISSING_CAPABILITY, said, {"requiredCapabilities": capabilities})
    requests = {name: {"method": one.method, "params": one.params} for name, one in questions.items()}
    return {
        "resultType": "input_required",
        REQUESTS: requests,
        **({STATE: state} if state else {}),
    }


class Asking:
    """Puts questions to clients of the era of sessions, and knows those without a reply."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, str, Id], asyncio.Future[Mapping[str, object]]] = {}
        self._numbers = count(1)

    async def settle(
        self,
        answer: Callable[[Replies], Awaitable[Result]],
        replies: Replies,
        client: tuple[str, str],
        send: Callable[[bytes], None],
    ) -> Result:
        """Return a request's result once its questions have their replies. `client` is a subsystem and a session.

        Raises ProtocolError, also for a call that asks without an end.
        """
        for _ in range(_MOST_ROUNDS):
            result = await answer(replies)
            requests = result.get(REQUESTS)
            if not isinstance(requests, dict):
                return result
            given = await self._ask(requests, client, send)
            replies = Replies(given, str(result.get(STATE, "")), replies.may_ask)
        raise ProtocolError(INTERNAL_ERROR, f"the call asked more than {_MOST_ROUNDS} times")

    def replied(self, subsystem: str, session: str, message: Message) -> None:
        """Take a client's reply; one to no question of its session is dropped."""
        future = self._open.get((subsystem, session, message.id)) if message.id else None
        if future is not None and not future.done():
            future.set_result(message.result if isinstance(message.result, dict) else _DECLINED)

    async def _ask(
        self, requests: Mapping[str, Any], client: tuple[str, str], send: Callable[[bytes], None]
    ) -> dict[str, Mapping[str, object]]:
        futures: dict[str, asyncio.Future[Mapping[str, object]]] = {}
        places: list[tuple[str, str, Id]] = []
        try:
            for name, request in requests.items():
                message_id = f"epad-{next(self._numbers)}"
                futures[name] = asyncio.get_running_loop().create_future()
                places.append((*client, message_id))
                self._open[places[-1]] = futures[name]
                send(encode({"jsonrpc": "2.0", "id": message_id, **request}))
            return {name: await future for name, future in futures.items()}
        finally:
            for place in places:
                del self._open[place]
