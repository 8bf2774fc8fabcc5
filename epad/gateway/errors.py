"""Define the errors of the gateway."""

from __future__ import annotations

from epad import EpadError
from probes.blame import Failure


class GatewayError(EpadError):
    """The gateway cannot carry out an operation."""


class IdentityError(GatewayError):
    """A key could not be issued."""


class BudgetError(GatewayError):
    """A budget was used wrongly: an unknown subsystem, or a reservation settled twice."""


class RequestError(GatewayError):
    """A request's body cannot be read; the message names the place."""


class UpstreamError(GatewayError):
    """A model server could not be reached or broke off. `nothing_spent` if it cannot have begun."""

    def __init__(
        self, message: str, *, nothing_spent: bool = False, failure: Failure = Failure.BROKE_OFF
    ) -> None:
        super().__init__(message)
        self.nothing_spent = nothing_spent
        self.failure = failure


class StateError(GatewayError):
    """Something happened to a turn or a connection that its state does not allow: a fault of epad's own."""
