"""Train the demo's model: seeded, on the CPU, minutes; the same inputs give a model of the same name."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from runners.quantize.demo.corpus import Corpus

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

RECIPE_VERSION: Final = 1
END_OF_TEXT: Final = "<|endoftext|>"
HELD_OUT_FILE: Final = "held_out.txt"
CALIBRATION_FILE: Final = "calibration.txt"
CALIBRATION_SHARE: Final = 8
"""Every eighth module that was trained on is enough to calibrate on, and tokenized in seconds."""

Say = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Recipe:
    """Holds everything that decides the trained model. Figures of a 2-core machine: 1.4 M weights, 3 ktok/s."""

    seed: int = 1
    vocabulary: int = 2_048
    hidden: int = 128
    feed_forward: int = 384
    layers: int = 6
    heads: int = 4
    key_value_heads: int = 2
    context: int = 256
    tied: bool = True
    batch: int = 16
    steps: int = 600
    muon_rate: float = 0.02
    adam_rate: float = 0.004

    def name(self, corpus: Corpus) -> str:
        """Return the name of the cached model: made of recipe and text, nothing else."""
        words = json.dumps([RECIPE_VERSION, asdict(self), corpus.digest], sort_keys=True)
        return f"demo-{self.hidden}x{self.layers}-{hashlib.sha256(words.encode()).hexdigest()[:12]}"


def trained(cache: Path, recipe: Recipe, corpus: Corpus, say: Say) -> Path:
    """Return the folder of the trained model, training it first if the cache does not hold it."""
    target = cache / recipe.name(corpus)
    if target.is_dir():
        return target
    draft = cache / f".{target.name}.{os.getpid()}"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    tokenizer = _tokenizer(recipe, corpus)
    model = _train(recipe, _token_ids(tokenizer, corpus.train), say)
    _write(draft, model, tokenizer, corpus)
    draft.rename(target)
    return target


def _tokenizer(recipe: Recipe, corpus: Corpus) -> PreTrainedTokenizerFast:
    from tokenizers import ByteLevelBPETokenizer  # noqa: PLC0415 - the quantize extra, needed here only
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415

    pairs = ByteLevelBPETokenizer()
    pairs.train_from_iterator(
        corpus.train, vocab_size=recipe.vocabulary, special_tokens=[END_OF_TEXT], show_progress=False
    )
    return PreTrainedTokenizerFast(tokenizer_object=pairs._tokenizer, eos_token=END_OF_TEXT)  # noqa: SLF001


def _token_ids(tokenizer: PreTrainedTokenizerFast, texts: tuple[str, ...]) -> torch.Tensor:
    import torch  # noqa: PLC0415

    end = tokenizer.convert_tokens_to_ids(END_OF_TEXT)
    ids = [token for text in texts for token in (*tokenizer(text)["input_ids"], end)]
    return torch.tensor(ids)


def _train(recipe: Recipe, ids: torch.Tensor, say: Say) -> LlamaForCausalLM:
    import torch  # noqa: PLC0415
    from transformers import LlamaConfig, LlamaForCausalLM  # noqa: PLC0415

    torch.manual_seed(recipe.seed)
    config = LlamaConfig(
        vocab_size=recipe.vocabulary,
        hidden_size=recipe.hidden,
        intermediate_size=recipe.feed_forward,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.key_value_heads,
        max_position_embeddings=recipe.context,
        tie_word_embeddings=recipe.tied,
        bos_token_id=None,
        eos_token_id=0,
    )
    model = LlamaForCausalLM(config).float().train()
    schedules = list(_schedules(model, recipe))
    for step, batch in enumerate(_batches(recipe, ids)):
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        for optimizer, schedule in schedules:
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        say(step + 1, recipe.steps, f"loss {loss.item():.3f}")
    return model


def _schedules(
    model: LlamaForCausalLM, recipe: Recipe
) -> Iterator[tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]]:
    """Muon for the matrices inside the blocks, AdamW for the rest; warm-up, then a straight line to zero."""
    import torch  # noqa: PLC0415

    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and ".layers." in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or ".layers." not in n]
    warm_up = max(1, recipe.steps // 20)

    def rate(step: int) -> float:
        return min((step + 1) / warm_up, (recipe.steps - step) / recipe.steps)

    for optimizer in (
        torch.optim.Muon(matrices, lr=recipe.muon_rate, weight_decay=0.01),
        torch.optim.AdamW(others, lr=recipe.adam_rate, weight_decay=0.0),
    ):
        yield optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, rate)


def _batches(recipe: Recipe, ids: torch.Tensor) -> Iterator[torch.Tensor]:
    """Windows without overlap, shuffled anew at each pass."""
    import torch  # noqa: PLC0415

    generator = torch.Generator().manual_seed(recipe.seed)
    windows = ids[: len(ids) // recipe.context * recipe.context].view(-1, recipe.context)
    passes = math.ceil(recipe.steps * recipe.batch / len(windows))
    order = torch.cat([torch.randperm(len(windows), generator=generator) for _ in range(passes)])
    for step in range(recipe.steps):
        yield windows[order[step * recipe.batch : (step + 1) * recipe.batch]]


def _write(folder: Path, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, corpus: Corpus) -> None:
    """Save in bfloat16, as published models are, with the texts that calibration and evaluation read."""
    import torch  # noqa: PLC0415

    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    sampled = corpus.train[::CALIBRATION_SHARE]
    (folder / CALIBRATION_FILE).write_text(END_OF_TEXT.join(sampled), encoding="utf-8")
    (folder / HELD_OUT_FILE).write_text(END_OF_TEXT.join(corpus.held_out), encoding="utf-8")
