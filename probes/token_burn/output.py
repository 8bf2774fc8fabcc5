"""A stream that has caught itself in a loop: the same chunk, or the same stretch of text, again and again."""

from __future__ import annotations

from probes.token_burn.thresholds import REMEMBERED_CHARACTERS, TokenBurnThresholds
from probes.token_burn.verdict import Detector, Verdict
from probes.turns import TurnStreamed
from statemachine.finding import Severity

FEW_LETTERS = 6
"""A stretch of fewer different characters is a divider, a table's edge or a row of zeros: normal in any answer,
so `MONOTONOUS` times as many of it are needed."""

MONOTONOUS = 8


class LoopingOutput:
    """Remembers the end of one stream. Its last stretch is counted in it once for each stretch that comes."""

    __slots__ = ("_chunk", "_new", "_since", "_tail", "_thresholds", "in_a_row", "looked")

    def __init__(self, thresholds: TokenBurnThresholds) -> None:
        self._thresholds = thresholds
        self._tail = ""
        self._new: list[str] = []
        self._since = 0
        self._chunk = ""
        self.in_a_row = 0
        self.looked = 0

    def streamed(self, event: TurnStreamed) -> Verdict | None:
        """Take in what has come; the last thing that it shows, if anything."""
        found: Verdict | None = None
        for text in event.pieces:
            if text:
                found = self._heard(text, event) or found
        return found

    def _heard(self, text: str, event: TurnStreamed) -> Verdict | None:
        t = self._thresholds
        self.in_a_row = self.in_a_row + 1 if text == self._chunk else 1
        self._chunk = text[:REMEMBERED_CHARACTERS]
        if self.in_a_row >= t.output_chunks:
            return self._state(event, "chunks", self.in_a_row, t.output_chunks, text[:64])
        self._new.append(text)
        self._since += len(text)
        # One look for each stretch that has come, so that many small chunks cost no more than few large ones.
        return self._repeated(event) if self._since >= t.output_window_characters else None

    def _repeated(self, event: TurnStreamed) -> Verdict | None:
        t = self._thresholds
        self._tail = (self._tail + "".join(self._new))[-REMEMBERED_CHARACTERS:]
        self._new.clear()
        self._since = 0
        self.looked += 1
        window = self._tail[-t.output_window_characters :]
        if self._tail.rfind(window, 0, -1) < 0:  # as in most prose; a third of the cost of counting
            return None
        limit = t.output_windows * (MONOTONOUS if len(set(window)) < FEW_LETTERS else 1)
        limit = min(limit, REMEMBERED_CHARACTERS // t.output_window_characters)
        count = self._tail.count(window)
        return self._state(event, "stretches", count, limit, window) if count >= limit else None

    def _state(self, event: TurnStreamed, unit: str, count: int, limit: int, what: str) -> Verdict:
        # What the model said stays private: its length and number of letters are enough to know the kind.
        return Verdict(
            Detector.LOOPING_OUTPUT,
            Severity.ANOMALY,
            self._thresholds.rung(Detector.LOOPING_OUTPUT),
            f"an answer repeats itself: the same {len(what)} characters {count} times",
            count,
            limit,
            unit,
            {
                "turn": event.turn,
                "characters": len(what),
                "different_characters": len(set(what)),
                "output_tokens": event.output_tokens,
            },
        )
