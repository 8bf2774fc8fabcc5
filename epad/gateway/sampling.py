"""Digest the parts of a request that vary the answer to one prompt: it tells samples of a prompt from a loop."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import lru_cache

import msgspec
from msgspec import Raw, Struct

from epad.gateway.dialects.caps import CAP_NAMES, CHOICE_NAMES
from epad.gateway.dialects.dialect import Ask

_OPTIONS = "options"  # Ollama's
_NAMES = frozenset({
    "seed", "temperature", "top_p", "top_k", "min_p", "typical_p", "tfs_z", "mirostat", "mirostat_tau", "mirostat_eta",
    "dynatemp_range", "xtc_probability", "do_sample", "use_beam_search", "num_beams", "best_of", "stop",
    "stop_sequences", "stop_token_ids", "presence_penalty", "frequency_penalty", "repetition_penalty",
    "repeat_penalty", "repeat_last_n", "length_penalty", "logit_bias", "logprobs", "top_logprobs", "prompt_logprobs",
    "response_format", "format", "grammar", "json_schema", "guided_json", "guided_regex", "guided_choice",
    "guided_grammar", "structured_outputs", "text", "reasoning", "reasoning_effort", "thinking", "think", "min_tokens",
    _OPTIONS, *CAP_NAMES, *CHOICE_NAMES,
})  # fmt: skip
_DIGEST_BYTES = 16
# What is kept to be known again: small values alone, so that all of them take up little.
_MOST_KEPT_BYTES = 512
_Said = tuple[tuple[str, bytes], ...]
# An option is a number or a word; what is larger is no option that says whether an answer is drawn.
_MOST_BYTES = 4_096
# What each of these makes an answer that is not drawn at all, but the likeliest.
_LIKELIEST: Mapping[str, float] = {"temperature": 0.0, "top_k": 1.0, "top_p": 0.0, "do_sample": 0.0}
# Above these a request wants an answer that chance has a part in, or several. A seed that stays the same wants the
# same answer; one that changes shows in the digest.
_SAMPLES: Mapping[str, float] = {"temperature": 0.0, "n": 1.0, "best_of": 1.0, "num_beams": 1.0}
_read_options = msgspec.json.Decoder(dict[str, Raw]).decode
_read_number: Callable[[bytes | Raw], float | None] = msgspec.json.Decoder(float | bool | None).decode


class Sampling(Struct, frozen=True):
    """`digest` is empty if the request says nothing of how its answer is drawn; `random`, whether it is drawn.

    `drawn` says whether the request asks for a sample itself; where it does not, that is left to the server.
    """

    digest: bytes = b""
    random: bool = True
    drawn: bool = False


_UNSAID = Sampling()


def sampling_of(ask: Ask) -> Sampling:
    """Read how a request wants its answer drawn."""
    values = ask.fields.values
    names = _NAMES.intersection(values)
    if not names:
        return _UNSAID
    said = tuple([(name, bytes(values[name])) for name in sorted(names)])
    small = sum([len(value) for _, value in said]) <= _MOST_KEPT_BYTES
    return _read_small(said) if small else _read(said)


def _read(said: _Said) -> Sampling:
    digest = hashlib.sha256()
    for name, value in said:
        digest.update(name.encode() + b"\0")
        digest.update(value)
        digest.update(b"\0")
    values = dict(said)
    options = _options(values[_OPTIONS]) if _OPTIONS in values else {}
    likeliest = _is_likeliest(values) or _is_likeliest(options)
    drawn = not likeliest and (_asks_for_a_sample(values) or _asks_for_a_sample(options))
    return Sampling(digest.digest()[:_DIGEST_BYTES], not likeliest, drawn)


# A client says the same in all of its requests.
_read_small = lru_cache(1_024)(_read)


def _is_likeliest(values: Mapping[str, bytes | Raw]) -> bool:
    return any(name in values and _number(values[name]) == least for name, least in _LIKELIEST.items())


def _asks_for_a_sample(values: Mapping[str, bytes | Raw]) -> bool:
    return any((_number(values[name]) or 0) > most for name, most in _SAMPLES.items() if name in values)


def _options(raw: bytes | Raw) -> Mapping[str, Raw]:
    if len(memoryview(raw)) > _MOST_BYTES:
        return {}
    try:
        return _read_options(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}


def _number(raw: bytes | Raw) -> float | None:
    if len(memoryview(raw)) > _MOST_BYTES:
        return None
    try:
        return _read_number(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
