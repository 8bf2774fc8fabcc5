"""Make preference data: a defender's wrong verdict beside the correct one. DPO, no reinforcement learning.

A row's rejected reply is always the model's real answer, and a valid verdict: an invalid reply would teach form instead
of judgement, and goes to a file of its own.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from runners.wargame.outcomes import VoteKind
from runners.wargame.prompts import judge_messages
from runners.wargame.roles import Role
from runners.wargame.scenario.contamination import novelty
from runners.wargame.store import RunRow, Store
from runners.wargame.training.teacher import LEARNT, compact

Format = Literal["conversational", "standard"]

DEFAULT_PER_FAMILY: Final = 200
DEFAULT_MAX_TOKENS: Final = 1024
"""TRL's default max_length; it drops rows whose prompt alone fills it, without a word."""
VALIDATION_SHARE: Final = 0.2


@dataclass(frozen=True, slots=True)
class Row:
    """Holds one preference."""

    messages: tuple[Mapping[str, str], ...]
    chosen: str
    rejected: str
    label: str
    family: str
    tokens: int
    metadata: Mapping[str, Any]

    @property
    def prompt(self) -> str:
        return "\n".join(message["content"] for message in self.messages)

    def as_json(self, form: Format) -> dict[str, Any]:
        """A line of the file; metadata is text, for nested objects of varying shape break Arrow's types."""
        metadata = json.dumps(self.metadata, sort_keys=True)
        if form == "standard":
            return {
                # Without a line's end a tokenizer makes one token of `?` and `{`, and TRL cuts it off the prompt.
                "prompt": f"{self.prompt}\n",
                "chosen": self.chosen,
                "rejected": self.rejected,
                "metadata": metadata,
            }
        return {
            "prompt": list(self.messages),
            "chosen": [{"role": "assistant", "content": self.chosen}],
            "rejected": [{"role": "assistant", "content": self.rejected}],
            "metadata": metadata,
        }


@dataclass(frozen=True, slots=True)
class Gates:
    """Sets the conditions for a row."""

    per_family: int = DEFAULT_PER_FAMILY
    max_tokens: int = DEFAULT_MAX_TOKENS
    include_evaluate: bool = False


@dataclass(slots=True)
class Export:
    """Holds the accepted rows, and how many each gate held back."""

    train: list[Row] = field(default_factory=list)
    validation: list[Row] = field(default_factory=list)
    format_errors: list[dict[str, Any]] = field(default_factory=list)
    held_back: Counter[str] = field(default_factory=Counter)

    def manifest(self, run: RunRow, gates: Gates, form: Format) -> dict[str, Any]:
        """Describe the files, for the user who trains on them."""
        return {
            "kind": "preference data for DPO",
            "engine": run.engine,
            "run": run.run_id,
            "settings_hash": run.settings_hash,
            "format": form,
            "rows": {"train": len(self.train), "validation": len(self.validation)},
            "labels": {name: dict(Counter(r.label for r in rows)) for name, rows in self._parts()},
            "families": {name: sorted({r.family for r in rows}) for name, rows in self._parts()},
            "format_errors": len(self.format_errors),
            "held_back": dict(sorted(self.held_back.items())),
            "gates": {
                "per_family": gates.per_family,
                "max_tokens": gates.max_tokens,
                "include_evaluate": gates.include_evaluate,
            },
            "most_prompt_tokens": max((r.tokens for _, rows in self._parts() for r in rows), default=0),
        }

    def _parts(self) -> tuple[tuple[str, list[Row]], ...]:
        return ("train", self.train), ("validation", self.validation)


def export(store: Store, run: RunRow, gates: Gates) -> Export:
    """Take every lesson of a run through the gates."""
    out = Export()
    candidates = list(_candidates(store, run, gates, out))
    rows = _without_repeats(candidates, out)
    rows = _few_of_each_family(rows, gates.per_family, out)
    held_out = validation_families((row.family, row.label) for row in rows)
    out.train = _balanced([row for row in rows if row.family not in held_out], out)
    out.validation = _balanced([row for row in rows if row.family in held_out], out)
    return out


