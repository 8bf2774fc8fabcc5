"""Decide whose fault it is that a turn failed, came late, was asked again, or was refused.

Every detector goes by this one place, and counts only the faults of the `CLIENT`. The facts come from the gateway: the
upstream's answer, the failure, and the refusal that was given. Text from an upstream can hold the client's own text,
since servers repeat the part they object to. So a body decides only if the status leaves it open, and for a refused
request only the beginning of the message counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from msgspec import Struct

PATIENCE_SECONDS = 4.0
"""A client that leaves after so long without a byte was not served; one that leaves sooner did so by its own choice."""

READ_CHARACTERS = 600
"""How much of an error's text is looked at."""


class Fault(StrEnum):
    """Names the party at fault.

    `NOBODY`: nothing went wrong. `LIMIT`: a limit did its work. `EPAD`: its own doing, a hold.
    """

    NOBODY = "nobody"
    CLIENT = "client"
    UPSTREAM = "upstream"
    KEY = "key"
    HOST = "host"
    LIMIT = "limit"
    EPAD = "epad"


class Said(StrEnum):
    """Classifies an upstream's error by its text."""

    NOTHING = "nothing"
    LIMITED = "limited"
    AUTH = "auth"
    NO_MODEL = "no model"
    NO_ROUTE = "no route"
    TOO_LONG = "too long"
    LOADING = "loading"
    OUT_OF_MEMORY = "out of memory"
    REFUSED_CONTENT = "refused content"


class Failure(StrEnum):
    """Names the event that ended a turn without an answer from the upstream."""

    NONE = "none"
    NOT_CONNECTED = "not connected"
    NOT_ASKED = "not asked"
    BROKE_OFF = "broke off"
    SILENT = "silent"
    UNREADABLE = "unreadable"
    NO_ANSWER = "no answer"
    OVERRAN = "overran"
    HOST_SHORT = "host short"
    CLIENT_GONE = "client gone"
    CLIENT_SLOW = "client slow"
    SEVERED = "severed"
    INTERNAL = "internal"


class Ending(Struct, frozen=True):
    """The facts of one turn's end.

    `status` is the upstream's, 0 if it never answered. `own_key` is true if the upstream judged epad's key, or epad has
    none for it; false if the client's own key was passed on. `well` is true if the upstream was fit to be asked.
    `waited_seconds` passed without a byte of the answer, 0 if one came.
    """

    failed: bool = False
    status: int = 0
    said: Said = Said.NOTHING
    failure: Failure = Failure.NONE
    own_key: bool = True
    well: bool = True
    waited_seconds: float = 0.0


_BY_FAILURE = {
    Failure.NOT_CONNECTED: Fault.UPSTREAM,
    Failure.NOT_ASKED: Fault.UPSTREAM,
    Failure.BROKE_OFF: Fault.UPSTREAM,
    Failure.SILENT: Fault.UPSTREAM,
    Failure.UNREADABLE: Fault.UPSTREAM,
    Failure.OVERRAN: Fault.UPSTREAM,
    Failure.HOST_SHORT: Fault.HOST,
    Failure.CLIENT_SLOW: Fault.CLIENT,
    Failure.SEVERED: Fault.EPAD,
    Failure.INTERNAL: Fault.EPAD,
}
# What a request itself brings about, whatever status the server chose for it.
_OF_THE_REQUEST = frozenset({Said.TOO_LONG, Said.NO_MODEL, Said.REFUSED_CONTENT})
_KEY_STATUSES = frozenset({401, 403, 407})
# A timeout, a failed dependency, too early, a quota, a limit: of the 4xx these say nothing against the request.
_OF_THE_SERVER = frozenset({402, 408, 421, 423, 424, 425, 429})


def fault_of(end: Ending) -> Fault:
    """Say whose fault the end of a turn is."""
    if end.failure is Failure.CLIENT_GONE:
        served = end.well and end.waited_seconds < PATIENCE_SECONDS
        return Fault.CLIENT if served else Fault.UPSTREAM
    if end.failure in _BY_FAILURE:
        return _BY_FAILURE[end.failure]
    if end.status >= 400:
        return _of_status(end)
    if not end.failed:
        return Fault.NOBODY
    return Fault.CLIENT if end.said in _OF_THE_REQUEST else Fault.UPSTREAM


def _of_status(end: Ending) -> Fault:
    status, said = end.status, end.said
    if status >= 500:
        return Fault.CLIENT if said is Said.TOO_LONG else Fault.UPSTREAM
    if status in _OF_THE_SERVER or (status in _KEY_STATUSES and said is Said.LIMITED):
        return Fault.UPSTREAM
    if status in _KEY_STATUSES or said is Said.AUTH:
        if status == 403 and said in _OF_THE_REQUEST:
            return Fault.CLIENT
        return Fault.KEY if end.own_key else Fault.CLIENT
    return Fault.UPSTREAM if said is Said.NO_ROUTE else Fault.CLIENT


