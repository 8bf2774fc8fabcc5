"""Where the bytes go, and what a ceiling leaves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from runners.quantize import sizes
from runners.quantize.checkpoint import Checkpoint, TensorShape
from runners.quantize.fault import BudgetError, CheckpointError, PreflightError
from runners.quantize.options import size
from runners.quantize.preflight import preflight
from runners.quantize.settings import GIB, Memory, Settings
from runners.quantize.storage import HQQ

LAYERS = 40
HIDDEN, FEED_FORWARD, VOCABULARY = 4096, 12800, 49159


def granite() -> Checkpoint:
    """granite-3.3-8b by its published shapes: 40 blocks, 8 key-value heads of 128, tied embeddings."""
    parts = {
        "self_attn.q_proj": (HIDDEN, HIDDEN), "self_attn.k_proj": (1024, HIDDEN), "self_attn.v_proj": (1024, HIDDEN),
        "self_attn.o_proj": (HIDDEN, HIDDEN), "mlp.gate_proj": (FEED_FORWARD, HIDDEN),
        "mlp.up_proj": (FEED_FORWARD, HIDDEN), "mlp.down_proj": (HIDDEN, FEED_FORWARD),
    }  # fmt: skip
    shapes: dict[str, tuple[int, ...]] = {
        f"model.layers.{i}.{part}.weight": shape for i in range(LAYERS) for part, shape in parts.items()
    }
    shapes |= {"model.embed_tokens.weight": (VOCABULARY, HIDDEN), "model.norm.weight": (HIDDEN,)}
    config = {
        "num_hidden_layers": LAYERS, "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_size": HIDDEN,
        "max_position_embeddings": 131072,
    }  # fmt: skip
    return Checkpoint(Path("/none"), config, {n: TensorShape(n, s, "BF16", "") for n, s in shapes.items()})


def layers_of(checkpoint: Checkpoint) -> list[str]:
    return [name.removesuffix(".weight") for name in checkpoint.tensors if "_proj" in name]


@pytest.mark.parametrize(("bits", "gigabytes"), [(2, 2.490), (3, 3.686), (4, 4.483), (8, 8.467)])
def test_an_8b_model_s_layers_take_what_hqq_takes(bits: int, gigabytes: float) -> None:
    """Not what a factor of 1.065 says: that is short by a sixth at 3 bits."""
    checkpoint = granite()
    total = sum(sizes.layer_bytes(checkpoint, HQQ, layer, bits, 64) for layer in layers_of(checkpoint))
    assert total / 1e9 == pytest.approx(gigabytes, abs=0.0006)


def test_an_8b_model_fits_12_gb_at_8_bits() -> None:
    """The ceiling, not the card, is what makes 3 bits necessary; the plan says what it leaves."""
    checkpoint = granite()
    layers = layers_of(checkpoint)
    memory = Memory(ceiling_bytes=12 * GIB)
    items = sizes.itemise(checkpoint, layers, 0, memory)
    assert items.key_value_cache == 8192 * 160 * 1024
    assert items.head == 0
    assert items.embedding == 2 * VOCABULARY * HIDDEN
    left = sizes.limit_bytes(checkpoint, layers, Settings(memory=memory))
    assert left == 12 * GIB - items.total
    eight = sum(sizes.layer_bytes(checkpoint, HQQ, layer, 8, 64) for layer in layers)
    assert eight < left
    said = sizes.plainly(items, memory.ceiling_bytes, sizes.parameters(checkpoint, layers))
    assert said.endswith(f"leave {left:,}: 10.32 bits a weight")


def test_what_is_asked_for_is_counted() -> None:
    """Context, batch and adapters each take their bytes; what is more than the ceiling is refused with the sum."""
    checkpoint = granite()
    layers = layers_of(checkpoint)
    base = sizes.itemise(checkpoint, layers, 0, Memory(12 * GIB))
    twice = sizes.itemise(checkpoint, layers, 0, Memory(12 * GIB, batch=2))
    assert twice.key_value_cache == 2 * base.key_value_cache
    adapters = sizes.itemise(checkpoint, layers, 0, Memory(12 * GIB, lora_rank=16))
    assert adapters.lora == LAYERS * 2 * 16 * (2 * 8192 + 2 * 5120 + 3 * (HIDDEN + FEED_FORWARD))
    with pytest.raises(BudgetError, match="shorten --context or raise it"):
        sizes.limit_bytes(checkpoint, layers, Settings(memory=Memory(12 * GIB, context=131072)))


def test_the_plan_of_an_8b_model_is_made_from_shapes_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Layers, bytes possible and largest layer, before anything is read."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10**12))
    checkpoint = granite()
    settings = replace(Settings(), memory=Memory(12 * GIB), calibration_windows=8)
    plan = preflight(checkpoint, layers_of(checkpoint), settings, tmp_path / "not" / "there")
    assert plan.layers == 280
    assert plan.largest_layer.endswith(("gate_proj", "up_proj", "down_proj"))
    assert plan.least_bytes < plan.layers_limit_bytes <= plan.most_bytes
    assert any("280 linear layers" in line for line in plan.lines())
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10**9))
    with pytest.raises(PreflightError, match="choose another --work or fewer --calibration-windows"):
        preflight(checkpoint, layers_of(checkpoint), settings, tmp_path)


def test_a_mixture_whose_experts_lie_apart_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mixtral's files, which transformers stacks on loading: its attention alone would look like a whole model."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10**12))
    checkpoint = granite()
    name = "model.layers.0.block_sparse_moe.experts.0.w1.weight"
    mixture = replace(
        checkpoint, tensors={**checkpoint.tensors, name: TensorShape(name, (64, 64), "BF16", "")}
    )
    with pytest.raises(PreflightError, match=r"experts.0.w1.weight: .* choose a dense model"):
        preflight(mixture, layers_of(checkpoint), Settings(bits_per_weight=4.0), tmp_path)
    stacked = TensorShape("model.layers.0.mlp.experts.down_proj", (8, 64, 64), "BF16", "")
    kept = replace(checkpoint, tensors={**checkpoint.tensors, stacked.name: stacked})
    plan = preflight(
        kept, layers_of(checkpoint), Settings(bits_per_weight=4.0, calibration_windows=1), tmp_path
    )
    assert plan.unquantized == (stacked.name,)


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F4", "C64"])
@pytest.mark.parametrize(
    "name", ["model.embed_tokens.weight", "model.layers.3.mlp.up_proj.weight", "x.weight_scale"]
)
def test_a_dtype_that_cannot_be_read_is_refused_in_the_plan(name: str, dtype: str, tmp_path: Path) -> None:
    """Float8 was once a KeyError; the tensor, its dtype and the fix are named, before any work."""
    checkpoint = granite()
    strange = TensorShape(name, (64, 64), dtype, "")
    broken = replace(checkpoint, tensors={**checkpoint.tensors, name: strange})
    with pytest.raises((PreflightError, CheckpointError), match=f"{name}: dtype {dtype} .* original weights"):
        preflight(broken, layers_of(checkpoint), Settings(bits_per_weight=4.0), tmp_path)


def test_integers_are_no_weights_of_a_layer(tmp_path: Path) -> None:
    """They were quantized by somebody else; as masks and counters beside the layers they are welcome."""
    checkpoint = granite()
    name = "model.layers.0.mlp.up_proj.weight"
    packed = TensorShape(name, (FEED_FORWARD, HIDDEN), "I8", "")
    with pytest.raises(PreflightError, match="dtype I8 is quantized already"):
        preflight(
            replace(checkpoint, tensors={**checkpoint.tensors, name: packed}),
            layers_of(checkpoint), Settings(bits_per_weight=4.0), tmp_path,
        )  # fmt: skip
    assert sizes.tensor_bytes(TensorShape("mask", (2, 3), "BOOL", "")) == 6


def test_sizes_are_read_as_people_write_them() -> None:
    """Powers of two and of ten are not the same."""
    assert [size(text) for text in ("12GiB", "800MB", "1048576", "1.5 GiB")] == [
        12 * GIB, 800_000_000, 1 << 20, 3 * GIB // 2,
    ]  # fmt: skip


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    """Each with the file and the fix."""
    with pytest.raises(CheckpointError, match=r"config.json: there is no such file"):
        Checkpoint.open(tmp_path)
    config = tmp_path / "config.json"
    config.write_text("{")
    with pytest.raises(CheckpointError, match="not JSON"):
        Checkpoint.open(tmp_path)
    config.write_text(json.dumps({}))
    with pytest.raises(CheckpointError, match=r"no \*.safetensors here"):
        Checkpoint.open(tmp_path)
    shard = tmp_path / "model.safetensors"
    header = json.dumps({"x": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    shard.write_bytes(len(header).to_bytes(8, "little") + header + b"12")
    with pytest.raises(CheckpointError, match="cut short"):
        Checkpoint.open(tmp_path)
    shard.write_bytes(len(header).to_bytes(8, "little") + header + b"1234")
    assert Checkpoint.open(tmp_path).tensors["x"].shape == (2,)
    config.write_text(json.dumps({"quantization_config": {}}))
    with pytest.raises(CheckpointError, match="quantized already"):
        Checkpoint.open(tmp_path)
