"""Diagnose: how the quantized model's predictions part from the reference's, prompt by prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import torch

from runners.quantize.cache import ScoreRow
from runners.quantize.diagnosis import CONFIDENT, Divergence, Inversion, find_inversions, worst_layers
from runners.quantize.evaluation import WindowLosses, final_hidden
from runners.quantize.network import Network
from runners.quantize.run import Run
from runners.quantize.stages.calibrate import EVALUATION, windows
from runners.quantize.stages.quantize import QuantizedBlocks
from runners.quantize.statistics import mean_interval, share_interval
from runners.quantize.workspace import Made

if TYPE_CHECKING:
    from runners.quantize.pipeline import Planned

DIAGNOSE: Final = "diagnose"
PROMPTS: Final = 96
SHORTEST_PROMPT: Final = 16
TREAT_NEXT: Final = 9


def inversions(rows: Mapping[tuple[str, int], ScoreRow]) -> list[Inversion]:
    """Layers whose drift rises with bits."""
    return find_inversions(rows)


def diagnose(run: Run, blocks: QuantizedBlocks, losses: WindowLosses, planned: Planned) -> dict[str, Any]:
    """Divergence on the prompts, overall agreement, and the layers to treat next."""
    run.workspace.tensor_stage(DIAGNOSE, [0], lambda net, _: _last_tokens(run, net, blocks), run.here)
    found = run.workspace.read(DIAGNOSE, 0)
    divergence = classify(found["reference"], found["quantized"])
    return {
        **divergence.as_json(),
        "window_kl": mean_interval(losses.kl).as_json(),
        "window_agreement": mean_interval(losses.agreement).as_json(),
        "treat_next": worst_layers(planned.allocation.bits, planned.rows, TREAT_NEXT),
    }


def _last_tokens(run: Run, network: Network, blocks: QuantizedBlocks) -> Made:
    """Log chances of the next token behind each prompt, by both models."""
    ids = windows(run, EVALUATION)[:PROMPTS]
    lengths = prompt_lengths(len(ids), ids.shape[1], run.settings.seed)
    found = {}
    for name, overrides_of in (("reference", lambda _: {}), ("quantized", blocks.overrides)):
        hidden = final_hidden(network, ids, overrides_of, run.micro)
        last = hidden[torch.arange(len(ids)), lengths - 1]
        with torch.no_grad():
            found[name] = torch.log_softmax(
                network.logits(last[:, None].to(network.device))[:, 0].float(), -1
            )
    return found, ()


def prompt_lengths(count: int, window: int, seed: int) -> torch.Tensor:
    """A prompt ends anywhere in its window, not always at the same place."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(min(SHORTEST_PROMPT, window), window + 1, (count,), generator=generator)


def classify(reference: torch.Tensor, quantized: torch.Tensor) -> Divergence:
    """Find the prompts with another first choice, and the reference's certainty of its own."""
    chances = reference.exp()
    flipped = reference.argmax(-1) != quantized.argmax(-1)
    sure = chances.amax(-1) >= CONFIDENT
    kl = (chances * (reference - quantized)).sum(-1).double().tolist()
    return Divergence(
        prompts=len(reference),
        confident=int((flipped & sure).sum()),
        uncertain=int((flipped & ~sure).sum()),
        mean_kl=mean_interval(kl),
        flipped=share_interval(int(flipped.sum()), len(reference)),
    )
