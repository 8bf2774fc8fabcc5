"""The whole run on a tiny trained model: what it promises, and that it promises the same again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import gguf
import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM

from runners.quantize import manifest
from runners.quantize.evaluation import final_hidden
from runners.quantize.export import gguf_file, llama_quantize
from runners.quantize.fault import StaleError
from runners.quantize.network import Network
from runners.quantize.passes import score
from runners.quantize.pipeline import plan, run_all
from runners.quantize.stages.calibrate import CALIBRATION, EVALUATION, calibrate, gradient, hidden, windows
from runners.quantize.stages.quantize import QuantizedBlocks
from runners.quantize.storage import GGUF, HQQ, WITH_ZEROS, Storage

if TYPE_CHECKING:
    from quantize_world import World


@pytest.fixture(scope="module")
def finished(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run from beginning to end."""
    work = tmp_path_factory.mktemp("finished")
    with world.run(work) as run:
        run_all(run, run.here)
    return work


def test_the_manifest_says_what_the_export_holds(finished: Path) -> None:
    """Predicted bytes are the exported tensors' bytes exactly, and every quantized module was read back."""
    found = manifest.read(finished)
    total = 0
    for file in (finished / "export/compressed-tensors").glob("*.safetensors"):
        with safe_open(file, "pt") as tensors:
            total += sum(t.numel() * t.element_size() for t in map(tensors.get_tensor, tensors.keys()))
    assert total == found["budget"]["weights"]
    assert found["budget"]["layers"] <= found["budget"]["limit_layers"]
    assert found["exports"]["compressed-tensors"]["modules"] == len(found["layers"]) == 14
    assert found["controls"]["noop"]["baseline"] == pytest.approx(found["controls"]["noop"]["noop"], abs=5e-5)
    assert found["controls"]["positive"]["kl"]["low"] > 1e-5
    assert found["measured"]["perplexity"] > found["measured"]["baseline_perplexity"]


def test_transformers_loads_the_export_with_the_same_logits(finished: Path, world: World) -> None:
    """Through its own compressed-tensors loader, in bfloat16 on the CPU: every module packed, logits within 1e-3."""
    loaded = AutoModelForCausalLM.from_pretrained(
        finished / "export/compressed-tensors", dtype=torch.bfloat16
    )
    packed = [n for n, _ in loaded.named_parameters() if n.endswith(".weight_packed")]
    bits = {name: values["bits"] for name, values in manifest.read(finished)["layers"].items()}
    assert sorted(n.removesuffix(".weight_packed") for n in packed) == sorted(bits)
    with world.run(finished) as run, torch.no_grad():
        ids = windows(run, EVALUATION)[:2]
        theirs = loaded(ids).logits
        network = Network(run.checkpoint, "cpu", torch.bfloat16)
        ours = network.logits(final_hidden(network, ids, QuantizedBlocks.of(run, bits).overrides, run.micro))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-3)


def test_a_second_run_makes_the_same_bytes(finished: Path, world: World, tmp_path: Path) -> None:
    """In another folder, without the first one's cache; and again in the same, where nothing is left to do."""
    first = (finished / "manifest.json").read_bytes()
    with world.run(tmp_path) as run:
        run_all(run, run.here)
    assert (tmp_path / "manifest.json").read_bytes() == first
    with world.run(tmp_path) as run:
        run_all(run, run.here)
    assert (tmp_path / "manifest.json").read_bytes() == first


def test_a_plan_from_the_cache_does_no_forward_pass(
    finished: Path, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another folder, another size, the same scores: only numbers are looked up."""

    def refuse(*_: object, **__: object) -> None:
        pytest.fail("a forward pass was done")

    monkeypatch.setattr(Network, "embed", refuse)
    monkeypatch.setattr(Network, "run", refuse)
    with world.run(tmp_path, cache=finished / "sensitivity.db", bits_per_weight=3.0) as run:
        smaller = plan(run, run.here).allocation
    assert smaller.size_bytes < manifest.read(finished)["budget"]["layers"]


def test_a_folder_is_not_reused_for_other_settings(finished: Path, world: World) -> None:
    """Nor for another tokenizer or text: their digests are part of the run."""
    with pytest.raises(StaleError, match="settings was"), world.run(finished, seed=2):
        pass


def test_a_damaged_unit_is_made_anew(finished: Path, world: World) -> None:
    """One flipped bit in a block's file, and the run mends it with the same result."""
    before = (finished / "manifest.json").read_bytes()
    file = finished / "quantize/0001.safetensors"
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    with world.run(finished) as run:
        run_all(run, run.here)
    assert (finished / "manifest.json").read_bytes() == before
    assert file.read_bytes() != bytes(content)


@pytest.mark.parametrize("storage", [HQQ, GGUF, WITH_ZEROS], ids=lambda s: s.name)
def test_the_other_formats_hold_what_was_evaluated(storage: Storage, world: World, tmp_path: Path) -> None:
    """Each read back by its own package, bit for bit; `export_and_check` refuses anything else."""
    solver = "hqq" if storage is HQQ else "gptq"
    bits = tuple(b for b in (2, 4, 8) if b in storage.bits)
    with world.run(
        tmp_path, storage=storage.name, solver=solver, group=storage.group, bits=bits, bits_per_weight=5.5
    ) as run:
        found = manifest.read(run_all(run, run.here))
    assert found["exports"][storage.name]["modules"] == 14


def test_transformers_loads_the_gguf_with_the_same_logits(world: World, tmp_path: Path) -> None:
    """Its GGUF loader dequantizes and undoes the row order; logits agree to what bfloat16 and float32 differ by."""
    with (
        world.run(tmp_path, storage="gguf", group=32, bits=(4, 5, 8), bits_per_weight=6.0) as run,
        torch.no_grad(),
    ):
        found = manifest.read(run_all(run, run.here))
        bits = {name: values["bits"] for name, values in found["layers"].items()}
        ids = windows(run, EVALUATION)[:2]
        blocks = QuantizedBlocks.of(run, bits)
        ours = run.network.logits(final_hidden(run.network, ids, blocks.overrides, run.micro))
        folder = tmp_path / "export/gguf"
        theirs = AutoModelForCausalLM.from_pretrained(folder, gguf_file="model.gguf", dtype=torch.float32)(
            ids
        ).logits
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-2)


