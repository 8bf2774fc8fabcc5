"""Evaluate: the whole text through a model, chunk by chunk, against the model as it was; and the controls.

A run whose controls fail measures something else than it says: it is INVALID and reports nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, log
from statistics import fmean
from typing import Any, Final

import torch

from runners.quantize.device import MicroBatch
from runners.quantize.evaluation import (
    OverridesOf,
    WindowLosses,
    chunks,
    final_hidden,
    joined,
    no_overrides,
    window_losses,
)  # fmt: skip
from runners.quantize.fault import ControlError
from runners.quantize.network import Network
from runners.quantize.run import Run
from runners.quantize.solvers.rtn import Rtn
from runners.quantize.solvers.solver import InputStatistics
from runners.quantize.stages.calibrate import EVALUATION, windows
from runners.quantize.statistics import Paired, mean_interval, paired
from runners.quantize.workspace import Made

BASELINE: Final = "evaluate-baseline"
NLL, KL, AGREEMENT, LAST = "nll", "kl", "agreement", "hidden"
CONTROL_WINDOWS: Final = 16
SAME_DECIMALS: Final = 4

# A model hardly trained may even gain by damage; its predictions move all the same, and the report says which it was.
LEAST_DAMAGE_NATS: Final = 1e-5


class EvaluateChunk:
    """Runs one chunk of windows through the whole model; the baseline keeps its last hidden states for the others."""

    def __init__(self, run: Run, ids: torch.Tensor, overrides_of: OverridesOf, *, reference: bool) -> None:
        self._run, self._ids, self._overrides_of, self._reference = run, ids, overrides_of, reference

    def __call__(self, network: Network, index: int) -> Made:
        part = chunks(self._ids, network)[index]
        ids, micro = self._ids[part], MicroBatch(self._run.micro.size)
        hidden = final_hidden(network, ids, self._overrides_of, micro)
        reference = self._run.workspace.read(BASELINE, index)[LAST] if self._reference else None
        losses = window_losses(network, ids, hidden, reference)
        tensors = {
            name: torch.tensor(getattr(losses, name), dtype=torch.float64) for name in (NLL, KL, AGREEMENT)
        }
        return {**tensors, LAST: hidden} if not self._reference else tensors, ()


def evaluate(run: Run, stage: str, overrides_of: OverridesOf, limit: int = 0) -> WindowLosses:
    """Return the losses of every window (or the first `limit`); committed ones are read back."""
    ids = windows(run, EVALUATION)
    reference = stage != BASELINE
    ids = ids[:limit] if limit else ids
    count = len(chunks(ids, run.network))
    work = EvaluateChunk(run, ids, overrides_of, reference=reference)
    run.workspace.tensor_stage(stage, range(count), work, run.here)
    parts = [run.workspace.read(stage, index) for index in range(count)]
    return joined(
        [WindowLosses(*(tuple(part[name].tolist()) for name in (NLL, KL, AGREEMENT))) for part in parts]
    )


def baseline(run: Run) -> WindowLosses:
    """Return the model as it is, and whether text and tokenizer are its own."""
    losses = evaluate(run, BASELINE, no_overrides)
    check_tokenizer(run, losses)
    return losses


def compare(run: Run, losses: WindowLosses) -> Paired:
    """Against the baseline, window by window."""
    return paired(baseline(run).nll[: len(losses.nll)], losses.nll)


def check_tokenizer(run: Run, losses: WindowLosses) -> None:
    """A model that knows its tokens beats their mere frequencies; with another's tokenizer it cannot."""
    ids = windows(run, EVALUATION)
    counts = torch.bincount(ids.flatten()).double()
    shares = counts[counts > 0] / counts.sum()
    frequencies = float(-(shares * shares.log()).sum())
    if fmean(losses.nll) >= frequencies:
        raise ControlError(
            f"baseline perplexity {losses.perplexity:.1f} is no better than the {exp(frequencies):.1f} of token "
            "frequencies alone: the tokenizer or the text is not this model's"
        )


def check_noop(run: Run, losses: WindowLosses) -> dict[str, Any]:
    """Require an unquantized run to measure as unchanged, to four decimals of perplexity."""
    before = exp(fmean(baseline(run).nll[: len(losses.nll)]))
    if round(before, SAME_DECIMALS) != round(losses.perplexity, SAME_DECIMALS):
        raise ControlError(
            f"no-op control: perplexity {losses.perplexity:.6f} where the baseline has {before:.6f}; the pipeline "
            "itself changes the model, and the run is INVALID"
        )
    return {"baseline": before, "noop": losses.perplexity, "n": len(losses.nll)}


def damaged(run: Run, layer: str) -> OverridesOf:
    """Round one layer to 2 bits."""
    grid = run.method.grid(min(run.settings.format.bits))

    def overrides_of(index: int) -> Mapping[str, torch.Tensor]:
        weight = run.network.weights(index).get(f"{layer}.weight")
        if weight is None:
            return {}
        inputs = InputStatistics(weight.shape[1], run.device)
        return {f"{layer}.weight": Rtn().solve(weight, inputs, [grid])[0].dequantized()}

    return overrides_of


def check_positive(run: Run, layer: str, losses: WindowLosses) -> dict[str, Any]:
    """Damage must show, or the evaluation looks at other weights than those it was given."""
    found, divergence = compare(run, losses), mean_interval(losses.kl)
    if divergence.low <= LEAST_DAMAGE_NATS:
        raise ControlError(
            f"positive control: {layer} at the fewest bits moves predictions by {divergence.value:.2e} nats, interval "
            f"from {divergence.low:.2e}; the evaluation does not see the weights, and the run is INVALID"
        )
    return {
        "layer": layer,
        "kl": divergence.as_json(),
        "hurts": found.delta_nll.low > 0,
        **found.as_json(),
    }


def prediction_holds(predicted: float, measured: Paired) -> bool:
    """Tell if the measured loss is within half and twice the predicted, or too small to tell."""
    value = measured.delta_nll
    return value.low <= 2 * predicted and value.high >= predicted / 2


def percent(nats: float) -> float:
    """Return a rise of the mean loss as a rise of perplexity."""
    return 100 * (exp(nats) - 1)


def nats(increase_percent: float) -> float:
    """And back."""
    return log(1 + increase_percent / 100)
