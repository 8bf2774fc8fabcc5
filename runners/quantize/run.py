"""Open one run: its model, texts, settings, folder and cache, once, for every stage."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from runners.quantize.cache import SensitivityCache, code_digest
from runners.quantize.checkpoint import Checkpoint, file_digest
from runners.quantize.device import MicroBatch, choose_device, computing_dtype, prepare_threads
from runners.quantize.executor import Local
from runners.quantize.footprint import Footprint
from runners.quantize.network import Network
from runners.quantize.profiling import Method
from runners.quantize.settings import Settings
from runners.quantize.workspace import Workspace

LIBRARIES = ("torch", "hqq", "transformers")


@dataclass(frozen=True, slots=True)
class Texts:
    """Names the calibration and the evaluation text; never the same file."""

    calibration: Path
    evaluation: Path


def narrowed(settings: Settings, checkpoint: Checkpoint) -> Settings:
    """Limit the window to the length that the model was made for."""
    limit = int(checkpoint.config.get("max_position_embeddings", settings.window))
    return replace(settings, window=min(settings.window, limit))


class Run:
    """Holds everything the stages need. The network is opened on first use, so that a cached answer needs none."""

    def __init__(
        self, model: Path, texts: Texts, settings: Settings, workspace: Workspace, cache: SensitivityCache
    ) -> None:
        self.checkpoint = Checkpoint.open(model)
        self.texts, self.workspace, self.cache = texts, workspace, cache
        self.settings = narrowed(settings, self.checkpoint)
        self.device = choose_device(settings.device)
        self.micro = MicroBatch(settings.micro_batch)
        prepare_threads(settings.threads)
        self.identity = self._identity()
        workspace.journal.begin(self.identity)
        if self.device.startswith("cuda"):
            workspace.reporter.vram_of = self._vram_of

    @cached_property
    def network(self) -> Network:
        return Network(self.checkpoint, self.device, computing_dtype(self.device))

    def _vram_of(self, stage: str) -> int:
        return Footprint(self.checkpoint, self.layers, self.settings).of(stage)

    @property
    def here(self) -> Local:
        """Return the executor of this process."""
        return Local(lambda: self.network)

    @property
    def method(self) -> Method:
        scored = tuple(b for b in self.settings.bits if b in self.settings.format.bits)
        return Method(self.settings.solver, self.settings.format, self.settings.group, scored)

    @property
    def block_count(self) -> int:
        return int(self.checkpoint.config["num_hidden_layers"])

    @cached_property
    def layers(self) -> list[str]:
        """Return every linear layer inside the blocks, in the model's order."""
        return [layer for index in range(self.block_count) for layer in self.network.linears(index)]

    def score_key(self) -> dict[str, Any]:
        """Return the inputs that decide a score, and nothing more."""
        names = ("storage", "solver", "group", "bits", "seed", "calibration_windows", "window", "threads")
        return {
            "model": self.identity["model"],
            "tokenizer": self.identity["tokenizer"],
            "calibration": self.identity["calibration"],
            "settings": {name: getattr(self.settings, name) for name in names},
            "device": self.device.split(":", maxsplit=1)[0],
            "libraries": self.identity["libraries"],
            "code": code_digest(),
        }

    def _identity(self) -> dict[str, Any]:
        libraries = {name: importlib.metadata.version(name) for name in LIBRARIES}
        return {
            "model": self.checkpoint.model_digest(),
            "tokenizer": self.checkpoint.tokenizer_digest(),
            "calibration": file_digest(self.texts.calibration),
            "evaluation": file_digest(self.texts.evaluation),
            "settings": self.settings.as_json(),
            "device": self.device,
            "libraries": libraries,
        }
