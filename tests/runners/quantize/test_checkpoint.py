"""Which files of a folder are the model: as transformers takes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runners.quantize.checkpoint import Checkpoint
from runners.quantize.fault import CheckpointError

torch = pytest.importorskip("torch")
INDEX = "model.safetensors.index.json"


def write(folder: Path, file: str, *names: str) -> None:
    from safetensors.torch import save_file  # noqa: PLC0415 - after the import that may skip

    save_file({name: torch.zeros(2) for name in names}, folder / file)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model of two shards and their index."""
    (tmp_path / "config.json").write_text("{}")
    files = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    for name, file in files.items():
        write(tmp_path, file, name)
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": files}))
    return tmp_path


@pytest.mark.parametrize("extra", ["consolidated.safetensors", "adapter_model.safetensors", "a.safetensors"])
def test_what_the_index_does_not_name_is_left_alone(folder: Path, extra: str) -> None:
    """Neither its tensors nor its bytes count, in the shapes or in the digest."""
    digest = Checkpoint.open(folder).model_digest()
    write(folder, extra, "a", "layers.0")
    found = Checkpoint.open(folder)
    assert {t.file for t in found.tensors.values()} == {
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    }
    assert found.model_digest() == digest


def test_one_whole_file_is_the_model(folder: Path) -> None:
    """Transformers looks for it before it looks for an index."""
    write(folder, "model.safetensors", "whole")
    assert set(Checkpoint.open(folder).tensors) == {"whole"}


def test_without_an_index_every_file_counts(folder: Path) -> None:
    (folder / INDEX).unlink()
    write(folder, "block-0001.safetensors", "c")
    assert set(Checkpoint.open(folder).tensors) == {"a", "b", "c"}


def test_a_file_that_the_index_names_is_missed(folder: Path) -> None:
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model-00002-of-00002\.safetensors: missing"):
        Checkpoint.open(folder)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"weight_map": []}',
        '{"weight_map": {"a": 1}}',
        '{"weight_map": {"a": "../b.safetensors"}}',
    ],
)
def test_a_broken_index_is_named(folder: Path, text: str) -> None:
    (folder / INDEX).write_text(text)
    with pytest.raises(CheckpointError, match=INDEX):
        Checkpoint.open(folder)
