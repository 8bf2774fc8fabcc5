"""A request as an endpoint reads it, and as an upstream gets it when nothing but `[gateway]` cuts its cap."""

from __future__ import annotations

from epad.gateway.dialects.dialect import Endpoint, Habits, OutputLimits

LIMITS = OutputLimits(default_tokens=100, max_tokens=1_000, template_tokens=16)
USUAL = Habits()


class Asked:
    """What was read of a request, and beside it the cap and the body that go on."""

    def __init__(self, endpoint: Endpoint, body: bytes, habits: Habits = USUAL) -> None:
        self.ask = endpoint.parse(body)
        self.output_cap = LIMITS.cap(self.ask.wish) if self.ask.generates else 0
        if self.ask.wish == 0 and self.ask.generates and not habits.zero_is_none:
            self.output_cap = 1
        self.output_tokens = self.output_cap * self.ask.choices
        self.body = endpoint.write(self.ask, self.output_cap, habits)

    def __getattr__(self, name: str) -> object:
        return getattr(self.ask, name)
