"""The solvers: what each promises about error, and what happens to what cannot be solved."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hqq.core.quantize import BaseQuantizeConfig, HQQLinear
from hypothesis import given, settings
from hypothesis import strategies as st

from runners.quantize.fault import NotFiniteError
from runners.quantize.grid import Grid, QuantizedWeight
from runners.quantize.profiling import Method
from runners.quantize.solvers.descent import Candidate, descend
from runners.quantize.solvers.gptq import Gptq
from runners.quantize.solvers.hqq import Hqq
from runners.quantize.solvers.imatrix import Imatrix
from runners.quantize.solvers.rtn import Rtn
from runners.quantize.solvers.solver import InputStatistics, Solver, solve_or_fall_back
from runners.quantize.storage import COMPRESSED_TENSORS, Zero

GENERATOR = torch.Generator().manual_seed(0)
WEIGHT = torch.randn(48, 128, generator=GENERATOR)
MIXING = torch.randn(128, 128, generator=GENERATOR) / 8


def inputs(weight: torch.Tensor = WEIGHT, tokens: int = 400) -> InputStatistics:
    """Inputs whose channels are correlated and of unequal power, as real ones are."""
    found = InputStatistics(weight.shape[1])
    sizes = torch.linspace(0.1, 3, weight.shape[1])
    found.add(
        (torch.randn(tokens, weight.shape[1], generator=torch.Generator().manual_seed(1)) * sizes) @ MIXING
    )
    return found


def grid(bits: int, zero: Zero = Zero.INTEGER) -> Grid:
    return Grid(bits, 64, zero, torch.bfloat16)


def output_error(weight: QuantizedWeight, seen: InputStatistics) -> float:
    change = weight.dequantized() - WEIGHT
    return float(((change @ seen.gram) * change).sum())


@pytest.mark.parametrize("zero", list(Zero))
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_each_solver_beats_the_one_that_knows_less(bits: int, zero: Zero) -> None:
    """At the layer's output: error feedback before the weighted grid before rounding."""
    seen = inputs()
    errors = [
        output_error(s.solve(WEIGHT, seen, [grid(bits, zero)])[0], seen) for s in (Gptq(), Imatrix(), Rtn())
    ]
    assert errors[0] < errors[1]
    # At 8 bits a float zero point in bfloat16 is rounded to a whole step, and nothing can be gained on it.
    if bits < 8 or zero is not Zero.FLOAT:
        assert errors[1] <= errors[2]


