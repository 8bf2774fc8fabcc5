"""Perplexity by a fixed protocol: the whole text in windows without overlap, every window's loss kept for pairing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp
from statistics import fmean

import torch

from runners.quantize.device import MicroBatch
from runners.quantize.network import Network, Weights
from runners.quantize.passes import forward

CHUNK_BYTES = 512 << 20
"""Hidden states that wait on the CPU between two blocks; a chunk of windows passes all blocks and is committed."""

OverridesOf = Callable[[int], Weights]


@dataclass(frozen=True, slots=True)
class WindowLosses:
    """Per window: mean loss a token; beside a reference also mean KL and the share of equal first choices."""

    nll: tuple[float, ...]
    kl: tuple[float, ...] = ()
    agreement: tuple[float, ...] = ()

    @property
    def perplexity(self) -> float:
        return exp(fmean(self.nll))


def no_overrides(index: int) -> Weights:  # noqa: ARG001 - the checkpoint's own weights, whatever the block
    """Return the model as it is."""
    return {}


def final_hidden(
    network: Network, ids: torch.Tensor, overrides_of: OverridesOf, micro: MicroBatch
) -> torch.Tensor:
    """Hidden states behind the last block, streamed: one block resident."""
    hidden = torch.cat([network.embed(ids[part]).cpu() for part in micro.parts(len(ids))])
    for index in range(network.block_count):
        hidden = forward(network, index, hidden, micro, overrides_of(index))
    return hidden


def window_losses(
    network: Network, ids: torch.Tensor, hidden: torch.Tensor, reference: torch.Tensor | None = None
) -> WindowLosses:
    """Losses of these windows, and how far their predictions are from the reference's."""
    nll, kl, agreement = [], [], []
    with torch.no_grad():
        for window, states in enumerate(hidden):
            logs = _log_chances(network, states)
            targets = ids[window, 1:].to(logs.device)
            nll.append(float(-logs[:-1].gather(1, targets[:, None]).mean(dtype=torch.float64)))
            if reference is not None:
                wanted = _log_chances(network, reference[window])
                kl.append(float((wanted.exp() * (wanted - logs)).sum(-1).mean(dtype=torch.float64)))
                agreement.append(float((wanted.argmax(-1) == logs.argmax(-1)).double().mean()))
    return WindowLosses(tuple(nll), tuple(kl), tuple(agreement))


def _log_chances(network: Network, states: torch.Tensor) -> torch.Tensor:
    logits = network.logits(states[None].to(network.device))[0]
    return torch.log_softmax(logits.float(), -1)


def chunks(ids: torch.Tensor, network: Network) -> Sequence[slice]:
    """Return the windows in pieces whose hidden states fit `CHUNK_BYTES`."""
    windows, window = ids.shape
    width = int(network.config.hidden_size) * torch.finfo(network.dtype).bits // 8
    size = max(1, CHUNK_BYTES // (window * width))
    return [slice(start, min(start + size, windows)) for start in range(0, windows, size)]


def joined(parts: Sequence[WindowLosses]) -> WindowLosses:
    """Chunks in their order as one."""
    return WindowLosses(
        tuple(value for part in parts for value in part.nll),
        tuple(value for part in parts for value in part.kl),
        tuple(value for part in parts for value in part.agreement),
    )
