"""Calibrate: sample windows, then keep every block's input and the loss's gradient behind it.

Once these are on the disk each block can be profiled and quantized by itself, in any order, anywhere.
"""

from __future__ import annotations

from typing import Final

import torch

from runners.quantize import tokens
from runners.quantize.network import Network
from runners.quantize.passes import backward, forward, head_gradient
from runners.quantize.run import Run

TOKENS: Final = "tokens"
HIDDEN: Final = "hidden"
GRADIENT: Final = "gradient"
CALIBRATION, EVALUATION = 0, 1


def windows(run: Run, which: int) -> torch.Tensor:
    """Return the windows to calibrate or evaluate on, tokenized once."""
    run.workspace.tensor_stage(TOKENS, [which], lambda _, i: ({"ids": _windows(run, i)}, ()), run.here)
    return run.workspace.read(TOKENS, which)["ids"]


def _windows(run: Run, which: int) -> torch.Tensor:
    tokenizer, settings = tokens.load_tokenizer(run.checkpoint), run.settings
    if which == EVALUATION:
        ids = tokens.token_ids(tokenizer, run.texts.evaluation)
        return tokens.whole_text(ids, settings.window, settings.evaluation_windows)
    ids = tokens.token_ids(tokenizer, run.texts.calibration)
    return tokens.sample(ids, settings.window, settings.calibration_windows, settings.seed)


def calibrate(run: Run, *, gradients: bool = True) -> None:
    """Sweep forward, then backward; unit i of `hidden` is block i's input, of `gradient` the one behind block i - 1."""
    ids, last = windows(run, CALIBRATION), run.block_count
    run.workspace.tensor_stage(
        HIDDEN, range(last + 1), lambda net, i: ({HIDDEN: _hidden(run, net, ids, i)}, ()), run.here
    )
    if gradients:
        run.workspace.tensor_stage(
            GRADIENT, range(last, 0, -1), lambda net, i: ({GRADIENT: _gradient(run, net, i)}, ()), run.here
        )


def _hidden(run: Run, network: Network, ids: torch.Tensor, index: int) -> torch.Tensor:
    if index == 0:
        return torch.cat([network.embed(ids[part]).cpu() for part in run.micro.parts(len(ids))])
    return forward(network, index - 1, hidden(run, index - 1), run.micro)


def _gradient(run: Run, network: Network, index: int) -> torch.Tensor:
    if index == run.block_count:
        return head_gradient(network, hidden(run, index), run.settings.seed)
    return backward(network, index, hidden(run, index), gradient(run, index + 1), run.micro)


def hidden(run: Run, index: int) -> torch.Tensor:
    """Return block `index`'s input; behind the last block, the head's input."""
    return run.workspace.read(HIDDEN, index)[HIDDEN]


def gradient(run: Run, index: int) -> torch.Tensor:
    """Return the loss's gradient in front of block `index`, which is behind the block before it."""
    return run.workspace.read(GRADIENT, index)[GRADIENT]
