"""Sign the state that a client brings back with a call that waits for a person's consent, and check it.

The state belongs to one caller, session, tool and set of arguments, and to one question; it ends after STATE_SECONDS
and with the daemon. It approves nothing: a person answers the question elsewhere.
"""

from __future__ import annotations

import hmac
import os
import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Final

from epad.tools.protocol import Question, Replies

STATE_SECONDS: Final = 300
CONSENT: Final = "consent"
"""The name of the question that a client is asked."""
_MAC_CHARACTERS: Final = 64
_read = re.compile(rf"([0-9]{{1,12}})\.([0-9]{{1,12}})\.([0-9a-f]{{{_MAC_CHARACTERS}}})").fullmatch
_DECLINED: Final = frozenset({"decline", "cancel"})


class ConsentStates:
    """Makes and checks states, with a key that nobody else has."""

    def __init__(self) -> None:
        self._key = os.urandom(32)

    def make(self, number: int, call: tuple[str, ...], now: float) -> str:
        """Return the state of a call that waits for a question's answer. `now` is on the monotonic clock."""
        until = int(now) + STATE_SECONDS
        return f"{number}.{until}.{self._mac(number, until, call)}"

    def fault(self, state: str, call: tuple[str, ...], now: float) -> str:
        """Return what is wrong with the state that a call brings; empty if it is this call's own."""
        read = _read(state)
        if read is None or not hmac.compare_digest(read[3], self._mac(int(read[1]), int(read[2]), call)):
            return "requestState: it is not the one of this call: bring back what came with the question, as it was"
        if now > int(read[2]):
            return f"requestState: it is older than {STATE_SECONDS} s: call again without it"
        return ""

    def _mac(self, number: int, until: int, call: tuple[str, ...]) -> str:
        told = "\0".join((str(number), str(until), *call))
        return hmac.new(self._key, told.encode(errors="surrogatepass"), sha256).hexdigest()


def asked(number: int, line: str) -> Mapping[str, Question]:
    """Return the question for a client, which tells its person where the real one is answered."""
    message = (
        f"A person's consent is needed: {line}. Answer with `epactl approve {number}` or `epactl deny {number}`, or on "
        "the status page. To accept here approves nothing: it says that the question is answered."
    )
    schema = {"type": "object", "properties": {}}
    return {CONSENT: Question("elicitation/create", {"message": message, "requestedSchema": schema})}


def can_ask(replies: Replies) -> bool:
    """Tell if a client can be asked, and was not yet about this call."""
    return "elicitation" in replies.may_ask and not replies.state


def is_declined(replies: Replies) -> bool:
    """Tell if the client's person gives the call up."""
    return replies.by_name.get(CONSENT, {}).get("action") in _DECLINED
