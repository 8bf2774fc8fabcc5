"""Find a stream that is caught in a loop: it repeats its last text and produces nothing else.

Only exact repetition with one period, for a long stretch, counts. Text with anything new in it is no loop: rows with a
counter, verse with a refrain, a table, a list, a log with times in it. Honest exact repetition is bounded by its form:
prose repeats for a few lines (`output_characters`); identical rows, zeros in an array or in base64, a word over and
over are data that a person may have asked for, and are cut only far beyond that (`output_row_characters`: 4,000 times
"0, "). Prose that goes round and changes a word now and then repeats nothing exactly; compressing it shows that it says
next to nothing new.
"""

from __future__ import annotations

import re
import zlib

from probes.token_burn.settings import REMEMBERED_CHARACTERS, TokenBurnSettings
from probes.token_burn.verdict import Detector, Verdict
from probes.turns import TurnStreamed
from statemachine.finding import Severity

_MARKUP = re.compile(r"[|{}\[\]<>=;`\t\\_#*&@~^+]")
"""A unit with one of these is a row, a tag, code or markup, until it is very long."""

_FIGURES = re.compile(r"[\d:\"/()%$]")
_FIGURES_SHARE = 0.05
"""So is one of which more than this are figures, brackets, colons; a number or a quotation is in any sentence."""

_ROW = re.compile(r"[^.!?,;\u2026\u3002\uff01\uff1f\s]\s*\n")
"""A line that ends without a stop: a row of a list."""

_WORD = re.compile(r"[^\W\d_]{3,}")
_LEAST_WORDS = 2
_LEAST_SPACES = 0.08
_LEAST_FOREIGN = 4
"""Different letters beyond ASCII: prose of a script that sets no spaces between its words."""


_PACKED_CHARACTERS = 6_144
"""So much of a stream's end is packed, each time that a sixth of it is new."""

_PACKED_SHARE = 0.028
"""Prose packs to a quarter, a song that counts ninety-nine bottles to 0.069, a hundred stanzas that differ in one word
of eighteen to 0.030; a sentence that is said over and over, and has another word every sixth time, to 0.026."""

_MARKUP_SHARE, _ROW_CHARACTERS = 0.005, 400

BLOCK_LINES, BLOCK_CHARACTERS, BLOCKS = 6, 200, 20
"""A block of so many lines and characters repeats that often, and no more; a row, a short form do so for longer."""

PAGE_CHARACTERS, PAGES = 1_000, 3
"""Of a unit so long so many repeats are enough beyond `output_characters`, where `output_windows` are more."""


