"""The VRAM that a stage asks for, from shapes alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from runners.quantize.footprint import STAGES, Footprint

if TYPE_CHECKING:
    from quantize_world import World


def test_a_stage_asks_for_what_it_holds(world: World, tmp_path: Path) -> None:
    """At least embedding, head and one block in 16 bits; what needs no device asks for nothing."""
    with world.run(tmp_path) as run:
        footprint = Footprint(run.checkpoint, run.layers, run.settings)
        tensors = run.checkpoint.read(run.network.block_tensors(0)).values()
        block = sum(t.nbytes for t in tensors if t.ndim == 2)
        resident = run.checkpoint.read(["model.embed_tokens.weight"])["model.embed_tokens.weight"].nbytes
        assert all(footprint.of(stage) > block + resident for stage in STAGES)
        assert footprint.of("evaluate-noop") == footprint.of("evaluate-baseline")
        assert [footprint.of(stage) for stage in ("tokens", "train")] == [0, 0]
        assert footprint.most == footprint.of("profile")
        fewer = replace(run.settings, bits=(4,), micro_batch=1)
        assert Footprint(run.checkpoint, run.layers, fewer).most < footprint.most


def test_a_run_on_a_gpu_asks_before_each_stage(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one on a CPU takes none and says so."""
    with world.run(tmp_path / "cpu") as run:
        assert run.workspace.reporter.vram_of("profile") == 0
    monkeypatch.setattr("runners.quantize.run.choose_device", lambda _: "cuda")
    monkeypatch.setattr("runners.quantize.run.Run.layers", ["model.layers.0.self_attn.q_proj"])
    with world.run(tmp_path / "cuda") as run:
        assert run.workspace.reporter.vram_of("profile") > run.workspace.reporter.vram_of("hidden") > 0
