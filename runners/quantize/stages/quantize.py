"""Quantize: every layer at the bits it was given, one file a block, from the inputs that calibration kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from runners.quantize.device import MicroBatch
from runners.quantize.executor import Executor
from runners.quantize.fault import ControlError
from runners.quantize.grid import QuantizedWeight
from runners.quantize.journal import Note
from runners.quantize.network import Network, Weights
from runners.quantize.passes import input_statistics
from runners.quantize.profiling import Method
from runners.quantize.run import Run
from runners.quantize.solvers.awq import Fold, find_fold
from runners.quantize.solvers.solver import ChannelPower, InputStatistics
from runners.quantize.stages.calibrate import HIDDEN, calibrate
from runners.quantize.stages.profile import StateFile, state_files
from runners.quantize.states import read_verified
from runners.quantize.storage import UNQUANTIZED
from runners.quantize.workspace import Made

QUANTIZE: Final = "quantize"
CODES, SCALE, ZERO, AS_IT_WAS = "codes", "scale", "zero", "weight"
FOLDED, COLUMNS, ROWS = "folded", "fold_columns", "fold_rows"
POWER, TOKENS = "input_power", "input_tokens"


@dataclass(frozen=True, slots=True)
class QuantizeBlock:
    """Quantizes one block; can be sent to another process. `treated` layers are scaled by AWQ first."""

    hidden: Mapping[int, StateFile]
    method: Method
    bits: Mapping[str, int]
    micro_batch: int
    treated: frozenset[str] = frozenset()

    def __call__(self, network: Network, index: int) -> Made:
        layers = network.linears(index)
        weights = {layer: network.weights(index)[f"{layer}.weight"] for layer in layers}
        chosen = [layer for layer in layers if self.bits[layer] != UNQUANTIZED]
        if not chosen:
            return {f"{n}.{AS_IT_WAS}": weight.to(torch.bfloat16) for n, weight in weights.items()}, ()
        state = self.hidden[index]
        hidden = read_verified(state.path, state.digest)[HIDDEN]
        statistics = input_statistics(network, index, hidden, MicroBatch(self.micro_batch))
        fold, tensors = self._folded(network, index, weights, statistics)
        notes = []
        for layer in layers:
            weight, inputs = fold.weight(layer, weights[layer]), fold.inputs(layer, statistics[layer])
            tensors |= {
                f"{layer}.{POWER}": inputs.power.sums,
                f"{layer}.{TOKENS}": torch.tensor(inputs.tokens),
            }
            if layer not in chosen:
                tensors[f"{layer}.{AS_IT_WAS}"] = weight.to(torch.bfloat16)
                continue
            solved = self.method.solve(layer, weight, inputs, [self.bits[layer]])
            tensors |= _parts(layer, solved.weights[0])
            if solved.reason:
                notes.append(Note("fallback", layer, f"{solved.solver} instead: {solved.reason}"))
        return tensors, tuple(notes)

    def _folded(
        self,
        network: Network,
        index: int,
        weights: Mapping[str, torch.Tensor],
        statistics: Mapping[str, InputStatistics],
    ) -> tuple[Fold, dict[str, torch.Tensor]]:
        """Return the block's fold, and the tensors that record it."""
        mine = self.treated.intersection(weights)
        if not mine:
            return Fold(), {}
        prefix = f"model.layers.{index}"
        names = [name for name in network.block_tensors(index) if name.endswith("norm.weight")]
        norms = network.checkpoint.read(names)
        grids = {n: self.method.grid(b) for n, b in self.bits.items() if n in weights and b != UNQUANTIZED}
        fold = find_fold(prefix, mine, weights, statistics, grids, norms)
        tensors = {
            f"{FOLDED}.{name}": norms[name] / scale.cpu().to(norms[name].dtype)
            for name, scale in fold.norms.items()
        }
        tensors |= {f"{layer}.{COLUMNS}": scale for layer, scale in fold.columns.items()}
        tensors |= {f"{layer}.{ROWS}": scale for layer, scale in fold.rows.items()}
        return fold, {name: tensor.clone() for name, tensor in tensors.items()}


def _parts(layer: str, weight: QuantizedWeight) -> dict[str, torch.Tensor]:
    return {
        f"{layer}.{CODES}": weight.codes,
        f"{layer}.{SCALE}": weight.scale,
        f"{layer}.{ZERO}": weight.zero,
    }


def quantize(
    run: Run,
    bits: Mapping[str, int],
    executor: Executor,
    stage: str = QUANTIZE,
    treated: frozenset[str] = frozenset(),
) -> None:
    """Quantize every block that is not committed."""
    if any(b != UNQUANTIZED for b in bits.values()) and not _all_done(run, stage):
        calibrate(run, gradients=False)
    work = QuantizeBlock(state_files(run, HIDDEN), run.method, dict(bits), run.micro.size, treated)
    run.workspace.tensor_stage(stage, range(run.block_count), work, executor)


