"""Ending one answer that has caught itself in a loop, while its subsystem goes on."""

from __future__ import annotations

from epad.gateway.charge import Charge
from epad.gateway.dialects.dialect import StreamMeter
from epad.gateway.dialects.ending import CODE
from epad.gateway.refusal import Refusal


def ended_early(why: str) -> Refusal:
    """Return the refusal that ends it. The client sees no error: `end_of` ends the answer in its dialect."""
    return Refusal(200, CODE, CODE, why)


def end_of(meter: StreamMeter, broken: Refusal, charge: Charge) -> bytes:
    """The last bytes of a stream that is broken off here: an error, or the end of an answer that is long enough."""
    if broken.code == CODE:
        return meter.stop(broken.message, charge.input_tokens, charge.output_tokens)
    return meter.cut(broken)