def test_each_export_brings_the_plan_for_llama_cpp(finished: Path, world: World) -> None:
    """A type for each tensor; mean squares of every layer's inputs, as the whole model has them."""
    folder = finished / "export/compressed-tensors/llama.cpp"
    lines = (folder / llama_quantize.TYPES_FILE).read_text().splitlines()
    bits = [values["bits"] for values in manifest.read(finished)["layers"].values()]
    assert sorted(line.partition("=")[2] for line in lines) == sorted(llama_quantize.NEAREST[b] for b in bits)
    assert all(line.startswith("blk.") for line in lines)
    with world.run(finished) as run:
        assert_imatrix_is_of(folder / llama_quantize.IMATRIX_FILE, world.model, windows(run, CALIBRATION))


def assert_imatrix_is_of(path: Path, model: Path, ids: torch.Tensor) -> None:
    """Against the whole model's forward pass; and it has the fields that llama-quantize insists on."""
    whole = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    seen: dict[str, torch.Tensor] = {}

    def keeping(name: str) -> Callable[..., None]:
        return lambda _, inputs, __: seen.update({name: inputs[0].square().mean((0, 1))})

    for name, module in whole.named_modules():
        if name.endswith("_proj"):
            module.register_forward_hook(keeping(gguf_file.tensor_name(f"{name}.weight")))
    whole(ids)
    found = llama_quantize.read_imatrix(path)
    assert found.keys() == seen.keys()
    for name, power in found.items():
        torch.testing.assert_close(power, seen[name], rtol=1e-3, atol=1e-6)
    fields = gguf.GGUFReader(path).fields
    assert fields["general.type"].contents() == "imatrix"
    assert (fields["imatrix.chunk_count"].contents(), fields["imatrix.chunk_size"].contents()) == ids.shape
    assert len(fields["imatrix.datasets"].contents()) == 1


def test_scores_are_those_of_the_whole_model(world: World, tmp_path: Path) -> None:
    """Streaming block by block gives the Fisher scores of one backward pass through everything."""
    with world.run(tmp_path, bits=(3,), calibration_windows=2) as run:
        calibrate(run)
        ids = windows(run, CALIBRATION)
        layers = [run.network.linears(index)[-1] for index in range(run.block_count)]
        expected = scores_of_the_whole_model(world.model, layers, ids)
        for index, layer in enumerate(layers):
            change = torch.ones(run.checkpoint.tensors[f"{layer}.weight"].shape)
            states = hidden(run, index), gradient(run, index + 1)
            found = score(run.network, index, *states, {(layer, 3): change}, run.micro)[layer, 3]
            assert found.tokens == ids.numel()
            assert found.fisher == pytest.approx(expected[layer], rel=1e-4)


def scores_of_the_whole_model(model: Path, layers: list[str], ids: torch.Tensor) -> dict[str, float]:
    """Half the mean of (gradient x change of the output) squared, for a change of 1 in every weight."""
    whole = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    seen: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def keeping(name: str) -> Callable[..., None]:
        def keep(_: object, inputs: tuple[torch.Tensor], out: torch.Tensor) -> None:
            out.retain_grad()
            seen[name] = inputs[0].detach(), out

        return keep

    for name in layers:
        whole.get_submodule(name).register_forward_hook(keeping(name))
    logits = whole(ids).logits.float()
    chances = torch.softmax(logits.detach(), -1)
    generators = [torch.Generator().manual_seed(1_000_003 + window) for window in range(len(ids))]
    labels = [torch.multinomial(c, 1, generator=g)[:, 0] for c, g in zip(chances, generators, strict=True)]
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.cat(labels), reduction="sum")
    loss.backward()
    change = {name: inputs.sum(-1, keepdim=True) for name, (inputs, _) in seen.items()}
    return {
        n: float((out.grad.square() * change[n].square()).sum()) / (2 * ids.numel())
        for n, (_, out) in seen.items()
    }


def test_the_manifest_is_sorted_json(finished: Path) -> None:
    """So that a text diff of two runs is readable."""
    text = (finished / "manifest.json").read_text()
    assert text == json.dumps(json.loads(text), indent=1, sort_keys=True) + "\n"
