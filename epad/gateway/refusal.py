"""Define the gateway's refusals: one table, and the constructors that fill it in.

Statuses are chosen by the clients' reactions to them (measured: openai 1.x to 3.x repeat 408, 409, 429 and 5xx three
times, and nothing else): a refusal that no waiting helps with is one of 400, 401, 402, 403, 404, 413.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from epad.gateway.limits import ENDED, IN_FLIGHT, OVERRUN, REQUESTS, Refused
from epad.gateway.money import dollars
from statemachine.containment import Rung

# openai 1.x ignores a longer Retry-After and repeats at once.
LONGEST_RETRY_AFTER_SECONDS = 60
# The minute's window and the one second its expiry is rounded up by; no client waits longer than that.
_WORTH_WAITING_SECONDS = 61.0
LEDGER_RETRY_SECONDS = 5
UPSTREAM_RETRY_SECONDS = 5
# epad looks at a server that is down every second, so that whoever comes back after this is served if it is back.
UPSTREAM_DOWN_RETRY_SECONDS = 2
_DOWN_CODES = {"loading": "upstream_loading", "rejecting": "upstream_rejects_key"}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Holds a refusal of a request, in no dialect yet."""

    status: int
    type: str
    code: str
    message: str
    retriable: bool = False
    retry_after_seconds: int | None = None
    details: Mapping[str, str | int] = field(default_factory=dict)

    def headers(self) -> dict[str, str]:
        """Return the headers that tell a client whether to come back, and when."""
        headers = {} if self.retriable else {"x-should-retry": "false"}
        if self.retry_after_seconds is not None:
            headers["Retry-After"] = str(self.retry_after_seconds)
        return headers


class Unavailable(Protocol):
    """An upstream that is not asked now."""

    @property
    def state(self) -> str: ...

    @property
    def limiting(self) -> bool: ...

    @property
    def seconds(self) -> float: ...

    @property
    def sentence(self) -> str: ...


class RefusalError(Exception):
    """The request in hand is refused; carries the refusal and, for a budget, which limit it would cross.

    `upstream` is the one that is down, where that is why; `waited_seconds`, how long it waited for room.
    """

    def __init__(
        self,
        refusal: Refusal,
        refused: Refused | None = None,
        prompt_digest: bytes = b"",
        upstream: str = "",
        waited_seconds: float = 0.0,
    ) -> None:
        super().__init__(refusal.message)
        self.upstream = upstream
        self.waited_seconds = waited_seconds
        self.refusal = refusal
        self.refused = refused
        self.prompt_digest = prompt_digest


UNKNOWN_IDENTITY = Refusal(
    401,
    "authentication_error",
    "invalid_api_key",
    "no subsystem has this key: send the subsystem's own key as 'Authorization: Bearer epad-...'",
)


def wrong_user(name: str) -> Refusal:
    """Refuse a key, or a door, in the hands of another user than the subsystem's own."""
    message = f"{name} is another user's: [subsystems.{name}] user says whose"
    return Refusal(403, "permission_error", "wrong_user", message)


def decoy_sent(owner: str) -> Refusal:
    """Refuse a prompt with a key in it that opens nothing, and was planted to see who sends it on."""
    message = f"the request holds the decoy key of {owner}: it was not sent, and a person is told"
    return Refusal(403, "permission_error", "decoy_sent", message)


def strange_host(reason: str) -> Refusal:
    """Refuse a public name that nobody configured: a site may have pointed it here (DNS rebinding)."""
    message = f"{reason}: send a key, ask by an address or localhost, or name the host in [gateway] hosts"
    return Refusal(403, "permission_error", "strange_host", message)


def strange_site(reason: str) -> Refusal:
    """Refuse a page of another site, in a browser on this machine."""
    message = f"{reason} without a key: send one, or name the page's host in [gateway] hosts"
    return Refusal(403, "permission_error", "strange_site", message)


INTERNAL = Refusal(
    500, "server_error", "internal_error", "the gateway failed on this request; epad's log has the trace"
)
STOPPING = Refusal(
    503, "server_error", "gateway_stopping", "epad is stopping", retriable=True, retry_after_seconds=5
)
LEDGER_UNAVAILABLE = Refusal(
    503,
    "server_error",
    "ledger_unavailable",
    "the turn ledger cannot be written, so nothing is forwarded: see `epactl ledger verify` and the disk",
    retriable=True,
    retry_after_seconds=LEDGER_RETRY_SECONDS,
)
BODY_TOO_SLOW = Refusal(
    408, "invalid_request_error", "request_timeout", "the request's body did not arrive in time"
)


def not_metered(method: str, path: str, metered: Iterable[str]) -> Refusal:
    """Refuse a route that epad cannot account for."""
    message = f"{method} {path[:100]} is not metered, so it is not forwarded; metered: {', '.join(metered)}"
    return Refusal(403, "permission_error", "route_not_metered", message)


