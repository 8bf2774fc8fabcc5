"""What the gateway tells the probes about turns, as it happens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class TurnAdmitted:
    """A request was let through. `prompt_digest` identifies its body; `retry` is the client's own count."""

    subsystem: str
    at: float
    turn: str
    model: str
    reserved_tokens: int
    prompt_digest: bytes
    retry: int = 0


@dataclass(frozen=True, slots=True)
class TurnRefused:
    """A request was turned away. `code` is the refusal's own code, such as `budget_exceeded`."""

    subsystem: str
    at: float
    code: str
    limit: str = ""
    limit_tokens: int = 0
    used_tokens: int = 0
    asked_tokens: int = 0
    prompt_digest: bytes = b""


@dataclass(frozen=True, slots=True)
class TurnFinished:
    """A turn was closed. `outcome` is done, failed or cut; tokens are what was charged."""

    subsystem: str
    at: float
    turn: str
    outcome: str
    input_tokens: int
    output_tokens: int
    charged_tokens: int


class TurnObserver(Protocol):
    """Told about turns, synchronously and on the request path: every method must be O(1)."""

    def admitted(self, event: TurnAdmitted) -> None: ...

    def refused(self, event: TurnRefused) -> None: ...

    def finished(self, event: TurnFinished) -> None: ...
