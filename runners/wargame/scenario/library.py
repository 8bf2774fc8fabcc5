"""Scenario files: TOML with families of templates, JSONL with whole conversations, both checked when read.

A TOML file (`version = 2`) has `[slots]`, `trigger_words` and `[[families]]`; a line of a JSONL file is one
conversation with its twin. `wargame scenarios import` makes such lines of public sets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Final

import msgspec

from runners.wargame import wellformed
from runners.wargame.scenario.grammar import (
    GRAMMAR_VERSION,
    HARD_NEGATIVE,
    Category,
    Dialogue,
    Family,
    Grammar,
    GrammarError,
    Instruction,
    Split,
)
from runners.wargame.scenario.twins import difference

MAX_TURNS: Final = 8


class InstructionEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A last turn and its twin, as templates."""

    attack: str
    benign: str


class FamilyEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A family of a TOML file. `stages`: a list of choices for each turn before the last."""

    name: str
    category: Category
    split: Split
    stages: list[list[str]]
    instructions: list[InstructionEntry]
    brief: str = ""


class TomlFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A TOML file of scenarios."""

    version: int
    families: list[FamilyEntry]
    slots: dict[str, list[str]] = {}
    trigger_words: list[str] = []


class DialogueEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A line of a JSONL file."""

    family: str
    category: Category
    benign: list[str]
    attack: list[str] = []
    split: Split | None = None
    loose: bool = False


def load_grammar(paths: Sequence[Path] = ()) -> Grammar:
    """Read and check a library, by default the one that is shipped. Raises GrammarError."""
    if not paths:
        return read_toml(shipped(), "the shipped families.toml")
    parts = [_read(path) for path in paths]
    families = tuple(family for part in parts for family in part.families)
    names = [family.name for family in families]
    if twice := {name for name in names if names.count(name) > 1}:
        raise GrammarError(f"families {sorted(twice)} are in more than one file: rename one of each")
    return Grammar(families, {slot: words for part in parts for slot, words in part.slots.items()})


def shipped() -> str:
    """Return the text of the library that comes with the program."""
    return (resources.files("runners.wargame.scenario") / "families.toml").read_text(encoding="utf-8")


def digest(paths: Sequence[Path]) -> str:
    """Return a fingerprint of the files, for a run's identity; empty for the shipped ones."""
    if not paths:
        return ""
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in paths)).hexdigest()[:16]


def _read(path: Path) -> Grammar:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise GrammarError(f"{path}: {error}") from error
    return read_jsonl(text, str(path)) if path.suffix == ".jsonl" else read_toml(text, str(path))


def read_toml(text: str, name: str) -> Grammar:
    """Read a file of families. Raises GrammarError."""
    try:
        file = msgspec.toml.decode(text, type=TomlFile)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise GrammarError(f"{name}: {error}") from error
    if file.version != GRAMMAR_VERSION:
        raise GrammarError(f"{name}: version {file.version} is not {GRAMMAR_VERSION}")
    slots = {slot: tuple(words) for slot, words in file.slots.items()}
    return Grammar(tuple(_family(entry, file, name) for entry in file.families), slots)


def _family(entry: FamilyEntry, file: TomlFile, name: str) -> Family:
    place = f"{name}: family {entry.name}"
    if not 1 <= len(entry.stages) < MAX_TURNS or not all(entry.stages) or not entry.instructions:
        raise GrammarError(
            f"{place}: needs 1 to {MAX_TURNS - 1} stages and an instruction, none of them empty"
        )
    if entry.category == HARD_NEGATIVE:
        raise GrammarError(f"{place}: hard negatives are conversations, put them into a .jsonl file")
    values = {slot: words[0] for slot, words in file.slots.items() if words}
    for template in (text for stage in entry.stages for text in stage):
        _fill(template, values, place)
    for instruction in entry.instructions:
        _check_twins(instruction, values, file.trigger_words, place)
    return Family(
        entry.name,
        entry.category,
        entry.split,
        entry.brief,
        tuple(tuple(stage) for stage in entry.stages),
        tuple(Instruction(i.attack, i.benign) for i in entry.instructions),
    )


def _check_twins(
    instruction: InstructionEntry, values: dict[str, str], triggers: Iterable[str], place: str
) -> None:
    for template in (instruction.attack, instruction.benign):
        if "{canary}" not in template:
            raise GrammarError(f"{place}: an instruction lacks {{canary}}: {template!r}")
    attack, benign = (_fill(text, values, place) for text in (instruction.attack, instruction.benign))
    if found := difference(attack, benign, triggers):
        raise GrammarError(f"{place}: {found}: {attack!r} / {benign!r}")


def _fill(template: str, values: dict[str, str], place: str) -> str:
    try:
        return template.format(canary="CANARY-00000000", **values)
    except (LookupError, ValueError) as error:
        raise GrammarError(f"{place}: {template!r}: no such slot or a stray brace: {error}") from error


def read_jsonl(text: str, name: str) -> Grammar:
    """Read a file of conversations. Raises GrammarError."""
    entries: dict[str, list[DialogueEntry]] = {}
    for number, line in enumerate(wellformed.lines(text), 1):
        if line.strip():
            entry = _line(line, f"{name}:{number}")
            entries.setdefault(entry.family, []).append(entry)
    if not entries:
        raise GrammarError(f"{name}: holds no conversation")
    return Grammar(tuple(_replayed(family, lines, name) for family, lines in entries.items()), {})


def _line(line: str, place: str) -> DialogueEntry:
    try:
        entry = msgspec.json.decode(line, type=DialogueEntry)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise GrammarError(f"{place}: {error}") from error
    sides = [entry.benign] if entry.category == HARD_NEGATIVE else [entry.attack, entry.benign]
    if entry.category == HARD_NEGATIVE and entry.attack:
        raise GrammarError(f"{place}: a hard negative has no attack")
    if not all(1 <= len(side) <= MAX_TURNS and all(turn.strip() for turn in side) for side in sides):
        raise GrammarError(f"{place}: each side needs 1 to {MAX_TURNS} turns, none empty")
    if len(sides) == 2 and not entry.loose and (found := difference(entry.attack[-1], entry.benign[-1], ())):
        raise GrammarError(f'{place}: {found}; write a closer twin, or say "loose": true')
    return entry


def _replayed(name: str, lines: Sequence[DialogueEntry], file: str) -> Family:
    categories, splits = {line.category for line in lines}, {line.split for line in lines}
    if len(categories) > 1 or len(splits) > 1:
        raise GrammarError(
            f"{file}: family {name} has lines of several categories or splits: give each its own"
        )
    split = splits.pop() or split_by_name(name)
    dialogues = tuple(Dialogue(tuple(e.attack), tuple(e.benign), e.loose) for e in lines)
    return Family(name, categories.pop(), split, dialogues=dialogues)


def split_by_name(family: str) -> Split:
    """Half of the families calibrate and half evaluate; which, their name decides for ever."""
    return "calibrate" if hashlib.sha256(family.encode()).digest()[0] % 2 else "evaluate"