@settings(max_examples=settings().max_examples // 5)  # each takes a third of a second
@given(bits=st.sampled_from([2, 3, 4, 8]), zero=st.sampled_from(list(Zero)), draw=st.integers(0, 10**6))
def test_descent_never_raises_the_error(bits: int, zero: Zero, draw: int) -> None:
    """Whatever it starts from, sweep by sweep, and the codes stay in their range."""
    generator = torch.Generator().manual_seed(draw)
    matrix = inputs().curvature(0.01).matrix
    top = 2**bits - 1
    codes = torch.randint(0, top + 1, (1, *WEIGHT.shape), generator=generator).float()
    start = Rtn().solve(WEIGHT, InputStatistics(128), [grid(bits, zero)])[0]
    found = Candidate(
        codes, start.scale[None].float(), start.zero[None].float(), torch.tensor([[top]]), 64, torch.bfloat16
    )
    before = float("inf")
    for _ in range(3):
        change = found.values[0] - WEIGHT
        error = float(((change @ matrix) * change).sum())
        assert error <= before * (1 + 1e-5)
        before = error
        descend(WEIGHT, found, matrix, sweeps=1)
    assert 0 <= found.codes.min() <= found.codes.max() <= top
    assert bool((found.scale == found.scale.bfloat16().float()).all())


def test_layers_with_one_input_share_its_factorisation() -> None:
    """At each damping its own: a fallback that damps more must not be handed the first one's factor."""
    seen = inputs()
    assert seen.curvature(0.03) is seen.curvature(0.03)
    assert not torch.equal(seen.curvature(0.03).factor, seen.curvature(1.0).factor)


@pytest.mark.parametrize("solver", [Rtn(), Imatrix(), Gptq()], ids=lambda s: s.name)
@pytest.mark.parametrize("zero", list(Zero))
def test_more_bits_never_err_more(solver: Solver, zero: Zero) -> None:
    """With integer zero points scores fall with bits, which is what an allocator relies on."""
    if zero is Zero.FLOAT:
        pytest.skip("a float zero point cannot promise it: see the inversion test")
    seen = inputs()
    solved = solver.solve(WEIGHT, seen, [grid(b, zero) for b in (2, 3, 4, 5, 6, 8)])
    errors = [output_error(weight, seen) for weight in solved]
    assert errors == sorted(errors, reverse=True)


def test_hqq_is_the_package_s_own_answer() -> None:
    """What HQQLinear holds after quantizing with its default configuration, down to the last weight."""
    for bits in (2, 3, 4, 8):
        layer = torch.nn.Linear(128, 48, bias=False)
        layer.weight.data = WEIGHT.clone()
        config = BaseQuantizeConfig(nbits=bits, group_size=64, axis=1)
        theirs = HQQLinear(layer, config, compute_dtype=torch.bfloat16, device="cpu").dequantize()
        ours = Hqq().solve(WEIGHT, InputStatistics(128), [grid(bits, Zero.FLOAT)])[0].dequantized()
        torch.testing.assert_close(ours, theirs.float(), rtol=0, atol=0)


@settings(max_examples=40, deadline=None)
@given(bits=st.sampled_from([2, 3, 4, 8]), zero=st.sampled_from(list(Zero)), scale=st.floats(1e-6, 1e4))
def test_zero_is_kept_where_the_zero_point_is_whole(bits: int, zero: Zero, scale: float) -> None:
    """A weight of 0 stays 0, whatever its group; only a float zero point may move it."""
    weight = WEIGHT.clone() * scale
    weight[:, ::7] = 0
    found = Rtn().solve(weight, InputStatistics(128), [grid(bits, zero)])[0].dequantized()
    assert bool(torch.isfinite(found).all())
    if zero is not Zero.FLOAT:
        assert bool((found[:, ::7] == 0).all())


def test_a_group_of_zeros_stays_zeros() -> None:
    """Dead channels made NaN scales in four other quantizers."""
    weight = WEIGHT.clone()
    weight[3] = 0
    weight[:, 64:] = 0
    for solver in (Gptq(), Imatrix(), Rtn()):
        found = solver.solve(weight, inputs(), [grid(3)])[0]
        found.check_finite("x")
        assert bool((found.dequantized()[3] == 0).all())


def test_channels_never_seen_do_no_harm() -> None:
    """An input that was always 0 makes the Gram matrix singular; damping must not be needed for it."""
    seen = InputStatistics(128)
    tokens = torch.randn(300, 128, generator=torch.Generator().manual_seed(2))
    tokens[:, :40] = 0
    seen.add(tokens)
    solved = solve_or_fall_back("x", WEIGHT, seen, [grid(4)], Method("gptq", COMPRESSED_TENSORS, 64).chain)
    assert (solved.solver, solved.reason) == ("gptq", "")


def test_a_weight_that_is_not_finite_is_refused_by_name() -> None:
    """No solver can mend it, so no fallback is tried."""
    weight = WEIGHT.clone()
    weight[5, 9] = float("nan")
    with pytest.raises(NotFiniteError, match=r"layers.1.q: weight \[5, 9\] is not finite"):
        solve_or_fall_back("layers.1.q", weight, inputs(), [grid(3)], [Rtn()])


class Broken:
    name = "broken"

    def solve(
        self, weight: torch.Tensor, inputs: InputStatistics, grids: Sequence[Grid]
    ) -> list[QuantizedWeight]:
        found = Rtn().solve(weight, inputs, grids)[0]
        scale = found.scale.clone()
        scale[2, 1] = float("inf")
        return [QuantizedWeight(found.grid, found.codes, scale, found.zero)]


def test_a_solver_that_fails_is_replaced_and_it_is_said() -> None:
    """The fallback's name and the reason, with row, group and bits, travel with the result."""
    solved = solve_or_fall_back("x", WEIGHT, inputs(), [grid(3)], [Broken(), Rtn()])
    assert solved.solver == "rtn"
    assert solved.reason == "broken: x: scale of row 2, group 1 at 3 bits is not finite"


def test_an_expert_that_no_token_reached_is_rounded_and_it_is_said() -> None:
    """Without inputs there is nothing to weigh errors by."""
    solved = solve_or_fall_back("x", WEIGHT, InputStatistics(128), [grid(3)], [Gptq(), Rtn()])
    assert (solved.solver, solved.reason) == ("rtn", "gptq: no calibration token reached it")
