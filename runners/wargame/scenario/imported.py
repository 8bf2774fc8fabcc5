"""Other people's test sets as scenario lines: NotInject, XSTest and whatever else has a text and a label."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from runners.wargame import wellformed
from runners.wargame.outcomes import Label
from runners.wargame.scenario.grammar import ATTACK_CATEGORIES, HARD_NEGATIVE, Category, GrammarError
from runners.wargame.scenario.library import DialogueEntry, split_by_name

LABELS: Final[Mapping[str, Label]] = {
    **dict.fromkeys(("attack", "injection", "malicious", "unsafe", "harmful", "1", "true"), Label.ATTACK),
    **dict.fromkeys(("benign", "safe", "harmless", "0", "false"), Label.BENIGN),
}
TEXT_FIELDS: Final = ("turns", "prompt", "text", "goal")


@dataclass(frozen=True, slots=True)
class Row:
    """Holds one conversation of a foreign set."""

    place: str
    turns: tuple[str, ...]
    label: Label
    family: str
    category: Category
    pair: str


def convert(
    lines: Iterable[str], name: str, label: Label | None, *, allow_untwinned: bool
) -> list[DialogueEntry]:
    """Read foreign lines; benign ones without an attack become hard negatives. Raises GrammarError."""
    rows = [
        _row(line, f"{name}:{number}", name, label) for number, line in enumerate(lines, 1) if line.strip()
    ]
    by_pair: dict[str, list[Row]] = {}
    for row in rows:
        by_pair.setdefault(row.pair, []).append(row)
    entries, attacks, calm = [], [], []
    for pair, members in by_pair.items():
        if pair and {row.label for row in members} == set(Label) and len(members) == 2:
            entries.append(_twinned(*sorted(members, key=lambda row: row.label)))
        else:
            attacks += [row for row in members if row.label is Label.ATTACK]
            calm += [row for row in members if row.label is Label.BENIGN]
    entries += _nearest(attacks, calm, allowed=allow_untwinned)
    return [*entries, *(_hard(row) for row in calm)]


def written(entries: Iterable[DialogueEntry]) -> Iterator[str]:
    """Return the lines of a scenario file."""
    return (msgspec.json.encode(entry).decode() for entry in entries)


def _row(line: str, place: str, name: str, label: Label | None) -> Row:
    try:
        value = json.loads(line)
        whole = wellformed.is_wellformed(value)
    except (ValueError, RecursionError) as error:
        raise GrammarError(f"{place}: not JSON ({error})") from error
    if not whole:
        raise GrammarError(
            f"{place}: half a character (an unpaired surrogate such as \\ud83d): mend or drop the line"
        )
    if not isinstance(value, dict):
        raise GrammarError(f"{place}: not an object")
    said = LABELS.get(str(value.get("label", "")).lower())
    if said is None and label is None:
        raise GrammarError(f"{place}: no label of {sorted(LABELS)}; say --label for the whole file")
    theirs = str(value.get("category") or value.get("type") or "")
    category: Category = next((c for c in ATTACK_CATEGORIES if c == theirs), "other")
    family = str(value.get("family") or value.get("type") or theirs or name)
    pair = str(value.get("pair") or value.get("twin_of") or "")
    return Row(place, _turns(value, place), said or label or Label.BENIGN, family, category, pair)


def _turns(value: Mapping[str, Any], place: str) -> tuple[str, ...]:
    found = next((value[field] for field in TEXT_FIELDS if field in value), None)
    turns = [found] if isinstance(found, str) else found
    if not isinstance(turns, list) or not turns or not all(isinstance(t, str) and t.strip() for t in turns):
        raise GrammarError(f"{place}: needs one of {TEXT_FIELDS}: a text or a list of texts, none empty")
    return tuple(turns)


def _twinned(attack: Row, benign: Row) -> DialogueEntry:
    return DialogueEntry(
        attack.family,
        attack.category,
        list(benign.turns),
        list(attack.turns),
        split_by_name(attack.family),
        loose=True,
    )


def _nearest(attacks: Sequence[Row], calm: Sequence[Row], *, allowed: bool) -> list[DialogueEntry]:
    """Give each attack the benign conversation whose length is nearest; that is no twin, and is marked so."""
    if not attacks:
        return []
    if not allowed or not calm:
        raise GrammarError(
            f"{len(attacks)} attacks have no benign twin (the first: {attacks[0].place}): give twins the same "
            '"pair", or add benign conversations and say --allow-untwinned to take the nearest in length'
        )
    return [
        _twinned(one, min(calm, key=lambda row: abs(len(row.turns[-1]) - len(one.turns[-1]))))
        for one in attacks
    ]


def _hard(row: Row) -> DialogueEntry:
    family = f"hard:{row.family}"
    return DialogueEntry(family, HARD_NEGATIVE, list(row.turns), [], split_by_name(family))