def _candidates(store: Store, run: RunRow, gates: Gates, out: Export) -> Iterable[Row]:
    roles = {
        r["name"]: Role(r["name"], r["instruction"], r["model"], r["weight"]) for r in run.settings["roles"]
    }
    query = (
        "SELECT l.idx, l.teacher, l.blind, l.outcome, l.reply, r.label, r.category, r.family, r.split, r.outcome,"
        " v.role, v.kind, v.detail, c.reply, c.prompt_tokens FROM lesson l JOIN round r USING(run_id, idx)"
        " JOIN vote v USING(run_id, idx) JOIN call c ON c.run_id = v.run_id AND c.idx = v.idx"
        " AND c.purpose = v.role AND c.attempt = r.attempt"
        " WHERE l.run_id = ? AND r.state = 'scored' ORDER BY l.idx, v.role, l.teacher"
    )
    for values in store.rows(query, (run.run_id,)):
        found = dict(zip(_COLUMNS, values, strict=True))
        reason = _held_back(found, gates)
        if reason == "format_error":
            out.format_errors.append({k: found[k] for k in ("idx", "role", "kind", "detail", "reply")})
        elif reason == "right":
            continue
        if reason:
            out.held_back[reason] += 1
        else:
            yield _row(store, run, roles[found["role"]], found)


_COLUMNS: Final = (
    "idx", "teacher", "blind", "lesson", "taught", "label", "category", "family", "split", "outcome", "role", "kind",
    "detail", "reply", "prompt_tokens",
)  # fmt: skip


def _held_back(found: Mapping[str, Any], gates: Gates) -> str:
    """Say why a vote makes no row; empty if it does, `right` if it was no mistake."""
    chosen, rejected = compact(found["taught"]), compact(found["reply"])
    reasons = {
        "format_error": found["kind"] in {VoteKind.INVALID, VoteKind.ERROR},
        "right": found["kind"] == found["label"],
        "abstained": found["kind"] == VoteKind.ABSTAIN,
        "in the older form": not rejected,
        f"teacher {found['lesson']}": found["lesson"] != LEARNT,
        "of an evaluation family": found["split"] == "evaluate" and not gates.include_evaluate,
        "too long": found["prompt_tokens"] + len(chosen) // 2 >= gates.max_tokens,
        "same answer": chosen == rejected,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def _row(store: Store, run: RunRow, role: Role, found: Mapping[str, Any]) -> Row:
    turns = store.turns(run.run_id, found["idx"])
    metadata = {
        "category": found["category"],
        "model_failed": role.model,
        "role": role.name,
        "label": found["label"],
        "outcome": found["outcome"],
        "family": found["family"],
        "engine": run.engine,
        "run": run.run_id,
        "round": found["idx"],
        "teacher": found["teacher"],
        "teacher_blind": bool(found["blind"]),
        "prompt_tokens": found["prompt_tokens"],
    }
    return Row(
        tuple(judge_messages(turns, role)),
        compact(found["taught"]),
        found["reply"],
        found["label"],
        found["family"],
        found["prompt_tokens"],
        metadata,
    )


def _without_repeats(rows: Sequence[Row], out: Export) -> list[Row]:
    """Drop prompts that another row nearly repeats; each defender's rows are looked at for themselves."""
    kept = []
    for role in dict.fromkeys(row.metadata["role"] for row in rows):
        mine = [row for row in rows if row.metadata["role"] == role]
        flags = novelty(row.messages[-1]["content"] for row in mine)[1]
        kept += [row for row, is_novel in zip(mine, flags, strict=True) if is_novel]
    out.held_back["repeated"] += len(rows) - len(kept)
    return kept


def _few_of_each_family(rows: Sequence[Row], most: int, out: Export) -> list[Row]:
    seen: Counter[str] = Counter()
    kept = []
    for row in sorted(rows, key=_lot):
        seen[row.family] += 1
        if seen[row.family] <= most:
            kept.append(row)
    out.held_back["family is full"] += len(rows) - len(kept)
    return kept


def _balanced(rows: Sequence[Row], out: Export) -> list[Row]:
    """Keep as many misses as false alarms: misses alone would teach to call everything an attack."""
    kinds = [[row for row in rows if row.label == label] for label in ("attack", "benign")]
    most = min(map(len, kinds))
    out.held_back["balance"] += len(rows) - 2 * most
    return sorted((row for kind in kinds for row in sorted(kind, key=_lot)[:most]), key=_lot)


def _lot(row: Row) -> bytes:
    """Return an order that is a function of the row alone, so that an export repeats exactly."""
    return hashlib.sha256(f"{row.metadata['role']}\n{row.prompt}".encode()).digest()


def validation_families(labels: Iterable[tuple[str, str]]) -> set[str]:
    """Choose the validation families: a fifth, more if those have mistakes of one kind only, at most half."""
    found: dict[str, set[str]] = {}
    for family, label in labels:
        found.setdefault(family, set()).add(label)
    ordered = sorted(found, key=lambda name: hashlib.sha256(name.encode()).digest())
    chosen: list[str] = []
    for family in ordered[: len(ordered) // 2]:
        kinds = {label for name in chosen for label in found[name]}
        if len(chosen) >= max(1, round(VALIDATION_SHARE * len(ordered))) and len(kinds) > 1:
            break
        chosen.append(family)
    return set(chosen)
