"""Answering with a refusal: in the client's dialect, counted, told to the probes, with a rest for whoever hammers."""

from __future__ import annotations

from epad.gateway import refusal as refuse
from epad.gateway.budget import LONGEST_WINDOW_SECONDS
from epad.gateway.dialects.dialect import Dialect
from epad.gateway.dialects.routes import Routes
from epad.gateway.http.message import Field, Fields, Response, json_response
from epad.gateway.http.request import Fault, Request
from epad.gateway.metrics import REFUSALS
from epad.gateway.parts import GatewayParts
from epad.gateway.refusal import Refusal, RefusalError
from epad.gateway.refusal_rate import Hammering, Rendered
from epad.gateway.tally import Tally
from epad.gateway.turn import BrokenTurnError, turn_field
from probes.blame import fault_of_refusal
from probes.turns import TurnRefused


class RefusalAnswers:
    """Makes the answers of requests that are refused, or that failed within epad."""

    def __init__(self, parts: GatewayParts, routes: Routes) -> None:
        self._parts = parts
        self._routes = routes
        self._hammering = Hammering(parts.config.refusals_before_rest)
        self._rendered = Rendered()
        self._refusals = Tally(parts.metrics.of(REFUSALS).labels)
        parts.metrics.gathers(self._refusals.add_up)

    def answer(self, request: Request, name: str, error: Exception) -> Response:
        """Tell a client why it gets no other answer. Raises a ConnectionError again: there is no one left to tell."""
        if isinstance(error, RefusalError):
            return self.refuse(request, name, error)
        if isinstance(error, BrokenTurnError):
            response = render(error.turn.arrival.endpoint.dialect, error.refusal)
            response.fields.append(turn_field(error.turn))
            return response
        if isinstance(error, ConnectionError):
            raise error
        return self._fail(request, name, error)

    def refuse(self, request: Request, name: str, error: RefusalError) -> Response:
        """Refuse a request. Who is refused again and again has to wait, at its own door or on this connection."""
        self._note(name, error)
        refusal = error.refusal
        if self._parts.side.serves(request.path):
            body = self._parts.side.error_body(request.path, refusal)
        else:
            body = self._rendered.body(self._routes.dialect(request.path, request.fields), refusal)
        response = json_response(refusal.status, body, _fields(refusal))
        if self._hammering.is_hammering(name, self._parts.clock.monotonic()):
            request.connection.rest()
        return response

    def _fail(self, request: Request, name: str, error: Exception) -> Response:
        """Answer a request that met a fault of epad's own; the trace is kept."""
        self._parts.log.error(
            "gateway.internal_error", subsystem=name, path=request.path, error=str(error), exc_info=error
        )
        if self._parts.side.serves(request.path):
            return json_response(
                refuse.INTERNAL.status, self._parts.side.error_body(request.path, refuse.INTERNAL)
            )
        return render(self._routes.dialect(request.path, request.fields), refuse.INTERNAL)

    def unreadable(self, fault: Fault) -> Response:
        """Answer what is no request."""
        return render(self._routes.dialect("", Fields([])), self.refusal_of(fault))

    def refusal_of(self, fault: Fault) -> Refusal:
        """Return the refusal of a request that could not be read to its end."""
        if fault is Fault.TOO_LARGE:
            return refuse.body_too_large(self._parts.config.max_body_bytes)
        if fault is Fault.TOO_SLOW:
            return refuse.BODY_TOO_SLOW
        return refuse.invalid_request(f"the request cannot be read: {fault.value}")

    def _note(self, name: str, error: RefusalError) -> None:
        """Count a refusal, and tell the probes whose it was."""
        self._refusals[name, error.refusal.code] += 1
        if not name:
            return
        refused = error.refused
        self._parts.observer.refused(
            TurnRefused(
                subsystem=name,
                at=self._parts.clock.monotonic(),
                code=error.refusal.code,
                limit=refused.limit if refused else "",
                limit_tokens=refused.allowed if refused else 0,
                used_tokens=refused.used if refused else 0,
                asked_tokens=refused.asked if refused else 0,
                unit=refuse.unit_of(refused.limit) if refused else "tokens",
                # In the recording there is no infinity.
                retry_after_seconds=min(refused.retry_after_seconds, LONGEST_WINDOW_SECONDS)
                if refused
                else float(error.refusal.retry_after_seconds or 0),
                prompt_digest=error.prompt_digest,
                fault=fault_of_refusal(error.refusal.code),
                upstream=error.upstream,
                waited_seconds=error.waited_seconds,
            )
        )


def render(dialect: Dialect, refusal: Refusal) -> Response:
    """Return a refusal as an answer in a dialect."""
    return json_response(refusal.status, dialect.error_body(refusal), _fields(refusal))


def _fields(refusal: Refusal) -> list[Field]:
    return [(name.encode(), value.encode()) for name, value in refusal.headers().items()]
