"""Report progress: a bar on a terminal, plain lines in a log, and epad's contract beside both."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Final, TextIO

from runners.contract import Contract

BAR_CELLS: Final = 24
LINE_EVERY_SECONDS: Final = 10.0


class Reporter:
    """Says stage, units done, time left and peak memory; to epad also the VRAM that a stage is going to take.

    A unit done is progress to epad. No WATCHDOG is sent: a large block takes longer than any watchdog waits.
    """

    def __init__(
        self, contract: Contract, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._contract, self._clock = contract, clock
        self._stream = sys.stderr if stream is None else stream
        self._stage, self._total, self._done, self._began = "", 0, 0, 0.0
        self._last_line = float("-inf")
        self.vram_of: Callable[[str], int] = lambda _: 0
        contract.ready("hsaq")

    def stage(self, name: str, total: int, done: int = 0) -> None:
        """Begin a stage; `done` units of it were committed by an earlier run."""
        self._finish_line()
        self._contract.vram_wanted(self.vram_of(name))
        self._stage, self._total, self._done = name, total, done
        self._began, self._first = self._clock(), done
        self._last_line = float("-inf")

    def step(self, peak_bytes: int = 0, detail: str = "") -> None:
        """Count one more finished unit."""
        self._done += 1
        text = self._text(peak_bytes, detail)
        self._contract.progress(self._done, self._total, text)
        now = self._clock()
        if self._stream.isatty():
            self._stream.write(f"\r\x1b[K{self._bar()} {text}")
            self._stream.flush()
        elif self._done == self._total or now - self._last_line >= LINE_EVERY_SECONDS:
            self._last_line = now
            print(text, file=self._stream, flush=True)

    def say(self, text: str) -> None:
        """Print one line of its own."""
        self._finish_line()
        self._contract.status(text)
        print(text, file=self._stream, flush=True)

    def end(self) -> None:
        """The work is over."""
        self._finish_line()
        self._contract.vram_wanted(0)
        self._contract.stopping()

    def _text(self, peak_bytes: int, detail: str) -> str:
        parts = [f"{self._stage} {self._done}/{self._total}"]
        made = self._done - self._first
        if made and self._done < self._total:
            left = (self._clock() - self._began) / made * (self._total - self._done)
            parts.append(f"{left:.0f} s left")
        if peak_bytes:
            parts.append(f"peak {peak_bytes / (1 << 20):,.0f} MiB")
        return ", ".join([*parts, detail] if detail else parts)

    def _bar(self) -> str:
        cells = BAR_CELLS * self._done // max(self._total, 1)
        return f"[{'#' * cells}{'.' * (BAR_CELLS - cells)}]"

    def _finish_line(self) -> None:
        if self._stage and self._stream.isatty():
            self._stream.write("\n")
        self._stage = ""
