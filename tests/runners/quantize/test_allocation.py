"""Who gets the bits: exact is as good as trying everything, greedy never better, the limit never crossed."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runners.quantize.allocation.exact import exact, pareto, uniform
from runners.quantize.allocation.greedy import greedy
from runners.quantize.allocation.problem import Option, Problem, Unit, build, fused_groups, rounded
from runners.quantize.fault import BudgetError
from runners.quantize.settings import Bound

LAYERS = [f"model.layers.0.{name}" for name in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.o_proj")]

options = st.lists(
    st.builds(Option, st.integers(1, 16), st.integers(1, 60), st.integers(0, 1000)), min_size=1, max_size=4
)
units = st.lists(st.builds(lambda o: Unit(("x",), tuple(o)), options), min_size=1, max_size=5)


def best_of_all(problem: Problem) -> int:
    choices = product(*(unit.options for unit in problem.units))
    fitting = [c for c in choices if sum(o.size_bytes for o in c) <= problem.limit_bytes]
    return min(sum(o.loss for o in c) for c in fitting)


@settings(max_examples=60, deadline=None)
@given(made=units, slack=st.integers(0, 150))
def test_exact_is_the_best_of_all(made: list[Unit], slack: int) -> None:
    """Against brute force on small problems; greedy is never better, neither crosses the limit."""
    least = sum(min(o.size_bytes for o in unit.options) for unit in made)
    problem = Problem(tuple(made), least + slack)
    found, quick = exact(problem), greedy(problem)
    assert found.loss == best_of_all(problem)
    assert quick.loss >= found.loss
    assert max(found.size_bytes, quick.size_bytes) <= problem.limit_bytes
    assert found.gap == pytest.approx(0, abs=1e-9)


def test_more_bits_that_hurt_more_are_never_chosen() -> None:
    """An inverted layer keeps the fewer bits even where there is room."""
    unit = Unit(("x",), (Option(2, 10, 50), Option(3, 20, 90), Option(4, 30, 10)))
    assert [o.bits for o in unit.useful] == [2, 4]
    assert exact(Problem((unit,), 25)).chosen[0].bits == 2


def test_fused_layers_share_a_choice() -> None:
    """Q and k agree, o is free; without fusing all are."""
    assert fused_groups(LAYERS, fused=True) == [tuple(LAYERS[:2]), (LAYERS[2],)]
    assert len(fused_groups(LAYERS, fused=False)) == 3


def test_bounds_are_kept_and_impossible_ones_named() -> None:
    """A floor narrows the choice; floor and ceiling that leave none are refused with the layers."""
    scores = {(layer, b): 1.0 / b for layer in LAYERS for b in (2, 4)}
    groups = fused_groups(LAYERS, fused=True)

    def make(*bounds: str, limit: int = 100) -> Problem:
        parsed = [Bound.parse(text) for text in bounds]
        return build(groups, scores, lambda _, bits: bits, (2, 4), parsed, limit)

    assert exact(make("o_proj>=4", limit=8)).bits[LAYERS[2]] == 4
    with pytest.raises(
        BudgetError, match=r"q_proj \+ .*k_proj: no bits of \[2, 4\] satisfy q_proj>=4, k_proj<=2"
    ):
        make("q_proj>=4", "k_proj<=2")
    with pytest.raises(BudgetError, match="at least 6 bytes and 5 are left"):
        make(limit=5)


def test_scores_are_rounded_before_they_count() -> None:
    """A seventh digit, which another number of threads may change, moves nothing."""
    assert rounded(0.12345678) == rounded(0.12345699) == 123_457_000
    assert rounded(-1e-12) == 0


def test_pareto_front_falls() -> None:
    """More bytes never lose more."""
    unit = Unit(("x",), (Option(2, 10, 50), Option(4, 20, 20), Option(8, 40, 1)))
    front = pareto(Problem((unit, unit), 1), 6)
    assert [a.loss for a in front] == sorted((a.loss for a in front), reverse=True)
    assert front[0].size_bytes == 20
    assert front[-1].loss == 2


def test_uniform_gives_everyone_the_same() -> None:
    """And refuses bits that a unit does not have."""
    unit = Unit(("x",), (Option(2, 10, 50),))
    assert uniform(Problem((unit,), 10), 2).bits == {"x": 2}
    with pytest.raises(BudgetError, match="3 bits are not among"):
        uniform(Problem((unit,), 10), 3)
