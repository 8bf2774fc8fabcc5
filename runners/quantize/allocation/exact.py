"""The exact allocator: a multiple-choice knapsack given to HiGHS through scipy, its answer checked in whole numbers."""

from __future__ import annotations

from typing import Final

from runners.quantize.allocation.greedy import greedy
from runners.quantize.allocation.problem import Allocation, Option, Problem, Unit
from runners.quantize.fault import BudgetError

TIME_LIMIT_SECONDS: Final = 60.0
"""280 layers with 4 options take under a second; a search that is cut short still has a gap to print."""


def exact(problem: Problem) -> Allocation:
    """Least loss under the limit. HiGHS is deterministic for equal input; greedy's answer stands in if it is better."""
    import numpy as np  # noqa: PLC0415 - the quantize extra
    from scipy.optimize import Bounds, LinearConstraint, milp  # noqa: PLC0415
    from scipy.sparse import csr_array  # noqa: PLC0415

    fallback = greedy(problem)
    ladders = [unit.useful for unit in problem.units]
    options = [(index, option) for index, ladder in enumerate(ladders) for option in ladder]
    rows = [index for index, _ in options]
    one_each = csr_array(
        (np.ones(len(options)), (rows, range(len(options)))), shape=(len(ladders), len(options))
    )
    sizes = np.array([[option.size_bytes for _, option in options]], dtype=float)
    answer = milp(
        c=np.array([option.loss for _, option in options], dtype=float),
        constraints=[LinearConstraint(one_each, 1, 1), LinearConstraint(sizes, 0, problem.limit_bytes)],
        bounds=Bounds(0, 1),
        integrality=np.ones(len(options)),
        options={"mip_rel_gap": 0.0, "time_limit": TIME_LIMIT_SECONDS},
    )
    if answer.x is None:
        return fallback
    chosen = [option for (_, option), share in zip(options, answer.x, strict=True) if share > 0.5]
    found = Allocation(problem, tuple(chosen), gap=None)
    if len(chosen) != len(ladders) or found.size_bytes > problem.limit_bytes or fallback.loss < found.loss:
        found = fallback
    bound = float(answer.mip_dual_bound)
    return Allocation(problem, found.chosen, gap=max(0.0, (found.loss - bound) / max(found.loss, 1)))


def uniform(problem: Problem, bits: int) -> Allocation:
    """Give every layer the same bits, as a user without an allocator does."""
    return Allocation(problem, tuple(_with_bits(unit, bits) for unit in problem.units), gap=None)


def _with_bits(unit: Unit, bits: int) -> Option:
    for option in unit.options:
        if option.bits == bits:
            return option
    raise BudgetError(f"{unit.layers[0]}: {bits} bits are not among its options")


def pareto(problem: Problem, points: int) -> list[Allocation]:
    """Exact answers at limits evenly spread between the smallest and the largest that make a difference."""
    least = sum(unit.useful[0].size_bytes for unit in problem.units)
    most = sum(unit.useful[-1].size_bytes for unit in problem.units)
    limits = [least + (most - least) * step // max(points - 1, 1) for step in range(points)]
    return [exact(Problem(problem.units, limit)) for limit in dict.fromkeys(limits)]