def route_denied(method: str, path: str) -> Refusal:
    """Refuse a route that manages models."""
    message = (
        f"{method} {path[:100]} changes what every subsystem is served, so it is denied through the gateway; "
        "manage models at the model server itself"
    )
    return Refusal(403, "permission_error", "route_denied", message)


def reservation_exceeded(upstream: str, cap_tokens: int) -> Refusal:
    """End a stream that goes on beyond the most it was asked for."""
    message = f"upstream {upstream} went on beyond the {cap_tokens} output tokens that it was told to stop at"
    return Refusal(502, "upstream_error", "reservation_exceeded", message)


def invalid_request(message: str) -> Refusal:
    """Refuse a body that cannot be read, or a value in it that cannot be."""
    return Refusal(400, "invalid_request_error", "invalid_request", message)


def body_too_large(limit_bytes: int) -> Refusal:
    """Refuse a body beyond `max_body_bytes`."""
    message = f"the request's body is larger than {limit_bytes} bytes ([gateway] max_body_bytes)"
    return Refusal(413, "invalid_request_error", "request_too_large", message)


def bodies_too_large(whose: str, held: int, most: int, key: str) -> Refusal:
    """Bodies that together take up more than they may; some will be answered soon."""
    held_now = f"bodies of {whose} take up {held} bytes already"
    message = f"{held_now}, and at most {most} are held at once ([gateway] {key}): wait"
    return Refusal(
        429, "rate_limit_exceeded", "bodies_too_large", message, retriable=True, retry_after_seconds=1
    )


def too_many_bodies(name: str, coming: int) -> Refusal:
    """More requests under way than could find a place when they are whole."""
    message = f"{coming} requests of {name} are being sent already, more than it may have in flight: wait"
    return Refusal(
        429, "rate_limit_exceeded", "too_many_bodies", message, retriable=True, retry_after_seconds=1
    )


def unknown_model(model: str, dialect: str, patterns: Iterable[str]) -> Refusal:
    """Refuse a model that no upstream serves in this dialect."""
    served = ", ".join(patterns) or "nothing"
    message = f"no upstream serves {model!r} in the {dialect} dialect; [upstreams] serve: {served}"
    return Refusal(404, "invalid_request_error", "model_not_found", message)


def quarantined(name: str, rung: Rung, reason: str, line: str = "") -> Refusal:
    """Refuse a subsystem held at BLOCK or above. `line` names also the end of the hold, and the command for it."""
    message = line or f"{name} is quarantined ({rung.label}): {reason}. `epactl release {name}` opens it"
    return Refusal(403, "permission_error", "subsystem_quarantined", message)


def throttled(name: str, reason: str, wait_seconds: float, line: str = "") -> Refusal:
    """Refuse a subsystem held at THROTTLE that came too soon. `line` names also the end of the hold."""
    message = line or f"{name} is throttled: {reason}"
    return Refusal(
        429,
        "rate_limit_exceeded",
        "subsystem_throttled",
        message,
        retriable=True,
        retry_after_seconds=_whole_seconds(wait_seconds),
    )


def closed(code: str, reason: str) -> Refusal:
    """Refuse a subsystem because of the phase, not because of its own behaviour."""
    return Refusal(403, "permission_error", code, reason)


def over_budget(refused: Refused) -> Refusal:
    """A reservation that would cross a limit: too large ever, too large for long, or worth waiting for."""
    if refused.limit in {IN_FLIGHT, REQUESTS}:
        return _too_many(refused)
    if refused.limit in {OVERRUN, ENDED}:
        return _overrun(refused) if refused.limit == OVERRUN else _ended(refused)
    details = _figures(refused)
    what = _in_words(refused)
    if refused.permanent:
        fix = "shorten its prompt or its maximum of output tokens, or raise the budget"
        message = f"{what}: this request never fits; {fix}"
        return Refusal(400, "invalid_request_error", "request_exceeds_budget", message, details=details)
    if math.isinf(refused.retry_after_seconds):
        message = f"{what}: the budget is spent, and no time makes room in it"
        return Refusal(402, "insufficient_quota", "budget_exceeded", message, details=details)
    if refused.retry_after_seconds > _WORTH_WAITING_SECONDS:
        # Not to be repeated by itself: openai 1.x ignores so long a Retry-After, and asks again at once.
        seconds = math.ceil(refused.retry_after_seconds)
        return Refusal(
            429,
            "rate_limit_exceeded",
            "budget_exceeded",
            f"{what}: the budget is spent; there is room in {seconds} s",
            retry_after_seconds=seconds,
            details=details,
        )
    return Refusal(
        429,
        "rate_limit_exceeded",
        "budget_exceeded",
        f"{what}: wait",
        retriable=True,
        retry_after_seconds=_whole_seconds(refused.retry_after_seconds),
        details=details,
    )


