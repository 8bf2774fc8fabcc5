r"""Write a tokenizer as llama.cpp's byte-level BPE, or say why that is impossible.

llama.cpp splits text by the name of a pre-tokenizer that it knows; a name that does not split as `tokenizer.json` does
makes other tokens without a word. So only tokenizers whose splitting has a name are written. Its assumptions about a
silent file (token 11 ends the text; `llama-bpe` begins it) are never relied on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import gguf

from runners.quantize.checkpoint import Checkpoint

FIX: Final = (
    "convert with llama.cpp's own converter and use the `llama.cpp` folder of another --storage's export"
)

_WORDS, _BYTES, _DIGITS = "words", "bytes", "digits"
_LLAMA3: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_QWEN2: Final = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
PRE_TOKENIZERS: Final = {
    (_WORDS,): "gpt-2",
    (_DIGITS, _WORDS): "smollm",
    (_LLAMA3, _BYTES): "llama-bpe",
    (_QWEN2, _BYTES): "qwen2",
}
"""llama.cpp's names, by what splits the text. Its `default` is none of them: it takes punctuation apart first."""
WHOLE_WORDS_FIRST: Final = frozenset({"llama-bpe"})
"""Those with which llama.cpp takes a word that is a token as it is, without merging (`ignore_merges`)."""


def faults(checkpoint: Checkpoint) -> Iterator[str]:
    """Yield why the tokenizer cannot be written; nothing if it can."""
    file = checkpoint.folder / "tokenizer.json"
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        yield f"{file}: no tokenizer that can be read ({error}); {FIX}"
        return
    found = [*_model_faults(content), *_splitting_faults(content)]
    yield from (f"{file}: {fault}; {FIX}" for fault in found)
    try:
        special = _special(checkpoint)
    except ValueError as error:
        yield f"{checkpoint.folder / 'config.json'}: {error}; leave it out there"
        return
    if "eos" not in special.special_token_ids:
        yield f"{checkpoint.folder / 'config.json'}: no eos_token_id, and llama.cpp would end at token 11; name one"


def _model_faults(content: Mapping[str, Any]) -> Iterator[str]:
    model = content.get("model") or {}
    if model.get("type") != "BPE":
        yield f"model {model.get('type')} is not BPE"
    elif model.get("byte_fallback"):
        yield "byte_fallback: a BPE that was SentencePiece, and no byte-level one"
    for name in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name):
            yield f"{name} {model[name]!r}: llama.cpp's BPE has none"
    normalizer = (content.get("normalizer") or {}).get("type", "NFC")
    # llama.cpp composes no characters, whatever the model; its own converter leaves NFC out as well.
    if normalizer != "NFC":
        yield f"normalizer {normalizer}: llama.cpp has none for BPE"


def _splitting_faults(content: Mapping[str, Any]) -> Iterator[str]:
    name = pre_tokenizer(content)
    if not name:
        kinds = [part.get("type") for part in _parts(content)]
        yield f"pre_tokenizer {kinds}: none of {', '.join(PRE_TOKENIZERS.values())} of llama.cpp splits alike"
    elif bool(content["model"].get("ignore_merges")) != (name in WHOLE_WORDS_FIRST):
        yield f"ignore_merges is not what llama.cpp does for its pre-tokenizer {name}"


def pre_tokenizer(content: Mapping[str, Any]) -> str:
    """llama.cpp's name for how this `tokenizer.json` splits text; empty if it has none."""
    return PRE_TOKENIZERS.get(tuple(_splitter(part) for part in _parts(content)), "")


def _parts(content: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    whole = content.get("pre_tokenizer") or {}
    parts: list[Mapping[str, Any]] = whole.get("pretokenizers", [whole])
    return parts


def _splitter(part: Mapping[str, Any]) -> str:
    """Return llama.cpp's name for one step of splitting; empty if it has none."""
    match part:
        case {"type": "ByteLevel", "add_prefix_space": False}:
            return _WORDS if part.get("use_regex", True) else _BYTES
        case {"type": "Digits", "individual_digits": True}:
            return _DIGITS
        case {"type": "Split", "pattern": {"Regex": str(regex)}, "behavior": "Isolated", "invert": False}:
            return regex
    return ""


def _special(checkpoint: Checkpoint) -> gguf.SpecialVocab:
    """Ids, flags and chat template, as the `gguf` package finds them in the folder."""
    count = checkpoint.tensors["model.embed_tokens.weight"].shape[0]
    special = gguf.SpecialVocab(checkpoint.folder, load_merges=True, n_vocab=count)
    ends = checkpoint.config.get("eos_token_id")
    if isinstance(ends, list) and ends:
        special.special_token_ids.setdefault("eos", ends[0])
    for kind in ("bos", "eos"):
        special.add_special_token.setdefault(kind, False)
    return special


def write(writer: gguf.GGUFWriter, checkpoint: Checkpoint) -> None:
    """Write a tokenizer without faults."""
    content = json.loads((checkpoint.folder / "tokenizer.json").read_bytes())
    added = {token["id"]: token for token in content.get("added_tokens", [])}
    names = {number: text for text, number in content["model"]["vocab"].items()}
    names |= {number: token["content"] for number, token in added.items()}
    numbers = range(checkpoint.tensors["model.embed_tokens.weight"].shape[0])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre_tokenizer(content))
    writer.add_token_list([names.get(number, f"[PAD{number}]") for number in numbers])
    writer.add_token_types([int(_kind(number, names, added)) for number in numbers])
    _special(checkpoint).add_to_gguf(writer, quiet=True)


def _kind(number: int, names: Mapping[int, str], added: Mapping[int, Mapping[str, Any]]) -> gguf.TokenType:
    if number not in names:
        return gguf.TokenType.UNUSED
    if number not in added:
        return gguf.TokenType.NORMAL
    return gguf.TokenType.CONTROL if added[number].get("special") else gguf.TokenType.USER_DEFINED
