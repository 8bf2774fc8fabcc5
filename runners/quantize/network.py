"""A causal language model whose blocks stay on the disk: embedding, norm, head and one block at a time are resident.

The architecture is transformers' own, built without weights; a block's arguments (masks, rotary positions) are caught
from the model's own forward pass, so that nothing about an architecture is repeated here.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from runners.quantize.checkpoint import Checkpoint
from runners.quantize.fault import CheckpointError

WANTED_PARTS: Final = ("layers", "embed_tokens", "norm", "rotary_emb")

Weights = Mapping[str, torch.Tensor]


class _Stop(torch.nn.Module):  # type: ignore[misc]
    """Replaces a block: keeps the block's inputs and passes the hidden state on."""

    def __init__(self, block: torch.nn.Module) -> None:
        super().__init__()
        self.attention_type = getattr(block, "attention_type", None)
        self.hidden: torch.Tensor | None = None
        self.arguments: dict[str, Any] = {}
        self.instead: torch.Tensor | None = None

    def forward(self, hidden: torch.Tensor, **arguments: Any) -> torch.Tensor:
        self.hidden, self.arguments = hidden, arguments
        return hidden if self.instead is None else self.instead


def empty_linears(checkpoint: Checkpoint) -> list[list[str]]:
    """Names of the linear layers of every block, from the configuration alone."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(checkpoint.folder))
    return [
        [f"model.layers.{i}.{n}" for n, m in block.named_modules() if isinstance(m, torch.nn.Linear)]
        for i, block in enumerate(model.model.layers)
    ]


class Network:
    """The model, streamed. `overrides` of a block are weights that take the place of the checkpoint's."""

    def __init__(self, checkpoint: Checkpoint, device: str, dtype: torch.dtype) -> None:
        self.checkpoint, self.device, self.dtype = checkpoint, device, dtype
        self.config = AutoConfig.from_pretrained(checkpoint.folder)
        with torch.device("meta"):
            self._model = AutoModelForCausalLM.from_config(self.config, dtype=dtype).eval()
        self._model.requires_grad_(requires_grad=False)
        backbone = self._model.model
        missing = [part for part in WANTED_PARTS if not hasattr(backbone, part)]
        if missing:
            raise CheckpointError(
                f"{checkpoint.folder}: {type(backbone).__name__} has no {missing[0]}; "
                "only decoder models of the Llama family's plan are understood"
            )
        self._empty_blocks = list(backbone.layers)
        self._stops = [_Stop(block) for block in self._empty_blocks]
        backbone.layers = torch.nn.ModuleList(self._stops)
        backbone.rotary_emb = type(backbone.rotary_emb)(config=self.config).to(device)
        self._load_rest()

    @property
    def block_count(self) -> int:
        return len(self._empty_blocks)

    @property
    def window_limit(self) -> int:
        """Return the longest window that the model was made for."""
        return int(self.config.max_position_embeddings)

    def linears(self, index: int) -> list[str]:
        """Full names of the block's linear layers, in the model's order."""
        return [
            f"{self._prefix(index)}.{name}"
            for name, module in self._empty_blocks[index].named_modules()
            if isinstance(module, torch.nn.Linear)
        ]

    def block_tensors(self, index: int) -> list[str]:
        """Full names of everything in the block."""
        return [f"{self._prefix(index)}.{name}" for name in self._empty_blocks[index].state_dict()]

    def block(self, index: int, overrides: Weights | None = None) -> torch.nn.Module:
        """Load one block; the caller lets go of it before the next."""
        names = self.block_tensors(index)
        overrides = overrides or {}
        read = self.checkpoint.read(name for name in names if name not in overrides)
        start = len(self._prefix(index)) + 1
        state = {name[start:]: self._placed(overrides.get(name, read.get(name))) for name in names}
        block = copy.deepcopy(self._empty_blocks[index])
        block.load_state_dict(state, assign=True)
        return block.eval().requires_grad_(requires_grad=False)

    def weights(self, index: int) -> dict[str, torch.Tensor]:
        """The block's linear weights as the checkpoint has them, on the device, in the dtype of computing."""
        names = [f"{name}.weight" for name in self.linears(index)]
        return {name: self._placed(tensor) for name, tensor in self.checkpoint.read(names).items()}

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Hidden states in front of the first block."""
        with torch.no_grad():
            self._model(input_ids=ids.to(self.device), use_cache=False)
        hidden = self._stops[0].hidden
        assert hidden is not None  # noqa: S101 - the forward pass went through it
        return hidden

    def arguments(self, index: int, ids: torch.Tensor) -> dict[str, Any]:
        """Return the model's arguments for this block besides the hidden states, for windows shaped as `ids`."""
        self.embed(ids[:1])
        return self._stops[index].arguments

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Final norm and head, with whatever scaling the architecture has; gradients pass if `hidden` wants one."""
        last = self._stops[-1]
        last.instead = hidden
        try:
            ids = torch.zeros(hidden.shape[:2], dtype=torch.long, device=self.device)
            return self._model(input_ids=ids, use_cache=False).logits
        finally:
            last.instead = None

    def run(self, block: torch.nn.Module, hidden: torch.Tensor, arguments: Mapping[str, Any]) -> torch.Tensor:
        """Run one block's forward pass."""
        output = block(hidden, **arguments)
        return output[0] if isinstance(output, tuple) else output

    def _prefix(self, index: int) -> str:
        return f"model.layers.{index}"

    def _placed(self, tensor: torch.Tensor | None) -> torch.Tensor:
        assert tensor is not None  # noqa: S101 - read or overridden
        return tensor.to(device=self.device, dtype=self.dtype)

    def _load_rest(self) -> None:
        """Load every part that is no block: embedding, final norm, head."""
        wanted = [name for name in self._model.state_dict() if not name.startswith("model.layers.")]
        tied = self.checkpoint.tied
        names: Sequence[str] = [n for n in wanted if not (tied and n == "lm_head.weight")]
        state = {name: self._placed(tensor) for name, tensor in self.checkpoint.read(names).items()}
        if tied:
            state["lm_head.weight"] = state["model.embed_tokens.weight"]
        self._model.load_state_dict(state, strict=False, assign=True)
        self._model.requires_grad_(requires_grad=False)
