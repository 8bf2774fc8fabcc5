"""Promote or treat some layers of a finished run, and measure the change on the same windows as the run itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runners.quantize import sizes
from runners.quantize.cache import ScoreRow
from runners.quantize.diagnosis import worst_layers
from runners.quantize.executor import Executor
from runners.quantize.fault import SettingsError
from runners.quantize.run import Run
from runners.quantize.settings import Bound
from runners.quantize.stages import evaluate as evaluating
from runners.quantize.stages.quantize import QuantizedBlocks, quantize
from runners.quantize.statistics import Interval, Paired, paired, share_interval

EVALUATED = "evaluate-quantized"


@dataclass(frozen=True, slots=True)
class Variant:
    """Holds a change to a run and its effect: both against the original model, and each other by window."""

    changed: tuple[str, ...]
    extra_bytes: int
    before: Paired
    after: Paired
    change: Paired

    @property
    def windows_helped(self) -> Interval:
        """Return the share of windows on which the change lowered the loss."""
        worse = self.change.windows_worse
        return share_interval(round(worse.n * (1 - worse.value)), worse.n)

    @property
    def verdict(self) -> str:
        """Say if the interval of the change lies on one side of zero."""
        nats = self.change.delta_nll
        if nats.high < 0:
            return "it helps"
        return "it hurts" if nats.low > 0 else "no difference can be told"

    def as_json(self) -> dict[str, Any]:
        return {
            "changed": list(self.changed),
            "extra_bytes": self.extra_bytes,
            "before": self.before.as_json(),
            "after": self.after.as_json(),
            "change": self.change.as_json(),
            "windows_helped": self.windows_helped.as_json(),
            "verdict": self.verdict,
        }


def promoted(bits: Mapping[str, int], patterns: list[str], least: int) -> dict[str, int]:
    """Return the same allocation with every layer of these names at no fewer bits."""
    bounds = [Bound(pattern, ">=", least) for pattern in patterns]
    found = {n: max(b, least) if any(bound.covers(n) for bound in bounds) else b for n, b in bits.items()}
    if found == dict(bits):
        raise SettingsError(
            f"--match {' '.join(patterns)}: every such layer has {least} bits or more already"
        )
    return found


def to_treat(
    wanted: str, bits: Mapping[str, int], rows: Mapping[tuple[str, int], ScoreRow]
) -> frozenset[str]:
    """`worst:N` by predicted loss as allocated, or names."""
    kind, _, number = wanted.partition(":")
    if kind == "worst" and number.isdecimal():
        return frozenset(worst_layers(bits, rows, int(number)))
    names = frozenset(wanted.split(","))
    if unknown := names - bits.keys():
        raise SettingsError(f"--treat {min(unknown)}: no layer is called so; give worst:N or full names")
    return names


def try_variant(
    run: Run, held: Mapping[str, int], bits: Mapping[str, int], treated: frozenset[str], executor: Executor
) -> Variant:
    """Quantize again with these bits and treatments, and measure beside the run's own result."""
    words = json.dumps([sorted(bits.items()), sorted(treated)])
    name = hashlib.sha256(words.encode()).hexdigest()[:12]
    quantize(run, bits, executor, f"quantize-{name}", treated)
    blocks = QuantizedBlocks.of(run, bits, f"quantize-{name}")
    blocks.check(run.network)
    own = QuantizedBlocks.of(run, held)
    before = evaluating.evaluate(run, EVALUATED, own.overrides)
    after = evaluating.evaluate(run, f"evaluate-{name}", blocks.overrides)
    return Variant(
        changed=tuple(sorted(n for n in bits if bits[n] != held[n] or n in treated)),
        extra_bytes=_bytes(run, bits) - _bytes(run, held),
        before=evaluating.compare(run, before),
        after=evaluating.compare(run, after),
        change=paired(before.nll, after.nll),
    )


def _bytes(run: Run, bits: Mapping[str, int]) -> int:
    settings = run.settings
    return sum(
        sizes.layer_bytes(run.checkpoint, settings.format, n, b, settings.group) for n, b in bits.items()
    )