class LoopingOutput:
    """Remembers the end of one stream, and for how long it has been saying the same.

    It looks once for every `output_window_characters` that have come, so that many small chunks cost no more than few
    large ones; where nothing repeats a look is one search for the last of them in the end that is remembered.
    """

    __slots__ = (
        "_chunk",
        "_new",
        "_packed_at",
        "_settings",
        "_since",
        "_tail",
        "in_a_row",
        "looked",
        "period",
        "stretch",
    )

    def __init__(self, settings: TokenBurnSettings) -> None:
        self._settings = settings
        self._tail = ""
        self._new: list[str] = []
        self._since = 0
        self._chunk = ""
        self._packed_at = 0
        self.in_a_row = 0
        self.looked = 0
        self.period = 0
        self.stretch = 0

    def streamed(self, event: TurnStreamed) -> Verdict | None:
        """Take in streamed text; return the last verdict on it, if there is one."""
        most, window = self._settings.output_chunks, self._settings.output_window_characters
        new, since, chunk, in_a_row = self._new, self._since, self._chunk, self.in_a_row
        found: Verdict | None = None
        for text in event.pieces:
            if not text:
                continue
            if text == chunk:
                in_a_row += 1
                if in_a_row >= most:
                    found = self._state(event, "chunks", in_a_row, most, text[:64])
                    continue
            else:
                in_a_row, chunk = 1, text[:REMEMBERED_CHARACTERS]
            new.append(text)
            since += len(text)
            if since >= window:
                found = self._look(event, since) or found
                since = 0
        self._since, self._chunk, self.in_a_row = since, chunk, in_a_row
        return found

    def _look(self, event: TurnStreamed, new: int) -> Verdict | None:
        """Look at the end of the stream, of which so many characters are new."""
        text = self._tail + "".join(self._new)
        self._new.clear()
        self.looked += 1
        if self.period and text[-new:] == text[-new - self.period : -self.period]:
            self.stretch += new
        else:
            self._find(text[-REMEMBERED_CHARACTERS:])
        self._tail = text[-REMEMBERED_CHARACTERS:]
        self._packed_at += new
        if not self.period:
            return self._pack(event)
        unit = self._tail[-self.period :]
        limit = max(self._allowed(unit), self._repeats(self.period))
        if self.stretch >= limit:
            return self._state(event, "characters", self.stretch, limit, unit)
        return self._pack(event)

    def _pack(self, event: TurnStreamed) -> Verdict | None:
        """Say whether the end of the stream has next to nothing new in it, though it repeats nothing exactly."""
        if self._packed_at < _PACKED_CHARACTERS // 6 or len(self._tail) < _PACKED_CHARACTERS:
            return None
        self._packed_at = 0
        end = self._tail[-_PACKED_CHARACTERS:]
        if not _is_running_prose(end):
            return None
        share = len(zlib.compress(end.encode("utf-8", "replace"))) / len(end)
        return self._state(event, "characters", len(end), len(end), end) if share <= _PACKED_SHARE else None

    def _find(self, tail: str) -> None:
        """Look for the period with which the end repeats, and for how long it has done so."""
        size = self._settings.output_window_characters
        at = tail.rfind(tail[-size:], 0, -1) if len(tail) > size else -1
        self.period, self.stretch = (len(tail) - size - at if at >= 0 else 0), 0
        if self.period:
            self.stretch = _repeated(tail, self.period)

    def _repeats(self, period: int) -> int:
        """Return how many characters of repetition make a loop: no one asks for ten copies of a page."""
        windows = self._settings.output_windows
        if period < PAGE_CHARACTERS:
            return windows * period
        return min(windows * period, self._settings.output_characters + PAGES * period)

    def _allowed(self, unit: str) -> int:
        t = self._settings
        if is_prose(unit):
            return t.output_characters
        is_block = len(unit) >= BLOCK_CHARACTERS and unit.count("\n") >= BLOCK_LINES
        return min(t.output_row_characters, BLOCKS * len(unit)) if is_block else t.output_row_characters

    def _state(self, event: TurnStreamed, unit: str, count: int, limit: int, what: str) -> Verdict:
        # What the model said stays private: its length and number of letters are enough to know the kind.
        return Verdict(
            Detector.LOOPING_OUTPUT,
            Severity.ANOMALY,
            self._settings.rung(Detector.LOOPING_OUTPUT),
            f"an answer repeats itself: {_how(what, count, unit)}",
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


def _how(what: str, count: int, unit: str) -> str:
    if len(what) == count:
        return f"there is next to nothing new in its last {count} characters"
    return f"the same {len(what)} characters for {count} {unit}, and nothing new"


def is_prose(unit: str) -> bool:
    """Say whether a stretch is made of words and stops, and of no rows: such a thing is not said forty times."""
    if _MARKUP.search(unit) or _has_many_figures(unit) or _ROW.search(unit + unit[:1]):
        return False
    if len({letter for letter in unit if letter > "\x7f" and letter.isalpha()}) >= _LEAST_FOREIGN:
        return True
    return len(set(_WORD.findall(unit + unit))) >= 2 and unit.count(" ") >= _LEAST_SPACES * len(unit)


def _has_many_figures(text: str) -> bool:
    return len(_FIGURES.findall(text)) > _FIGURES_SHARE * len(text)


def _is_running_prose(text: str) -> bool:
    """Say whether a page is prose but for a number here and there: of rows and code nothing is said by this."""
    marked_up = len(_MARKUP.findall(text)) > _MARKUP_SHARE * len(text) or _has_many_figures(text)
    if marked_up or len(set(_WORD.findall(text))) < _LEAST_WORDS:
        return False
    return len(_ROW.findall(text)) * _ROW_CHARACTERS <= len(text)


def _repeated(tail: str, period: int) -> int:
    """Return for how many of the last characters each is the same as the one a period before it."""
    low, high = 0, len(tail) - period
    while low < high:
        middle = (low + high + 1) // 2
        if tail[-middle:] == tail[-middle - period : -period]:
            low = middle
        else:
            high = middle - 1
    return low
