"""Proportions with the interval that fits them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

Z_95: Final = 1.959963984540054
SMALL_SAMPLE: Final = 30


@dataclass(frozen=True, slots=True)
class Proportion:
    """`successes` of `trials`, with its Wilson 95 % interval; nothing counted means no rate at all."""

    successes: int
    trials: int

    @property
    def rate(self) -> float | None:
        return self.successes / self.trials if self.trials else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's interval: unlike the bootstrap it has a width at 0 and at 100 % too."""
        if not self.trials:
            return None
        p, n, z = self.successes / self.trials, self.trials, Z_95
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
        # The exact ends are 0 and 1; rounding must not leave them out.
        low = 0.0 if self.successes == 0 else max(0.0, centre - half)
        high = 1.0 if self.successes == n else min(1.0, centre + half)
        return low, high

    def __str__(self) -> str:
        rate, interval = self.rate, self.interval
        if rate is None or interval is None:
            return "n/a (0 scored)"
        counted = f"{self.successes}/{self.trials}"
        bounds = f"[{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"
        if self.trials < SMALL_SAMPLE:
            return f"{counted} {bounds} (too few for a rate)"
        return f"{100 * rate:.1f} % ({counted}) {bounds}"

    def as_json(self) -> dict[str, object]:
        """Return plain values."""
        return {"k": self.successes, "n": self.trials, "rate": self.rate, "wilson95": self.interval}
