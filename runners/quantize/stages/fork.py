"""The KL signal as a stage: one commit a block, the forks in flight kept in its file."""

from __future__ import annotations

from typing import Final

from runners.quantize.cache import nine_digits
from runners.quantize.forks import divergences, parse_fork, through_block
from runners.quantize.network import Network
from runners.quantize.run import Run
from runners.quantize.stages.calibrate import calibrate, hidden
from runners.quantize.workspace import Made

FORKS: Final = "forks"


def profile_kl(run: Run) -> dict[tuple[str, int], float]:
    """KL divergence of each layer at each number of bits; from the cache if it is there."""
    key = {**run.score_key(), "kl_windows": run.settings.kl_windows}
    held = run.cache.get_kl(key)
    if held:
        return held
    calibrate(run, gradients=False)
    run.workspace.tensor_stage(FORKS, range(run.block_count), lambda net, i: _carry(run, net, i), run.here)
    forks = run.workspace.read(FORKS, run.block_count - 1)
    reference = hidden(run, run.block_count)[: run.settings.kl_windows]
    found = divergences(run.network, reference, forks)
    run.cache.put_kl(key, {parse_fork(name): nine_digits(value) for name, value in found.items()})
    return run.cache.get_kl(key)


def _carry(run: Run, network: Network, index: int) -> Made:
    forks = run.workspace.read(FORKS, index - 1) if index else {}
    calibration = hidden(run, index)
    mine = calibration[: run.settings.kl_windows]
    return through_block(network, index, mine, calibration, forks, run.method, run.micro), ()