def not_priced(model: str) -> Refusal:
    """Refuse a model whose cost is not known, for a subsystem whose money is counted."""
    message = (
        f'{model!r} has no price, and a budget in USD applies: give [prices."{model}"] input and output '
        "in USD per million tokens, or mark its upstream free = true"
    )
    return Refusal(403, "permission_error", "model_not_priced", message)


def key_reused(key: str) -> Refusal:
    """Refuse an Idempotency-Key that stands for another request; 422, since clients repeat a 409."""
    message = f"Idempotency-Key {key!r} was used with another request: send a new key with a new request"
    return Refusal(422, "invalid_request_error", "idempotency_key_reused", message)


def upstream_failed(message: str) -> Refusal:
    """The model server could not be reached, broke off, or does not let epad in."""
    return Refusal(
        502,
        "upstream_error",
        "upstream_error",
        message,
        retriable=True,
        retry_after_seconds=UPSTREAM_RETRY_SECONDS,
    )


def upstream_unavailable(down: Unavailable) -> Refusal:
    """A model server that is not asked now: the client is told so at once, and when to come back."""
    if down.limiting:
        return _limited(down)
    return Refusal(
        503,
        "upstream_error",
        _DOWN_CODES.get(down.state, "upstream_unavailable"),
        down.sentence,
        retriable=True,
        retry_after_seconds=UPSTREAM_DOWN_RETRY_SECONDS,
    )


def _limited(down: Unavailable) -> Refusal:
    """Pass on a server's own limit, for as long as it told: a long wait is not to be repeated by itself."""
    seconds = max(1, math.ceil(down.seconds))
    return Refusal(
        429,
        "rate_limit_exceeded",
        "upstream_limited",
        down.sentence,
        retriable=seconds <= LONGEST_RETRY_AFTER_SECONDS,
        retry_after_seconds=seconds,
    )


def compressed(upstream: str, codings: Iterable[str]) -> Refusal:
    """An answer that was compressed although it was asked for as it is, in a way that is not known here."""
    message = (
        f"upstream {upstream} answered in {', '.join(codings)} though `Accept-Encoding: identity` was asked for: "
        "what it says cannot be counted; turn compression off there, or in the proxy before it"
    )
    return Refusal(502, "upstream_error", "upstream_compressed", message)


def _too_many(refused: Refused) -> Refusal:
    """More at once, or within the minute, than the scope may: waiting helps."""
    in_flight = refused.limit == IN_FLIGHT
    what = "turns are in flight" if in_flight else "requests of this minute were made"
    return Refusal(
        429,
        "rate_limit_exceeded",
        "too_many_in_flight" if in_flight else "too_many_requests",
        f"{refused.used} of {refused.allowed} {what} ({refused.scope} {refused.limit})",
        retriable=True,
        retry_after_seconds=_whole_seconds(refused.retry_after_seconds),
        details=_figures(refused),
    )


def _ended(refused: Refused) -> Refusal:
    message = f"the agent {refused.scope} has ended, and its budget has gone back to its parent"
    return Refusal(403, "permission_error", "agent_ended", message)


def _overrun(refused: Refused) -> Refusal:
    """A turn cost more than was possible, so nothing that is reserved can be trusted any more."""
    message = (
        f"a turn of {refused.scope} used {refused.used} tokens where at most {refused.allowed} were possible; "
        f"see `epactl explain {refused.scope}`; `epactl release {refused.scope}` opens it"
    )
    return Refusal(403, "permission_error", "reservation_overrun", message, details=_figures(refused))


def _in_words(refused: Refused) -> str:
    limit = refused.limit
    if unit_of(limit) == "microusd":
        asked, used, allowed = (dollars(n) for n in (refused.asked, refused.used, refused.allowed))
        limit = limit.replace("microusd_", "usd_")
        return f"{asked} asked, {used} of {allowed} used ({refused.scope} {limit})"
    asked = f"up to {refused.asked} tokens asked (a prompt counts one a byte until it is settled)"
    return f"{asked}, {refused.used} of {refused.allowed} used ({refused.scope} {limit})"


def unit_of(limit: str) -> str:
    """Return the unit of a limit: tokens, microusd or requests."""
    if limit in {IN_FLIGHT, REQUESTS}:
        return "requests"
    return "microusd" if limit.startswith("microusd_") else "tokens"


def _figures(refused: Refused) -> dict[str, str | int]:
    return {
        "scope": refused.scope,
        "limit": refused.limit,
        "allowed": refused.allowed,
        "used": refused.used,
        "asked": refused.asked,
    }


def _whole_seconds(seconds: float) -> int:
    return min(max(1, math.ceil(seconds)), LONGEST_RETRY_AFTER_SECONDS)
