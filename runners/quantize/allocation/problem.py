"""The allocation problem: for each unit one option, the bytes under a limit, the loss least. Whole numbers only.

Scores are rounded before they come here, so that a last digit that differs between thread counts or machines cannot
move a layer. A unit is one layer, or several that their server fuses and that must therefore agree (q/k/v, gate/up).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from runners.quantize.fault import BudgetError
from runners.quantize.settings import Bound

FUSED: Final = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""What vLLM loads as one matrix; parts with differing bits crash it (auto-round issue 2174)."""

SIGNIFICANT_DIGITS: Final = 6
NANO: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Option:
    """Describes one way to store a unit: its bits, exact bytes, and loss in billionths of the signal's unit."""

    bits: int
    size_bytes: int
    loss: int


@dataclass(frozen=True, slots=True)
class Unit:
    """Layers that share one choice."""

    layers: tuple[str, ...]
    options: tuple[Option, ...]

    @property
    def useful(self) -> tuple[Option, ...]:
        """Return the options in rising size and falling loss: one that costs more and gains nothing is dropped."""
        kept: list[Option] = []
        for option in sorted(self.options, key=lambda o: (o.size_bytes, o.loss, o.bits)):
            if not kept or option.loss < kept[-1].loss:
                kept.append(option)
        return tuple(kept)


@dataclass(frozen=True, slots=True)
class Problem:
    """Units in the model's order and the bytes they may take together."""

    units: tuple[Unit, ...]
    limit_bytes: int

    def check(self) -> None:
        """Refuse limits that cannot be met, with the number at fault."""
        least = sum(min(option.size_bytes for option in unit.options) for unit in self.units)
        if least > self.limit_bytes:
            raise BudgetError(
                f"the layers take at least {least:,} bytes and {self.limit_bytes:,} are left for them; "
                "lower a floor, allow fewer bits, or raise the ceiling"
            )


@dataclass(frozen=True, slots=True)
class Allocation:
    """The choice for each unit, and how far at most it is from the best possible one (0 is proven best)."""

    problem: Problem
    chosen: tuple[Option, ...]
    gap: float | None

    @property
    def size_bytes(self) -> int:
        return sum(option.size_bytes for option in self.chosen)

    @property
    def loss(self) -> int:
        return sum(option.loss for option in self.chosen)

    @property
    def bits(self) -> dict[str, int]:
        """Bits by layer."""
        pairs = zip(self.problem.units, self.chosen, strict=True)
        return {layer: option.bits for unit, option in pairs for layer in unit.layers}


def rounded(score: float) -> int:
    """Return a score as whole billionths with six significant digits, never below 0."""
    return max(0, round(float(f"{score:.{SIGNIFICANT_DIGITS - 1}e}") * NANO))


def fused_groups(layers: Sequence[str], *, fused: bool) -> list[tuple[str, ...]]:
    """Return the layers in their order, those that are fused taken together."""
    groups: dict[str, list[str]] = {}
    for layer in layers:
        parent, _, name = layer.rpartition(".")
        partners = next((group for group in FUSED if name in group), None) if fused else None
        groups.setdefault(f"{parent}.{'+'.join(partners)}" if partners else layer, []).append(layer)
    return [tuple(group) for group in groups.values()]


def build(
    groups: Sequence[tuple[str, ...]],
    scores: Mapping[tuple[str, int], float],
    bytes_of: Callable[[str, int], int],
    bits: Sequence[int],
    bounds: Sequence[Bound],
    limit_bytes: int,
) -> Problem:
    """Make units of groups; a bound that leaves a unit no option is refused by name."""
    units = []
    for group in groups:
        kept = [b for b in bits if all(bound.allows(b) for bound in bounds for x in group if bound.covers(x))]
        if not kept:
            named = ", ".join(str(bound) for bound in bounds if any(bound.covers(layer) for layer in group))
            raise BudgetError(
                f"{' + '.join(group)}: no bits of {list(bits)} satisfy {named}; change the bound"
            )
        options = tuple(
            Option(b, sum(bytes_of(x, b) for x in group), sum(rounded(scores[x, b]) for x in group))
            for b in kept
        )
        units.append(Unit(group, options))
    problem = Problem(tuple(units), limit_bytes)
    problem.check()
    return problem
