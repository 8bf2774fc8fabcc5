"""An 8B-shaped Llama of random weights, streamed through profile and quantize under a cap of 12 GB of GPU memory.

    python bench/quantize_gpu.py --json bench/results/quantize_gpu.json     # needs a GPU and 20 GB of disk

Without a GPU, or with --quick, the same code runs on a tiny shape: that shows only that it runs.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

import torch
from _harness import Row, run
from safetensors.torch import save_file
from transformers import LlamaConfig

from runners.quantize.checkpoint import Checkpoint
from runners.quantize.device import MicroBatch, computing_dtype, peak_bytes, prepare_threads
from runners.quantize.network import Network
from runners.quantize.passes import backward, forward, head_gradient
from runners.quantize.profiling import Method, profile_block
from runners.quantize.solvers.hqq import Hqq
from runners.quantize.solvers.solver import InputStatistics
from runners.quantize.storage import COMPRESSED_TENSORS, HQQ

CAP_BYTES = 12 * 10**9
BITS = (2, 3, 4, 8)
EIGHT_B = LlamaConfig(
    hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8,
    vocab_size=128256, max_position_embeddings=8192, tie_word_embeddings=False, architectures=["LlamaForCausalLM"],
)  # fmt: skip
TINY = LlamaConfig(
    hidden_size=128, intermediate_size=256, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
    vocab_size=512, max_position_embeddings=128, tie_word_embeddings=False, architectures=["LlamaForCausalLM"],
)  # fmt: skip


def write_random(config: LlamaConfig, folder: Path) -> Checkpoint:
    """Shards by block, so that no more than one is ever in memory."""
    config.save_pretrained(folder)
    hidden, feed, width = (
        config.hidden_size,
        config.intermediate_size,
        config.hidden_size // config.num_attention_heads,
    )
    value = config.num_key_value_heads * width
    shapes = {
        "self_attn.q_proj": (hidden, hidden), "self_attn.k_proj": (value, hidden), "self_attn.v_proj": (value, hidden),
        "self_attn.o_proj": (hidden, hidden), "mlp.gate_proj": (feed, hidden), "mlp.up_proj": (feed, hidden),
        "mlp.down_proj": (hidden, feed), "input_layernorm": (hidden,), "post_attention_layernorm": (hidden,),
    }  # fmt: skip
    for index in range(config.num_hidden_layers):
        named = {
            f"model.layers.{index}.{name}.weight": random_tensor(shape) for name, shape in shapes.items()
        }
        save_file(named, folder / f"block-{index:03d}.safetensors")
    rest = {"model.embed_tokens.weight": (config.vocab_size, hidden), "model.norm.weight": (hidden,)}
    rest["lm_head.weight"] = (config.vocab_size, hidden)
    save_file({name: random_tensor(shape) for name, shape in rest.items()}, folder / "rest.safetensors")
    return Checkpoint.open(folder)


def random_tensor(shape: tuple[int, ...]) -> torch.Tensor:
    return (
        torch.ones(shape, dtype=torch.bfloat16)
        if len(shape) == 1
        else torch.randn(shape).mul_(0.02).bfloat16()
    )


def timed(work: Callable[[], object], device: str) -> float:
    began = time.monotonic()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.monotonic() - began


def stream(network: Network, ids: torch.Tensor) -> tuple[list[float], float]:
    """Seconds of each block's profile, and of the two sweeps before."""
    micro, last = MicroBatch(1), network.block_count
    hidden = [network.embed(ids).cpu()]
    began = time.monotonic()
    for index in range(last):
        hidden.append(forward(network, index, hidden[-1], micro))
    behind = head_gradient(network, hidden[last], 1)
    gradients = {last: behind}
    for index in range(last - 1, 0, -1):
        gradients[index] = behind = backward(network, index, hidden[index], behind, micro)
    sweeps = time.monotonic() - began
    method = Method("gptq", COMPRESSED_TENSORS, 64, BITS)
    seconds = [
        timed(
            lambda i=i: profile_block(network, i, hidden[i], gradients[i + 1], method, micro),  # type: ignore[misc]
            network.device,
        )
        for i in range(last)
    ]
    return seconds, sweeps


def plain_hqq(network: Network) -> float:
    """Seconds a block for hqq alone to solve the same weights at the same bits."""
    method = Method("hqq", HQQ, 64, BITS)
    weights = network.weights(0)

    def solve() -> None:
        for weight in weights.values():
            Hqq().solve(weight, InputStatistics(1), [method.grid(bits) for bits in BITS])

    return timed(solve, network.device)


def measure(quick: bool) -> list[Row]:
    gpu = torch.cuda.is_available() and not quick
    device, config = ("cuda", EIGHT_B) if gpu else ("cpu", TINY)
    prepare_threads(1)
    if gpu:
        whole = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, CAP_BYTES / whole))
    with tempfile.TemporaryDirectory() as folder:
        network = Network(write_random(config, Path(folder)), device, computing_dtype(device))
        ids = torch.randint(0, config.vocab_size, (4, min(2048, config.max_position_embeddings)))
        seconds, sweeps = stream(network, ids)
        hqq = plain_hqq(network)
    half = len(seconds) // 2
    where = "8B shape, GPU" if gpu else "tiny shape, CPU, shows only that it runs"
    peak = peak_bytes(device)
    return [
        Row(f"peak memory ({where})", peak / 1e9, "GB", "12", peak <= CAP_BYTES if gpu else None, n=len(seconds)),
        Row(f"profile of a block, {len(BITS)} numbers of bits ({where})", fmean(seconds), "s", "", None,
            {"plain hqq, solving only": hqq, "both sweeps, all blocks": sweeps, "total": sum(seconds) + sweeps},
            len(seconds)),
        Row(f"second half of the blocks against the first ({where})", sum(seconds[half:]) / sum(seconds[:half]), "x",
            "0.8 to 1.25", 0.8 <= sum(seconds[half:]) / sum(seconds[:half]) <= 1.25 if gpu else None, n=len(seconds)),
    ]  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(run("quantize_gpu", measure))
