"""What TRL itself makes of an export: loaded by `datasets`, prepared and trained on by a real DPOTrainer.

The extra `trl` is not among those that `make test` installs; docs/wargame.md says how to run this file.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runners.wargame.cli import main

datasets = pytest.importorskip(
    "datasets", reason="the extra `trl` is not installed: no export is loaded in datasets"
)
trl = pytest.importorskip("trl", reason="the extra `trl` is not installed: no export is trained on")
tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed: no export is tokenized")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed: no export is trained on"
)

# What the libraries deprecate among themselves is not ours to fail on.
pytestmark = pytest.mark.filterwarnings("default")

END, PAD = "<|im_end|>", "<|endoftext|>"
SIDES = ("chosen", "rejected")
FORMS = ("conversational", "standard")
CASES = [
    *(("conversational", name) for name in ("qwen2_5", "qwen3", "llama3_2", "phi3")),
    ("standard", "qwen2_5"),
]
FILES = {"train": "train.embedded.jsonl", "validation": "validation.embedded.jsonl"}


@pytest.fixture(scope="module", autouse=True)
def offline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is fetched, and the cache of whoever runs this stays as it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each form, exported from one run of the embedded engine."""
    folder = tmp_path_factory.mktemp("dpo")
    store = ["--store", str(folder / "w.db")]
    assert main(["run", "--rounds", "80", "--quiet", "--control-pairs", "0", *store]) == 0
    assert main(["teach", *store]) == 0
    for form in FORMS:
        wanted = ["--include-embedded", "--include-evaluate", "--format", form]
        assert main(["dpo", "export", *store, "--out", str(folder / form), *wanted]) == 0
    return folder


def load(folder: Path) -> Any:
    """As a trainer's documentation says to."""
    return datasets.load_dataset(
        "json", data_files={part: str(folder / name) for part, name in FILES.items()}
    )


def as_text(value: Any) -> str:
    return value if isinstance(value, str) else "\n".join(message["content"] for message in value)


def tokenizer(texts: list[str], template: str) -> Any:
    """A byte-level tokenizer as most models have, with the chat template that TRL keeps of a real one."""
    split = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer, made.decoder = split, tokenizers.decoders.ByteLevel()
    special = [PAD, END, "<|im_start|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|end|>"]
    learning = tokenizers.trainers.BpeTrainer(
        vocab_size=2_000, special_tokens=special, initial_alphabet=split.alphabet()
    )
    made.train_from_iterator(texts, learning)
    chat = (Path(trl.__file__).parent / "chat_templates" / f"{template}.jinja").read_text()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token=END, pad_token=PAD, chat_template=chat
    )


def trainer(loaded: Any, template: str, folder: Path) -> Any:
    """A DPOTrainer on a model of random weights, which is as good as any to find out what it reads."""
    # Learnt on whole rows as text, so that a merge across the seam of prompt and answer would be known to it.
    whole = [
        "".join(as_text(row[key]) for key in ("prompt", side)) for row in loaded["train"] for side in SIDES
    ]
    processing = tokenizer(whole, template)
    tiny = transformers.LlamaConfig(
        vocab_size=len(processing),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
    )
    arguments = trl.DPOConfig(
        output_dir=str(folder), max_steps=1, use_cpu=True, bf16=False, report_to=[], save_strategy="no"
    )
    return trl.DPOTrainer(
        model=transformers.LlamaForCausalLM(tiny),
        ref_model=transformers.LlamaForCausalLM(tiny),
        args=arguments,
        train_dataset=loaded["train"],
        eval_dataset=loaded["validation"],
        processing_class=processing,
    )


@pytest.mark.parametrize("form", FORMS)
def test_datasets_loads_every_row_as_it_was_written(exports: Path, form: str) -> None:
    """Nothing lost, nothing made up, the same columns in both splits; TRL knows which form it is."""
    loaded = load(exports / form)
    for part, name in FILES.items():
        lines = [json.loads(line) for line in (exports / form / name).read_text().splitlines()]
        assert lines
        assert loaded[part].to_list() == lines
        assert {trl.data_utils.is_conversational(row) for row in loaded[part]} == {form == "conversational"}
    assert loaded["train"].features == loaded["validation"].features


@pytest.mark.parametrize(("form", "template"), CASES)
def test_a_real_trainer_prepares_every_row_and_takes_a_step(
    exports: Path, form: str, template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """No row is dropped, what is learnt is the whole answer and nothing of the prompt, and the loss is a number."""
    monkeypatch.setattr(logging.getLogger("trl"), "propagate", True)
    loaded = load(exports / form)
    trained = trainer(loaded, template, tmp_path)
    read = trained.processing_class.decode
    for part, ready in (("train", trained.train_dataset), ("validation", trained.eval_dataset)):
        assert ready.num_rows == loaded[part].num_rows
        for row, tokens in zip(loaded[part], ready, strict=True):
            for side in SIDES:
                answer = as_text(row[side])
                assert answer in read(tokens[f"{side}_ids"])
                assert answer not in read(tokens["prompt_ids"])
            assert tokens["chosen_ids"] != tokens["rejected_ids"]
    assert "not a prefix" not in caplog.text
    assert math.isfinite(trained.train().training_loss)
