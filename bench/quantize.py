"""What bits cost on the embedded model: the source's pipeline beside ours at equal bytes, and which signal ranks.

    python bench/quantize.py --json bench/results/quantize.json     # 20 minutes of one core, 10 of them training, once

The model is `hsaq demo`'s, a toy of 1.4 M weights trained on the standard library's text; a seed draws the calibration
windows and the sampled labels. Nothing here says what an 8B model would do.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import torch
from _harness import Row, run

from runners.contract import Contract
from runners.quantize.allocation.problem import Allocation, Option, Problem
from runners.quantize.cache import SensitivityCache
from runners.quantize.cli import DEMO
from runners.quantize.demo.corpus import standard_library
from runners.quantize.demo.training import CALIBRATION_FILE, HELD_OUT_FILE, Recipe, trained
from runners.quantize.evaluation import final_hidden, no_overrides, window_losses
from runners.quantize.network import Weights
from runners.quantize.options import cache_folder
from runners.quantize.passes import input_statistics
from runners.quantize.profiling import scores_by
from runners.quantize.reporter import Reporter
from runners.quantize.run import Run, Texts
from runners.quantize.settings import Settings
from runners.quantize.stages.allocate import predicted, problem, solve
from runners.quantize.stages.calibrate import EVALUATION, calibrate, hidden, windows
from runners.quantize.stages.fork import profile_kl
from runners.quantize.stages.profile import profile
from runners.quantize.statistics import Interval, Paired, paired, rank_correlation
from runners.quantize.workspace import Workspace

BITS_PER_WEIGHT = (3.0, 3.25, 3.5, 4.0, 4.25)
SEEDS = (1, 2, 3)
WINDOWS, QUICK_WINDOWS = 64, 24
RANKED, RANKED_WINDOWS = 24, 32
SOURCE = replace(
    DEMO, storage="hqq", solver="hqq", signal="drift", allocator="greedy", bits=(2, 3, 4), fused=False
)
QUICK_RECIPE = Recipe(layers=2, steps=50)


@dataclass
class Lab:
    """One model under one settings: scored once, measured at any allocation."""

    run: Run
    count: int

    def __post_init__(self) -> None:
        self.rows = profile(self.run, self.run.here)
        calibrate(self.run, gradients=False)
        blocks = range(self.run.block_count)
        network, micro = self.run.network, self.run.micro
        self.statistics = [input_statistics(network, i, hidden(self.run, i), micro) for i in blocks]
        every = windows(self.run, EVALUATION)
        # Spread over the whole text, so that more windows are more modules.
        self.ids = every[torch.linspace(0, len(every) - 1, self.count).long()]
        self.baseline = window_losses(
            network, self.ids, final_hidden(network, self.ids, no_overrides, micro)
        ).nll

    def measure(self, bits: Mapping[str, int], count: int = 0) -> Paired:
        """The loss with these bits, paired with the model as it was."""
        network = self.run.network
        ids = self.ids[:count] if count else self.ids

        def overrides(index: int) -> Weights:
            statistics = self.statistics[index]
            return {
                name: self.run.method.solve(layer, weight, statistics[layer], [bits[layer]])
                .weights[0]
                .dequantized()
                for name, weight in network.weights(index).items()
                for layer in [name.removesuffix(".weight")]
            }

        losses = window_losses(network, ids, final_hidden(network, ids, overrides, self.run.micro))
        return paired(self.baseline[: len(ids)], losses.nll)

    def at(self, bits_per_weight: float) -> Allocation:
        """The allocator's answer at this size."""
        settings = self.run.settings
        self.run.settings = replace(settings, bits_per_weight=bits_per_weight)
        try:
            return solve(self.run, problem(self.run, self.rows, {}))
        finally:
            self.run.settings = settings


def lab(folder: Path, model: Path, settings: Settings, count: int) -> Lab:
    workspace = Workspace(folder, Reporter(Contract(), sys.stderr))
    texts = Texts(model / CALIBRATION_FILE, model / HELD_OUT_FILE)
    return Lab(Run(model, texts, settings, workspace, SensitivityCache(folder / "sensitivity.db")), count)


def same_size(posed: Problem, limit: int, count: int, seed: int) -> Iterator[dict[str, int]]:
    """Random allocations that fill the same bytes to half a percent: what an allocator really chooses among."""
    chance = random.Random(seed)
    while count:
        chosen = [chance.choice(unit.options) for unit in posed.units]
        order = list(range(len(chosen)))
        chance.shuffle(order)
        for index in order:
            chosen[index] = nearest(posed.units[index].options, chosen, index, limit)
        allocation = Allocation(posed, tuple(chosen), gap=None)
        if 0.995 * limit <= allocation.size_bytes <= limit:
            count -= 1
            yield allocation.bits


def nearest(options: Sequence[Option], chosen: Sequence[Option], index: int, limit: int) -> Option:
    """Leave a unit as it is while the total is below the limit; else the largest option that brings it there."""
    total = sum(option.size_bytes for option in chosen)
    if 0.995 * limit <= total <= limit:
        return chosen[index]
    others = total - chosen[index].size_bytes
    fitting = [option for option in options if others + option.size_bytes <= limit]
    return max(fitting or [min(options, key=lambda o: o.size_bytes)], key=lambda o: o.size_bytes)


