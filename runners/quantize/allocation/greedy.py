"""The source's allocator: everything at its fewest bits, then the upgrade that gains most a byte, until none fits."""

from __future__ import annotations

from fractions import Fraction

from runners.quantize.allocation.problem import Allocation, Option, Problem


def greedy(problem: Problem) -> Allocation:
    """Spend the bytes step by step; ties go to the earlier unit."""
    ladders = [unit.useful for unit in problem.units]
    rungs = [0] * len(ladders)
    left = problem.limit_bytes - sum(ladder[0].size_bytes for ladder in ladders)
    while True:
        steps = [
            (-_gain(ladder, rung), index)
            for index, (ladder, rung) in enumerate(zip(ladders, rungs, strict=True))
            if rung + 1 < len(ladder) and ladder[rung + 1].size_bytes - ladder[rung].size_bytes <= left
        ]
        if not steps:
            break
        _, index = min(steps)
        ladder, rung = ladders[index], rungs[index]
        left -= ladder[rung + 1].size_bytes - ladder[rung].size_bytes
        rungs[index] += 1
    chosen = tuple(ladder[rung] for ladder, rung in zip(ladders, rungs, strict=True))
    return Allocation(problem, chosen, gap=None)


def _gain(ladder: tuple[Option, ...], rung: int) -> Fraction:
    here, there = ladder[rung], ladder[rung + 1]
    return Fraction(here.loss - there.loss, there.size_bytes - here.size_bytes)