_REFUSALS = {
    "invalid_api_key": Fault.CLIENT,
    "wrong_user": Fault.CLIENT,
    "strange_host": Fault.CLIENT,
    "strange_site": Fault.CLIENT,
    "request_timeout": Fault.CLIENT,
    "route_not_metered": Fault.CLIENT,
    "route_denied": Fault.CLIENT,
    "invalid_request": Fault.CLIENT,
    "request_too_large": Fault.CLIENT,
    "model_not_found": Fault.CLIENT,
    "decoy_sent": Fault.CLIENT,
    "idempotency_key_reused": Fault.CLIENT,
    "agent_ended": Fault.LIMIT,
    "bodies_too_large": Fault.LIMIT,
    "too_many_bodies": Fault.LIMIT,
    "request_exceeds_budget": Fault.LIMIT,
    "budget_exceeded": Fault.LIMIT,
    "too_many_in_flight": Fault.LIMIT,
    "too_many_requests": Fault.LIMIT,
    "reservation_overrun": Fault.LIMIT,
    "model_not_priced": Fault.LIMIT,
    "subsystem_quarantined": Fault.EPAD,
    "subsystem_throttled": Fault.EPAD,
    "gateway_closed": Fault.EPAD,
    "gateway_stopping": Fault.EPAD,
    "internal_error": Fault.EPAD,
    "ledger_unavailable": Fault.HOST,
    "upstream_error": Fault.UPSTREAM,
    "upstream_compressed": Fault.UPSTREAM,
    "reservation_exceeded": Fault.UPSTREAM,
    "upstream_unavailable": Fault.UPSTREAM,
    "upstream_loading": Fault.UPSTREAM,
    "upstream_limited": Fault.UPSTREAM,
    "upstream_rejects_key": Fault.KEY,
}
"""Every code that a refusal can have. A new one must be put here: `tests/probes/test_blame.py` compares the two."""


def fault_of_refusal(code: str) -> Fault:
    """Say whose fault it is that a request was turned away with this code."""
    return _REFUSALS.get(code, Fault.LIMIT)


def excuses_retry(
    fault: Fault, *, waited_seconds: float, told_seconds: float = 0.0, tolerance: float = 0.05
) -> bool:
    """Tell if the last ending is a reason to ask again, so that the retry is not the client's fault.

    Somebody else's failure is one. A limit's refusal is one if the client waited for as long as it was told; a
    twentieth less is forgiven, since clocks and whole seconds differ.
    """
    if fault in {Fault.UPSTREAM, Fault.KEY, Fault.HOST}:
        return True
    if fault in {Fault.LIMIT, Fault.EPAD}:
        return waited_seconds >= told_seconds * (1 - tolerance)
    return False


_SAYS: Mapping[Said, tuple[str, ...]] = MappingProxyType({
    Said.LOADING: ("loading model", "model is (?:still |currently )?(?:loading|starting)",
                   "(?:still|currently) loading", "not ready yet", "warming up", "model.{0,40}is loading"),
    Said.OUT_OF_MEMORY: ("out of memory", "cuda error", "cublas", "hip error", "kv cache is full",
                         "insufficient memory", "requires more system memory", "(?:failed|unable) to allocate"),
    Said.TOO_LONG: ("context.{0,12}(?:length|size|window)", "maximum context", "max_model_len", "too many tokens",
                    "(?:prompt|input) is too long", "exceeds? the (?:available )?context",
                    "longer than the (?:model|context)"),
    Said.NO_MODEL: ("model.{0,160}(?:not found|not exist|not supported|unknown|is not available|not loaded|no such)",
                    "model_not_found", "(?:unknown|no such|invalid) model", "not_found_error.{0,40}model",
                    "does not have access to model"),
    Said.NO_ROUTE: (r'"detail"\s*:\s*"not found"', "file not found", "404 page not found", "cannot (?:post|get) /",
                    "no route", "unexpected endpoint", "invalid url"),
    Said.REFUSED_CONTENT: ("moderation", "content (?:policy|filter)", "content_filter", "was flagged", "safety system"),
    Said.LIMITED: ("rate.?limit", "too many requests", "quota", "insufficient.{0,8}(?:credit|balance|fund)",
                   "overloaded"),
    Said.AUTH: ("api.?key", "unauthori[sz]ed", "authenticat", "credential", "bearer",
                "token (?:is )?(?:invalid|expired)"),
})  # fmt: skip
_PATTERNS = tuple((said, re.compile("|".join(parts), re.DOTALL)) for said, parts in _SAYS.items())
# Gemini and xAI answer a wrong key with 400, and nothing of the request stands before these words.
_BAD_KEY = re.compile(r"\W*(?:api key (?:not valid|expired|invalid)|(?:incorrect|invalid) api key)")
# The statuses of a request that was looked at and found wrong: their text may be the client's.
_JUDGED = frozenset({400, 405, 406, 409, 410, 411, 413, 414, 415, 416, 422})


def said_in(status: int, text: str, message: str = "") -> Said:
    """Classify the body of an error; `message` is its own sentence, if it has one."""
    if status in _JUDGED:
        return Said.AUTH if _BAD_KEY.match((message or text)[:READ_CHARACTERS].lower()) else Said.NOTHING
    lowered = text[:READ_CHARACTERS].lower()
    return next((said for said, pattern in _PATTERNS if pattern.search(lowered)), Said.NOTHING)