def measure_seed(
    folder: Path, model: Path, seed: int, *, quick: bool
) -> tuple[list[Row], dict[str, list[Paired]]]:
    """Everything about one seed; uniform bits and the ranking once."""
    count = QUICK_WINDOWS if quick else WINDOWS
    source = lab(folder / f"source-{seed}", model, replace(SOURCE, seed=seed, evaluation_windows=0), count)
    ours = lab(folder / f"ours-{seed}", model, replace(DEMO, seed=seed, evaluation_windows=0), count)
    rows, kept = [], {}
    for size in BITS_PER_WEIGHT[::2] if quick else BITS_PER_WEIGHT:
        row, pair = compare(source, ours, size, seed)
        rows.append(row)
        kept[f"{size}"] = pair
    if seed == SEEDS[0]:
        rows += uniform_rows(source, ours)
    return [*rows, *ranking(folder, model, seed)] if seed == SEEDS[0] and not quick else rows, kept


def compare(source: Lab, ours: Lab, size: float, seed: int) -> tuple[Row, list[Paired]]:
    """The share of the source's increase that is left, both within the same bytes."""
    before, after = source.at(size), ours.at(size)
    old, new = source.measure(before.bits), ours.measure(after.bits)
    share = new.increase_percent.value / old.increase_percent.value
    most = 1 / 5 if size >= 3.5 else 1 / 2
    expected = predicted(after, ours.rows)["delta_nll"]
    row = Row(
        claim=f"seed {seed}, {size} bits a weight: share of the source's perplexity increase that is left",
        value=share,
        unit="x",
        goal=f"{most:.1f}",
        met=share <= most,
        peers={
            f"source: drift, greedy, HQQ ({before.size_bytes:,} bytes)": shown(old.increase_percent),
            f"ours: fisher, exact, GPTQ ({after.size_bytes:,} bytes)": shown(new.increase_percent),
            "ours: nats predicted, measured": f"{expected:.4f}, {new.delta_nll.value:.4f}",
            "ours: windows worse than the model as it was": f"{new.windows_worse.value:.0%}",
        },
        n=new.delta_nll.n,
    )
    return row, [old, new]


def uniform_rows(source: Lab, ours: Lab) -> list[Row]:
    """The same bits everywhere, each in its own storage."""
    peers: dict[str, float | str] = {}
    for name, one in (("HQQ", source), ("GPTQ", ours)):
        weights = sum(
            r * c for r, c in (one.run.checkpoint.tensors[f"{x}.weight"].shape for x in one.run.layers)
        )
        for bits in (3, 4):
            found = one.measure(dict.fromkeys(one.run.layers, bits))
            size = sum(
                one.run.settings.format.bytes_of(*one.run.checkpoint.tensors[f"{x}.weight"].shape, bits, 64)
                for x in one.run.layers
            )
            peers[f"{name}, {bits} bits, {8 * size / weights:.3f} a weight"] = shown(found.increase_percent)
    perplexity = fmean(ours.baseline)
    return [
        Row(
            "loss as it was, and uniform bits",
            perplexity,
            "nats",
            "",
            None,
            peers,
            len(ours.ids),
        )
    ]


def ranking(folder: Path, model: Path, seed: int) -> list[Row]:
    """Rank correlation of each signal's sum with the true loss, over allocations of one size in the source's format."""
    settings = replace(SOURCE, seed=seed, evaluation_windows=0, bits=(2, 3, 4, 8), kl_windows=2)
    one = lab(folder / f"rank-{seed}", model, settings, RANKED_WINDOWS)
    kl = profile_kl(one.run)
    one.run.settings = replace(one.run.settings, bits_per_weight=3.5)
    posed = problem(one.run, one.rows, kl)
    sampled = list(same_size(posed, posed.limit_bytes, RANKED, seed))
    truth = [one.measure(bits).delta_nll.value for bits in sampled]
    found: dict[str, float | str] = {}
    for signal in ("fisher", "kl", "imatrix", "drift"):
        scores = scores_by(signal, one.rows, kl)
        found[signal] = rank_correlation(
            [sum(scores[key] for key in bits.items()) for bits in sampled], truth
        )
    best = float(found["fisher"])
    claim = f"seed {seed}, 3.5 bits a weight, HQQ: rank correlation of Fisher's sum with the true loss"
    above = best > float(found["drift"])
    return [Row(claim, best, "", "above drift's", above, found, len(sampled))]


def shown(value: Interval) -> str:
    return f"{value.value:+.2f} % [{value.low:+.2f}, {value.high:+.2f}]"


def train(*, quick: bool) -> Path:
    recipe = QUICK_RECIPE if quick else Recipe()
    reporter = Reporter(Contract(), sys.stderr)
    reporter.stage("train", recipe.steps)
    return trained(
        cache_folder(), recipe, standard_library(), lambda _done, _all, text: reporter.step(0, text)
    )


def measure(quick: bool) -> list[Row]:
    torch.set_num_threads(1)
    rows: list[Row] = []
    kept: dict[str, list[list[Paired]]] = {}
    model = train(quick=quick)
    with tempfile.TemporaryDirectory() as folder:
        for seed in SEEDS[:1] if quick else SEEDS:
            found, pairs = measure_seed(Path(folder), model, seed, quick=quick)
            rows += found
            for size, pair in pairs.items():
                kept.setdefault(size, []).append(pair)
    return [*rows, *(together(size, pairs) for size, pairs in kept.items())]


def together(size: str, pairs: list[list[Paired]]) -> Row:
    """The mean over seeds."""
    old, new = (fmean(pair[side].increase_percent.value for pair in pairs) for side in (0, 1))
    most = 1 / 5 if float(size) >= 3.5 else 1 / 2
    claim = f"{size} bits a weight, mean over {len(pairs)} seeds: share of the source's increase that is left"
    peers: dict[str, float | str] = {"source": f"{old:+.2f} %", "ours": f"{new:+.2f} %"}
    return Row(claim, new / old, "x", f"{most:.1f}", new / old <= most, peers, len(pairs))


if __name__ == "__main__":
    raise SystemExit(run("quantize", measure))
