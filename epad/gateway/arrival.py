"""A request that was read and routed."""

from __future__ import annotations

from msgspec import Struct

from epad.gateway.dialects.dialect import Ask, Endpoint
from epad.gateway.money import FREE, Price
from epad.gateway.prompts import PromptBound
from epad.gateway.route import Asker, Route
from epad.gateway.sampling import sampling_of
from probes.turns import TurnAdmitted


class Arrival(Struct, frozen=True):
    """A request that was read and routed."""

    subsystem: str
    at: float
    endpoint: Endpoint
    ask: Ask
    upstream: Route
    prompt: PromptBound
    body: bytes
    body_sha256: bytes
    idempotency_key: str | None
    retry: int
    asker: Asker  # of its upstream
    price: Price = FREE
    conversation: str = ""
    context_tokens: int = 0
    hidden: bool = False
    attempt: str = ""

    def admitted(self, turn: str, now: float, reserved_tokens: int, prompt_tokens: int) -> TurnAdmitted:
        """Build the event of an admitted turn for the probes."""
        history, sampling = self.ask.history, sampling_of(self.ask)
        return TurnAdmitted(
            subsystem=self.subsystem,
            at=now,
            turn=turn,
            model=self.ask.model,
            reserved_tokens=reserved_tokens,
            prompt_digest=self.ask.prompt_digest,
            retry=self.retry,
            prompt_tokens=prompt_tokens,
            last_message=history.last_message,
            conversation=self.conversation,
            messages=history.messages,
            history=history.digests,
            upstream=self.upstream.name,
            attempt=self.attempt,
            sampling=sampling.digest,
            random=sampling.random,
            drawn=sampling.drawn,
            shape=history.shape,
            choices=self.ask.choices // max(1, self.ask.prompts),
            last=history.last,
        )
