"""Faults planted in a run, each of which a control must catch: a quantizer that lies quietly is worse than none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import apsw
import pytest
import torch
from safetensors.torch import load_file, save_file

from runners.quantize import manifest
from runners.quantize.cache import key_of
from runners.quantize.evaluation import WindowLosses
from runners.quantize.export.compressed import read_back
from runners.quantize.export.exporting import check_equal
from runners.quantize.fault import ControlError, ExportError, StaleError
from runners.quantize.network import Network
from runners.quantize.pipeline import run_all
from runners.quantize.run import Run
from runners.quantize.stages.evaluate import baseline, check_noop, check_positive, check_tokenizer, evaluate
from runners.quantize.stages.profile import StateFile
from runners.quantize.stages.quantize import CODES, SCALE, QuantizedBlocks
from runners.quantize.states import write_durably

if TYPE_CHECKING:
    from collections.abc import Iterator

    from quantize_world import World


LAYER = "model.layers.1.mlp.down_proj"


@pytest.fixture(scope="module")
def finished(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("faults")
    with world.run(work) as run:
        run_all(run, run.here)
    return work


@pytest.fixture
def run(finished: Path, world: World) -> Iterator[Run]:
    with world.run(finished) as opened:
        yield opened


def blocks_of(run: Run, finished: Path) -> QuantizedBlocks:
    layers = manifest.read(finished)["layers"]
    return QuantizedBlocks.of(run, {layer: values["bits"] for layer, values in layers.items()})


def replaced(
    blocks: QuantizedBlocks, index: int, tensors: dict[str, torch.Tensor], folder: Path
) -> QuantizedBlocks:
    """The same blocks with one file changed in a way that its digest cannot tell: the fault is in what wrote it."""
    file = StateFile(folder / "changed.safetensors", write_durably(folder / "changed.safetensors", tensors))
    files = {**blocks._files, index: file}
    return QuantizedBlocks(folder, files, blocks._method, blocks.bits)


def test_a_layer_silently_not_quantized(run: Run, finished: Path, tmp_path: Path) -> None:
    """It has 16 bits in the file where the manifest gives it fewer; or is in no file at all."""
    blocks = blocks_of(run, finished)
    tensors = load_file(run.workspace.path("quantize", 1))
    others = {name: t for name, t in tensors.items() if not name.startswith(LAYER)}
    weight = run.network.weights(1)[f"{LAYER}.weight"].bfloat16()
    with pytest.raises(ControlError, match=r"down_proj: it was to have \d bits and was left as it is"):
        replaced(blocks, 1, {**others, f"{LAYER}.weight": weight}, tmp_path).check(run.network)
    with pytest.raises(ControlError, match="down_proj: it is in no file"):
        replaced(blocks, 1, others, tmp_path).check(run.network)
    found = read_back(finished / "export/compressed-tensors", run.settings.format, blocks.bits, 64)
    with pytest.raises(ExportError, match="not in the export as a quantized module"):
        check_equal(run, blocks, (pair for pair in found if pair[0] != LAYER))


def test_scales_of_another_layer(run: Run, finished: Path, tmp_path: Path) -> None:
    """Swapped between rows they make another weight; the check of the stage and of the export both see it."""
    blocks = blocks_of(run, finished)
    tensors = load_file(run.workspace.path("quantize", 1))
    swapped = {**tensors, f"{LAYER}.{SCALE}": -tensors[f"{LAYER}.{SCALE}"].flip(0)}
    wrong = replaced(blocks, 1, swapped, tmp_path)
    with pytest.raises(ControlError, match="scales or zeros are of another"):
        wrong.check(run.network)
    folder = finished / "export/compressed-tensors"
    with pytest.raises(ExportError, match="down_proj: the exported weight is not the one that was evaluated"):
        check_equal(run, wrong, read_back(folder, run.settings.format, blocks.bits, 64))


def test_codes_that_do_not_fit_their_bits(run: Run, finished: Path, tmp_path: Path) -> None:
    """Packing would spill them into their neighbours."""
    tensors = load_file(run.workspace.path("quantize", 1))
    tensors[f"{LAYER}.{CODES}"][0, 0] = 255
    with pytest.raises(ControlError, match="codes do not fit"):
        replaced(blocks_of(run, finished), 1, tensors, tmp_path).check(run.network)


def test_an_export_changed_on_the_disk(run: Run, finished: Path) -> None:
    """One packed word, and the module is named."""
    file = finished / "export/compressed-tensors/model-block-0001.safetensors"
    kept, tensors = file.read_bytes(), load_file(file)
    tensors[f"{LAYER}.weight_packed"][0, 0] ^= 1
    save_file(tensors, file)
    try:
        found = read_back(file.parent, run.settings.format, blocks_of(run, finished).bits, 64)
        with pytest.raises(ExportError, match="down_proj: the exported weight is not"):
            check_equal(run, blocks_of(run, finished), found)
    finally:
        file.write_bytes(kept)


def test_an_evaluation_that_ignores_the_weights(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The positive control sees that damage leaves no trace."""
    own = Network.block
    monkeypatch.setattr(Network, "block", lambda self, index, _overrides=None: own(self, index))
    losses = evaluate(run, "evaluate-blind", lambda _: {}, 8)
    with pytest.raises(ControlError, match="the evaluation does not see the weights"):
        check_positive(run, LAYER, losses)


def test_a_pipeline_that_changes_the_model(run: Run) -> None:
    """The no-op control sees a fifth digit's worth of loss."""
    held = baseline(run)
    check_noop(run, held)
    with pytest.raises(ControlError, match="no-op control"):
        check_noop(run, WindowLosses(tuple(loss + 1e-5 for loss in held.nll)))


def test_a_tokenizer_that_is_another_s(run: Run) -> None:
    """Losses no better than frequencies alone mean that ids and embedding do not belong together."""
    with pytest.raises(ControlError, match="the tokenizer or the text"):
        check_tokenizer(run, WindowLosses((8.0, 8.0)))


@pytest.mark.parametrize(
    ("change", "where"),
    [("fisher = fisher * 2", "an altered figure"), ("key = 'moved'", "a row of another key")],
)
def test_a_stale_cache_row(change: str, where: str, run: Run, finished: Path) -> None:
    """Altered, or moved to the key of another model: each row vouches for itself."""
    assert where
    held = run.cache.get(run.score_key())
    connection = apsw.Connection(str(finished / "sensitivity.db"))
    connection.pragma("foreign_keys", 0)
    connection.execute("BEGIN")
    try:
        connection.execute(f"UPDATE score SET {change} WHERE layer = ? AND bits = 3", (LAYER,))  # noqa: S608
        key = {"moved": True} if "moved" in change else run.score_key()
        if "moved" in change:
            connection.execute("UPDATE score SET key = ? WHERE key = 'moved'", (key_of(key),))
        connection.execute("COMMIT")
        with pytest.raises(StaleError, match="down_proj at 3 bits is not what was measured"):
            run.cache.get(key)
    finally:
        connection.execute("DELETE FROM score WHERE layer = ? AND bits = 3", (LAYER,))
        connection.close()
        run.cache.put(run.score_key(), [held[LAYER, 3]])


def test_scores_are_not_shared_between_what_differs(run: Run) -> None:
    """Every part of a key makes another one."""
    key = run.score_key()
    assert run.cache.get(key)
    for part in key:
        assert run.cache.get({**key, part: "other"}) == {}
