"""AWQ as a treatment: the fold changes nothing by itself, and helps where a few channels carry everything."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from runners.quantize.evaluation import final_hidden
from runners.quantize.fault import SettingsError
from runners.quantize.grid import Grid
from runners.quantize.passes import input_statistics
from runners.quantize.pipeline import run_all
from runners.quantize.solvers.awq import Fold, find_fold, find_scale, power_of_two
from runners.quantize.solvers.imatrix import Imatrix
from runners.quantize.solvers.solver import InputStatistics
from runners.quantize.stages.calibrate import calibrate, hidden
from runners.quantize.storage import Zero
from runners.quantize.variants import promoted, to_treat, try_variant

if TYPE_CHECKING:
    from quantize_world import World


GRID = Grid(3, 64, Zero.MIDDLE, torch.bfloat16)


def lopsided() -> tuple[torch.Tensor, InputStatistics]:
    """One channel in thirty-two is a hundred times as strong as the others."""
    generator = torch.Generator().manual_seed(4)
    inputs = InputStatistics(64)
    strength = torch.ones(64)
    strength[::32] = 100
    inputs.add(torch.randn(500, 64, generator=generator) * strength)
    return torch.randn(32, 64, generator=generator), inputs


def test_scales_are_powers_of_two_and_lower_the_error() -> None:
    """So that dividing a bfloat16 norm by them is exact."""
    weight, inputs = lopsided()
    scale = find_scale([weight], [GRID], inputs)
    assert torch.equal(power_of_two(scale), scale)
    assert len(scale.unique()) > 1
    errors = []
    for fold in (Fold(), Fold(columns={"x": scale})):
        solved = Imatrix().solve(fold.weight("x", weight), fold.inputs("x", inputs), [GRID])[0].dequantized()
        change = solved / fold.columns.get("x", torch.ones(64)) - weight
        errors.append(float(((change @ inputs.gram) * change).sum()))
    assert errors[1] < 0.95 * errors[0]


def test_a_fold_leaves_the_model_what_it_was(world: World, tmp_path: Path) -> None:
    """Norms and rows divided, columns multiplied: the same hidden states, to float32's last digits."""
    with world.run(tmp_path, calibration_windows=2) as run:
        calibrate(run, gradients=False)
        network, states = run.network, hidden(run, 0)
        statistics = input_statistics(network, 0, states, run.micro)
        layers = network.linears(0)
        weights = {layer: network.weights(0)[f"{layer}.weight"] for layer in layers}
        norms = run.checkpoint.read(n for n in network.block_tensors(0) if n.endswith("norm.weight"))
        grids = dict.fromkeys(layers, GRID)
        fold = find_fold("model.layers.0", layers, weights, statistics, grids, norms)
        folded = {f"{layer}.weight": fold.weight(layer, weights[layer]) for layer in layers}
        folded |= {name: norms[name] / scale for name, scale in fold.norms.items()}
        assert len(fold.norms) == 2
        before = final_hidden(network, torch.zeros(1, 64, dtype=torch.long), lambda _: {}, run.micro)
        after = final_hidden(
            network, torch.zeros(1, 64, dtype=torch.long), lambda i: {} if i else folded, run.micro
        )
    torch.testing.assert_close(before, after, rtol=1e-4, atol=1e-4)


def test_promoting_and_treating_a_finished_run(world: World, tmp_path: Path) -> None:
    """Both measured on the run's own windows; more bits never come for nothing."""
    with world.run(tmp_path, bits_per_weight=3.0) as run:
        run_all(run, run.here)
        rows = run.cache.get(run.score_key())
        bits = dict.fromkeys(run.layers, 3)
        up = try_variant(run, bits, promoted(bits, ["o_proj", "down_proj"], 8), frozenset(), run.here)
        treated = try_variant(run, bits, bits, to_treat("worst:3", bits, rows), run.here)
    assert up.extra_bytes > 0
    assert sorted(up.changed) == [n for n in sorted(bits) if n.endswith(("o_proj", "down_proj"))]
    assert up.change.delta_nll.n == 24
    assert (treated.extra_bytes, len(treated.changed)) == (0, 3)
    assert treated.change.delta_nll.value != 0
    assert {up.verdict, treated.verdict} <= {"it helps", "it hurts", "no difference can be told"}


def test_what_cannot_be_promoted_or_treated_is_said() -> None:
    """A name that is none, a floor that is met."""
    with pytest.raises(SettingsError, match="has 4 bits or more already"):
        promoted({"model.layers.0.self_attn.o_proj": 8}, ["o_proj"], 4)
    with pytest.raises(SettingsError, match="nosuch: no layer is called so"):
        to_treat("nosuch", {"x": 3}, {})
