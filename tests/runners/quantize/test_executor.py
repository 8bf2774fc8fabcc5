"""Blocks worked on elsewhere: the same bytes come back."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from runners.quantize.executor import RayTasks
from runners.quantize.fault import SettingsError
from runners.quantize.pipeline import plan
from runners.quantize.stages.quantize import QuantizedBlocks, quantize

if TYPE_CHECKING:
    from quantize_world import World

HAS_RAY = importlib.util.find_spec("ray") is not None


@pytest.mark.slow
@pytest.mark.skipif(not HAS_RAY, reason="ray is not installed")
@pytest.mark.filterwarnings("ignore")
def test_ray_makes_what_one_process_makes(world: World, tmp_path: Path) -> None:
    """Scores and quantized blocks, byte for byte, whichever worker did which block."""
    made = []
    for name in ("local", "ray"):
        with world.run(tmp_path / name) as run:
            executor = RayTasks(world.model, "cpu", 1, 2) if name == "ray" else run.here
            planned = plan(run, executor)
            quantize(run, planned.allocation.bits, executor)
            blocks = QuantizedBlocks.of(run, planned.allocation.bits)
            made.append((planned.rows, planned.allocation.bits, blocks.digests()))
            if isinstance(executor, RayTasks):
                executor.close()
    assert made[0] == made[1]


@pytest.mark.skipif(HAS_RAY, reason="ray is installed")
def test_without_ray_the_fix_is_said(world: World) -> None:
    """The extra's name, not an ImportError."""
    with pytest.raises(SettingsError, match=r"pip install 'epad\[quantize,ray\]'"):
        RayTasks(world.model, "cpu", 1, 2)
