"""Work on one resident block: forward, backward, input statistics, and the scores of quantized weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from runners.quantize.device import MicroBatch
from runners.quantize.network import Network, Weights
from runners.quantize.solvers.solver import InputStatistics


@dataclass(slots=True)
class Seen:
    """Inputs and outputs of the block's linear layers in the latest forward pass, by full name."""

    inputs: dict[str, torch.Tensor] = field(default_factory=dict)
    outputs: dict[str, torch.Tensor] = field(default_factory=dict)


@contextmanager
def watching(network: Network, index: int, block: torch.nn.Module) -> Iterator[Seen]:
    """Keep the tensors that pass through the linear layers while the context lasts."""
    seen = Seen()
    prefix = network.linears(index)[0].split(".layers.")[0] + f".layers.{index}."

    def hook(name: str) -> torch.utils.hooks.RemovableHandle:
        def keep(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            seen.inputs[name], seen.outputs[name] = inputs[0], output
            if output.requires_grad:
                output.retain_grad()

        return block.get_submodule(name.removeprefix(prefix)).register_forward_hook(keep)

    handles = [hook(name) for name in network.linears(index)]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def forward(
    network: Network, index: int, hidden: torch.Tensor, micro: MicroBatch, overrides: Weights | None = None
) -> torch.Tensor:
    """Hidden states (windows, tokens, width) behind the block, on the CPU."""
    block = network.block(index, overrides)
    arguments = network.arguments(index, torch.zeros(hidden.shape[:2], dtype=torch.long))

    def work() -> torch.Tensor:
        with torch.no_grad():
            parts = [
                network.run(block, hidden[part].to(network.device), arguments).cpu()
                for part in micro.parts(len(hidden))
            ]
        return torch.cat(parts)

    return micro.retrying(work)


def backward(
    network: Network, index: int, hidden: torch.Tensor, gradient: torch.Tensor, micro: MicroBatch
) -> torch.Tensor:
    """Return the loss's gradient in front of the block, from the one behind it."""
    block = network.block(index)
    arguments = network.arguments(index, torch.zeros(hidden.shape[:2], dtype=torch.long))

    def work() -> torch.Tensor:
        parts = []
        with torch.enable_grad():
            for part in micro.parts(len(hidden)):
                inputs = hidden[part].to(network.device).requires_grad_()
                network.run(block, inputs, arguments).backward(gradient[part].to(network.device))
                parts.append(inputs.grad.cpu())
        return torch.cat(parts)

    return micro.retrying(work)


def head_gradient(network: Network, hidden: torch.Tensor, seed: int) -> torch.Tensor:
    """Gradient of the loss at the last hidden state, labels sampled from the model itself.

    Labels of its own make the mean squared gradient the Fisher information, whose half is the KL divergence to
    second order: that is why scores made of it are in nats.
    """
    gradients = []
    for window, states in enumerate(hidden):
        inputs = states[None].to(network.device).requires_grad_()
        with torch.enable_grad():
            logits = network.logits(inputs).float()[0]
            generator = torch.Generator().manual_seed(seed * 1_000_003 + window)
            chances = torch.softmax(logits.detach(), -1).cpu()
            labels = torch.multinomial(chances, 1, generator=generator)[:, 0].to(logits.device)
            torch.nn.functional.cross_entropy(logits, labels, reduction="sum").backward()
        gradients.append(inputs.grad.cpu())
    return torch.cat(gradients)


def input_statistics(
    network: Network, index: int, hidden: torch.Tensor, micro: MicroBatch
) -> dict[str, InputStatistics]:
    """Return one Gram matrix for each distinct input; layers that read the same tensor share theirs."""
    block = network.block(index)
    arguments = network.arguments(index, torch.zeros(hidden.shape[:2], dtype=torch.long))
    widths = {name: network.checkpoint.tensors[f"{name}.weight"].shape[1] for name in network.linears(index)}

    def work() -> dict[str, InputStatistics]:
        found: dict[str, InputStatistics] = {}
        with torch.no_grad(), watching(network, index, block) as seen:
            for part in micro.parts(len(hidden)):
                seen.inputs.clear()
                network.run(block, hidden[part].to(network.device), arguments)
                _add(found, seen.inputs, network.device)
        for name, width in widths.items():
            found.setdefault(name, InputStatistics(width, network.device))
        return found

    return micro.retrying(work)


def _add(found: dict[str, InputStatistics], inputs: Mapping[str, torch.Tensor], device: str) -> None:
    """Count each tensor once: the hooks hold them, so that equal identity means the same tensor."""
    owners: dict[int, str] = {}
    for name, tensor in inputs.items():
        owner = owners.setdefault(id(tensor), name)
        if owner != name:
            found[name] = found[owner]
            continue
        found.setdefault(name, InputStatistics(tensor.shape[-1], device)).add(tensor)


@dataclass(slots=True)
class Score:
    """Sums, over calibration tokens, the effect of one weight's change at its layer's output."""

    error: float = 0.0
    power: float = 0.0
    weighted_error: float = 0.0
    tokens: int = 0

    @property
    def drift(self) -> float:
        """Return the source's signal: squared error over squared output."""
        return self.error / self.power if self.power else 0.0

    @property
    def fisher(self) -> float:
        """Nats a token: half the squared-gradient-weighted squared error."""
        return self.weighted_error / (2 * self.tokens) if self.tokens else 0.0


def score(
    network: Network,
    index: int,
    hidden: torch.Tensor,
    gradient: torch.Tensor,
    changes: Mapping[tuple[str, int], torch.Tensor],
    micro: MicroBatch,
) -> dict[tuple[str, int], Score]:
    """Score each change of a weight, keyed by layer and bits, each as if it were the only one."""
    block = network.block(index)
    arguments = network.arguments(index, torch.zeros(hidden.shape[:2], dtype=torch.long))

    def work() -> dict[tuple[str, int], Score]:
        scores = {key: Score() for key in changes}
        with torch.enable_grad(), watching(network, index, block) as seen:
            for part in micro.parts(len(hidden)):
                seen.inputs.clear()
                seen.outputs.clear()
                inputs = hidden[part].to(network.device).requires_grad_()
                network.run(block, inputs, arguments).backward(gradient[part].to(network.device))
                for (name, bits), change in changes.items():
                    if seen.outputs.get(name) is None:
                        continue  # an expert that none of these tokens was sent to
                    _add_score(scores[name, bits], seen.inputs[name], seen.outputs[name], change)
        return scores

    return micro.retrying(work)


def _add_score(total: Score, inputs: torch.Tensor, outputs: torch.Tensor, change: torch.Tensor) -> None:
    with torch.no_grad():
        squared = (inputs.detach().float() @ change.float().T).square()
        total.error += float(squared.sum(dtype=torch.float64))
        total.power += float(outputs.detach().float().square().sum(dtype=torch.float64))
        total.weighted_error += float((outputs.grad.float().square() * squared).sum(dtype=torch.float64))
        total.tokens += squared.shape[:-1].numel()