def _all_done(run: Run, stage: str) -> bool:
    return all(run.workspace.is_done(stage, index) for index in range(run.block_count))


class QuantizedBlocks:
    """Reads the quantized blocks back, block by block: for evaluation, checks and export."""

    def __init__(
        self, folder: Path, files: Mapping[int, StateFile], method: Method, bits: Mapping[str, int]
    ) -> None:
        self.folder, self._files, self._method, self.bits = folder, files, method, bits

    @classmethod
    def of(cls, run: Run, bits: Mapping[str, int], stage: str = QUANTIZE) -> QuantizedBlocks:
        return cls(run.workspace.folder, state_files(run, stage), run.method, bits)

    def layers(self, index: int) -> dict[str, QuantizedWeight | torch.Tensor]:
        """Return each layer of a block: on its grid, or unchanged."""
        file = self._files[index]
        tensors = read_verified(file.path, file.digest)
        found: dict[str, QuantizedWeight | torch.Tensor] = {}
        for name in self.bits:
            if f"{name}.{CODES}" in tensors:
                parts = (tensors[f"{name}.{part}"] for part in (CODES, SCALE, ZERO))
                found[name] = QuantizedWeight(self._method.grid(self.bits[name]), *parts)
            elif f"{name}.{AS_IT_WAS}" in tensors:
                found[name] = tensors[f"{name}.{AS_IT_WAS}"]
        return found

    def overrides(self, index: int) -> Weights:
        """Return the block's weights as they will be after loading, to stand in for the checkpoint's."""
        linear = {
            f"{name}.weight": layer.dequantized() if isinstance(layer, QuantizedWeight) else layer
            for name, layer in self.layers(index).items()
        }
        return {**linear, **self.other_overrides(index)}

    def other_overrides(self, index: int) -> Weights:
        """Tensors of the block that are no linear layer's and were changed all the same, such as folded norms."""
        file = self._files[index]
        tensors = read_verified(file.path, file.digest)
        start = len(FOLDED) + 1
        return {name[start:]: tensor for name, tensor in tensors.items() if name.startswith(f"{FOLDED}.")}

    def input_power(self, index: int) -> dict[str, ChannelPower]:
        """Return the calibrated input power of the block's layers, if any was quantized."""
        file = self._files[index]
        tensors = read_verified(file.path, file.digest)
        return {
            name: ChannelPower(tensors[f"{name}.{POWER}"], int(tensors[f"{name}.{TOKENS}"]))
            for name in self.bits
            if f"{name}.{POWER}" in tensors
        }

    def fold(self, index: int) -> Fold:
        """Return the scales applied to the block's weights before they were quantized."""
        file = self._files[index]
        tensors = read_verified(file.path, file.digest)
        columns = {n.removesuffix(f".{COLUMNS}"): t for n, t in tensors.items() if n.endswith(f".{COLUMNS}")}
        rows = {n.removesuffix(f".{ROWS}"): t for n, t in tensors.items() if n.endswith(f".{ROWS}")}
        return Fold(columns, rows)

    def digests(self) -> dict[str, str]:
        """Return the digest of each block's file."""
        return {f"{index:04d}": file.digest for index, file in sorted(self._files.items())}

    def check(self, network: Network) -> int:
        """Count the layers that really are quantized; one that was left or does not fit its weight is a fault."""
        count = 0
        for index in range(network.block_count):
            layers, weights, fold = self.layers(index), network.weights(index), self.fold(index)
            for name in network.linears(index):
                weight = fold.weight(name, weights[f"{name}.weight"].cpu())
                _check_layer(name, self.bits[name], layers.get(name), weight)
                count += self.bits[name] != UNQUANTIZED
        return count


# Round to nearest in groups of 64 errs by 0.5 at 2 bits and less above; swapped scales err by more than the weight.
MOST_RELATIVE_ERROR: Final = 0.9


def _check_layer(
    name: str, bits: int, layer: QuantizedWeight | torch.Tensor | None, weight: torch.Tensor
) -> None:
    if layer is None:
        raise ControlError(f"{name}: it is in no file of the quantize stage")
    if bits == UNQUANTIZED:
        return
    if not isinstance(layer, QuantizedWeight):
        raise ControlError(f"{name}: it was to have {bits} bits and was left as it is")
    if int(layer.codes.max()) > layer.grid.top:
        raise ControlError(f"{name}: codes do not fit {bits} bits")
    error = (layer.dequantized().to(weight.device) - weight.float()).norm() / weight.float().norm().clamp(
        min=1e-30
    )
    if float(error) > MOST_RELATIVE_ERROR:
        raise ControlError(
            f"{name}: what was stored is {float(error):.2f} of the weight away from it; scales or zeros are of another"
        )
