"""KL divergence of each layer's damage at the logits.

Every damaged model is a fork of the hidden state that goes its own way from its block on. Blocks are loaded once; forks
wait in one file between two blocks.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from runners.quantize.device import MicroBatch
from runners.quantize.network import Network
from runners.quantize.passes import forward, input_statistics
from runners.quantize.profiling import Method

Forks = dict[str, torch.Tensor]
"""Hidden states by fork: `<layer>|<bits>`."""


def fork_name(layer: str, bits: int) -> str:
    """Return the name of a fork in its file."""
    return f"{layer}|{bits}"


def parse_fork(name: str) -> tuple[str, int]:
    """Layer and bits of a fork's name."""
    layer, _, bits = name.rpartition("|")
    return layer, int(bits)


def through_block(
    network: Network,
    index: int,
    hidden: torch.Tensor,
    calibration: torch.Tensor,
    forks: Mapping[str, torch.Tensor],
    method: Method,
    micro: MicroBatch,
) -> Forks:
    """Carry the forks there are through the block, and begin one for each of its layers and bits."""
    carried: Forks = {}
    if forks:
        together = forward(network, index, torch.cat(list(forks.values())), micro)
        carried = dict(zip(forks, together.split(len(hidden)), strict=True))
    statistics = input_statistics(network, index, calibration, micro)
    for name, weight in network.weights(index).items():
        layer = name.removesuffix(".weight")
        solved = method.solve(layer, weight, statistics[layer], method.bits)
        for b, quantized in zip(method.bits, solved.weights, strict=True):
            changed = {name: quantized.dequantized()}
            carried[fork_name(layer, b)] = forward(network, index, hidden, micro, changed)
    return carried


def divergences(
    network: Network, reference: torch.Tensor, forks: Mapping[str, torch.Tensor]
) -> dict[str, float]:
    """Mean KL divergence a token of each fork from the reference, in nats."""
    totals = dict.fromkeys(forks, 0.0)
    with torch.no_grad():
        for window in range(len(reference)):
            wanted = _log_chances(network, reference[window])
            chances = wanted.exp()
            for name, hidden in forks.items():
                got = _log_chances(network, hidden[window])
                totals[name] += float((chances * (wanted - got)).sum(-1).mean(dtype=torch.float64))
    return {name: max(0.0, total / len(reference)) for name, total in totals.items()}


def _log_chances(network: Network, states: torch.Tensor) -> torch.Tensor:
    return torch.log_softmax(network.logits(states[None].to(network.device))[0].float(), -1)
