"""What the quantizer's tests share: a tiny trained model, and runs on it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from runners.contract import Contract
from runners.quantize.cache import SensitivityCache
from runners.quantize.demo.corpus import Corpus, standard_library
from runners.quantize.demo.training import CALIBRATION_FILE, HELD_OUT_FILE, Recipe, trained
from runners.quantize.reporter import Reporter
from runners.quantize.run import Run, Texts
from runners.quantize.settings import Settings
from runners.quantize.workspace import Workspace

TINY = Recipe(
    vocabulary=512,
    hidden=64,
    feed_forward=128,
    layers=2,
    heads=2,
    key_value_heads=1,
    context=64,
    batch=8,
    steps=120,
)
QUICK = Settings(
    bits_per_weight=3.5,
    window=64,
    calibration_windows=6,
    evaluation_windows=24,
    kl_windows=1,
    bits=(2, 3, 4, 8),
)


def train_tiny(cache: Path, recipe: Recipe = TINY) -> Path:
    torch.set_num_threads(1)
    whole = standard_library()
    corpus = Corpus(whole.train[:24], whole.held_out[:2], "tiny")
    return trained(cache, recipe, corpus, lambda *_: None)


@dataclass
class World:
    model: Path

    @property
    def texts(self) -> Texts:
        return Texts(self.model / CALIBRATION_FILE, self.model / HELD_OUT_FILE)

    @contextmanager
    def run(self, work: Path, settings: Settings = QUICK, **changes: Any) -> Iterator[Run]:
        """A run in its own folder, with a cache of its own beside it unless `cache` names one."""
        cache_file = changes.pop("cache", work / "sensitivity.db")
        model = changes.pop("model", self.model)
        workspace = Workspace(work, Reporter(Contract(), io.StringIO()))
        cache = SensitivityCache(cache_file)
        try:
            yield Run(model, self.texts, replace(settings, **changes), workspace, cache)
        finally:
            cache.close()
            workspace.close()
