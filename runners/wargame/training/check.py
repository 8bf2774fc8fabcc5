"""Reading a preference file again as a trainer would: every line, every rule, with line numbers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from runners.wargame import wellformed
from runners.wargame.outcomes import VoteKind
from runners.wargame.verdict import Invalid, parse

KEYS: Final = frozenset({"prompt", "chosen", "rejected", "metadata"})
LABELS: Final = frozenset({"attack", "benign"})


@dataclass(slots=True)
class Checked:
    """Holds the rows of a file, and their faults."""

    rows: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    engines: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


def check(path: Path, max_tokens: int) -> Checked:
    """Check one file. Raises OSError."""
    found, prompts = Checked(), set()
    for number, line in enumerate(wellformed.lines(path.read_text(encoding="utf-8")), 1):
        found.rows += 1
        place = f"{path}:{number}"
        try:
            row = json.loads(line)
            metadata = json.loads(row["metadata"])
            faults = list(_faults(row, metadata, max_tokens))
            key = (json.dumps(row["prompt"], sort_keys=True), str(metadata.get("role")))
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            found.faults.append(f"{place}: not a row: {error!r}")
            continue
        if key in prompts:
            faults.append("the prompt was there before")
        prompts.add(key)
        found.labels[str(metadata.get("label"))] += 1
        found.engines[str(metadata.get("engine"))] += 1
        found.faults += [f"{place}: {fault}" for fault in faults]
    found.faults += [f"{path}: {fault}" for fault in _whole(found, path)]
    return found


def _faults(row: Mapping[str, Any], metadata: Mapping[str, Any], max_tokens: int) -> Iterator[str]:
    if row.keys() != KEYS:
        yield f"has {sorted(row)}, must have {sorted(KEYS)}"
    if (
        metadata.get("label") not in LABELS
        or not metadata.get("category")
        or not metadata.get("model_failed")
    ):
        yield "metadata lacks label, category or model_failed"
    if not wellformed.is_wellformed(row):
        yield "holds half a character (an unpaired surrogate), which no UTF-8 can spell"
    if isinstance(row["prompt"], list):
        yield from _conversation(row)
    elif not row["prompt"].endswith("\n"):
        yield "prompt: must end its line, or a tokenizer merges its end with the answer's beginning"
    chosen, rejected = (parse(_text(row[key])) for key in ("chosen", "rejected"))
    if isinstance(chosen, Invalid) or chosen.kind != metadata.get("label"):
        yield "chosen is not a verdict that states the label"
    sides = {VoteKind.ATTACK, VoteKind.BENIGN}
    if isinstance(rejected, Invalid) or rejected.kind not in sides or rejected.parser != "json":
        yield "rejected is no valid verdict: it would teach form, not judgement"
    if chosen == rejected:
        yield "chosen and rejected say the same"
    if int(metadata.get("prompt_tokens", 0)) + len(_text(row["chosen"])) // 2 >= max_tokens:
        yield f"the prompt fills max_length {max_tokens}: a trainer would drop it"


def _conversation(row: Mapping[str, Any]) -> Iterator[str]:
    """Yield the conditions of TRL's `is_conversational` that fail, and a prompt and answers that do not join."""
    for key in ("prompt", "chosen", "rejected"):
        messages = row[key]
        if not all(isinstance(m, dict) and m.keys() == {"role", "content"} for m in messages):
            yield f"{key}: every message must have role and content, and nothing else"
        elif not messages or not all(isinstance(m["content"], str) and m["content"] for m in messages):
            yield f"{key}: empty"
        elif key == "prompt" and messages[-1]["role"] != "user":
            yield "prompt: must end with the user"
        elif key != "prompt" and [m["role"] for m in messages] != ["assistant"]:
            yield f"{key}: must be one message of the assistant"


def _text(value: Any) -> str:
    if isinstance(value, list):
        return str(value[-1]["content"]) if value else ""
    return str(value)


def _whole(found: Checked, path: Path) -> Iterator[str]:
    if not found.rows:
        yield "holds no row"
    elif set(found.labels) & LABELS != LABELS:
        yield f"holds rows of one kind only ({dict(found.labels)}): it would teach to say the other always"
    if "embedded" in found.engines and ".embedded." not in path.name:
        yield "holds rows of the embedded engine, and its name does not say so"
