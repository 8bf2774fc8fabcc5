"""What llama.cpp would read otherwise than it is, is refused by name; what is written says everything it asks for."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import gguf
import pytest

from runners.quantize.checkpoint import Checkpoint, TensorShape
from runners.quantize.export import gguf_file, gguf_vocabulary

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
SPLIT = CONTRACTIONS + (
    r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
WORDS = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
BYTES = WORDS | {"use_regex": False}
DIGITS = {"type": "Digits", "individual_digits": True}
TOKENIZER: dict[str, Any] = {
    "normalizer": None,
    "pre_tokenizer": WORDS,
    "post_processor": None,
    "added_tokens": [
        {"id": 0, "content": "<s>", "special": True},
        {"id": 1, "content": "</s>", "special": True},
        {"id": 5, "content": "<tool>", "special": False},
    ],
    "model": {
        "type": "BPE",
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": {"<s>": 0, "</s>": 1, "a": 2, "b": 3, "ab": 4},
        "merges": [["a", "b"]],
    },
}
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_act": "silu",
    "max_position_embeddings": 64,
    "eos_token_id": [1, 0],
    "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
}


def splitting(regex: str) -> dict[str, Any]:
    first = {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [first, BYTES]}


LLAMA3, QWEN2 = splitting(SPLIT % "{1,3}"), splitting(SPLIT % "")


def checkpoint(
    folder: Path, tokenizer: dict[str, Any], says: dict[str, Any] | None = None, **config: Any
) -> Checkpoint:
    """A folder with these files; `says` is its tokenizer_config.json."""
    whole = CONFIG | config
    (folder / "config.json").write_text(json.dumps(whole))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text(json.dumps(says or {}))
    embedding = TensorShape("model.embed_tokens.weight", (8, 64), "BF16", "")
    return Checkpoint(folder, whole, {embedding.name: embedding})


def changed(**model: Any) -> dict[str, Any]:
    """The tokenizer with other fields, those of its model included."""
    tokenizer = copy.deepcopy(TOKENIZER)
    for name, value in model.items():
        (tokenizer if name in tokenizer else tokenizer["model"])[name] = value
    return tokenizer


def written(found: Checkpoint) -> dict[str, Any]:
    """The fields of a file that holds this tokenizer and nothing else."""
    assert list(gguf_file.faults(found)) == []
    path = found.folder / "m.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    gguf_vocabulary.write(writer, found)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    prefix = "tokenizer."
    fields = gguf.GGUFReader(path).fields
    return {k.removeprefix(prefix): f.contents() for k, f in fields.items() if k.startswith(prefix)}


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"rope_parameters": {"rope_type": "llama3", "factor": 8.0}}, "rope_parameters llama3: not written"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling linear: not written"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "rope_scaling yarn: not written"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ({"hidden_act": "gelu"}, "hidden_act gelu"),
        ({"sliding_window": 32}, "sliding_window 32"),
        ({"architectures": ["Qwen2ForCausalLM"]}, "Qwen2ForCausalLM: only LlamaForCausalLM"),
        ({"eos_token_id": None}, "no eos_token_id, and llama.cpp would end at token 11"),
        ({"pad_token_id": -1}, "invalid value for special token type pad"),
    ],
)
def test_a_model_that_llama_cpp_would_run_otherwise_is_refused(
    tmp_path: Path, config: dict[str, Any], complaint: str
) -> None:
    """Each was once written without a word, and came out as another model."""
    (fault,) = gguf_file.faults(checkpoint(tmp_path, TOKENIZER, **config))
    assert complaint in fault


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"type": "Unigram"}, "model Unigram is not BPE"),
        ({"byte_fallback": True}, "byte_fallback"),
        ({"end_of_word_suffix": "</w>"}, "end_of_word_suffix '</w>'"),
        ({"normalizer": {"type": "Lowercase"}}, "normalizer Lowercase"),
        ({"pre_tokenizer": None}, "pre_tokenizer [None]"),
        ({"pre_tokenizer": {"type": "Metaspace"}}, "pre_tokenizer ['Metaspace']"),
        ({"pre_tokenizer": WORDS | {"add_prefix_space": True}}, "pre_tokenizer ['ByteLevel']"),
        ({"pre_tokenizer": BYTES}, "pre_tokenizer ['ByteLevel']"),
        ({"pre_tokenizer": splitting(r"\w+")}, "pre_tokenizer ['Split', 'ByteLevel']"),
        (
            {"pre_tokenizer": LLAMA3},
            "ignore_merges is not what llama.cpp does for its pre-tokenizer llama-bpe",
        ),
        ({"ignore_merges": True}, "ignore_merges is not what llama.cpp does for its pre-tokenizer gpt-2"),
    ],
)
def test_a_tokenizer_that_llama_cpp_would_read_otherwise_is_refused(
    tmp_path: Path, change: dict[str, Any], complaint: str
) -> None:
    """With the file, the thing in it and what to do instead."""
    (fault,) = gguf_file.faults(checkpoint(tmp_path, changed(**change)))
    assert fault.startswith(f"{tmp_path}/tokenizer.json: {complaint}")
    assert "llama.cpp's own converter" in fault


def test_no_tokenizer_is_refused(tmp_path: Path) -> None:
    """Nor one that is no JSON."""
    found = checkpoint(tmp_path, TOKENIZER)
    (tmp_path / "tokenizer.json").write_text("{")
    assert "no tokenizer that can be read" in next(gguf_file.faults(found))
    (tmp_path / "tokenizer.json").unlink()
    assert "no tokenizer that can be read" in next(gguf_file.faults(found))


@pytest.mark.parametrize(
    ("pre_tokenizer", "ignore_merges", "name"),
    [
        (WORDS, False, "gpt-2"),
        ({"type": "Sequence", "pretokenizers": [DIGITS, WORDS]}, False, "smollm"),
        (LLAMA3, True, "llama-bpe"),
        (QWEN2, False, "qwen2"),
    ],
)
def test_the_splitting_is_named_as_llama_cpp_names_it(
    tmp_path: Path, pre_tokenizer: dict[str, Any], ignore_merges: bool, name: str
) -> None:
    """`default`, which was once written for all of them, splits like none."""
    tokenizer = changed(pre_tokenizer=pre_tokenizer, ignore_merges=ignore_merges, normalizer={"type": "NFC"})
    assert written(checkpoint(tmp_path, tokenizer))["ggml.pre"] == name


def test_tokens_merges_and_what_begins_and_ends_a_text_are_written(tmp_path: Path) -> None:
    """Ids, flags and the chat template, from whichever file names them; rows without a token are unused."""
    says = {"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True, "chat_template": "{{ messages }}"}
    found = written(checkpoint(tmp_path, TOKENIZER, says, unk_token_id=2, pad_token_id=3))
    kinds = gguf.TokenType
    assert found == {
        "ggml.model": "gpt2",
        "ggml.pre": "gpt-2",
        "ggml.tokens": ["<s>", "</s>", "a", "b", "ab", "<tool>", "[PAD6]", "[PAD7]"],
        "ggml.token_type": [
            *(kinds.CONTROL, kinds.CONTROL, kinds.NORMAL, kinds.NORMAL, kinds.NORMAL),
            *(kinds.USER_DEFINED, kinds.UNUSED, kinds.UNUSED),
        ],
        "ggml.merges": ["a b"],
        "ggml.bos_token_id": 0,
        "ggml.eos_token_id": 1,
        "ggml.unknown_token_id": 2,
        "ggml.padding_token_id": 3,
        "ggml.add_bos_token": True,
        "ggml.add_eos_token": False,
        "chat_template": "{{ messages }}",
    }


def test_nothing_is_left_to_llama_cpp_s_own_idea(tmp_path: Path) -> None:
    """It would begin every text with a token for `llama-bpe`; a list of ends gives its first."""
    tokenizer = changed(pre_tokenizer=LLAMA3, ignore_merges=True)
    found = written(checkpoint(tmp_path, tokenizer))
    assert (found["ggml.add_bos_token"], found["ggml.add_eos_token"]) == (False, False)
    assert found["ggml.eos_token_id"] == 1
    template = {"single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}], "pair": []}
    tokenizer["post_processor"] = {"type": "TemplateProcessing", **template}
    assert written(checkpoint(tmp_path, tokenizer, {"bos_token": "<s>"}))["ggml.add_bos_token"] is True
