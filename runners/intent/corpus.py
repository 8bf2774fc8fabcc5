"""Read the labelled texts: the wargame's families with their twins, and the families and benign tasks of corpus.toml.

What is held out is always a whole family: texts of one family share their maker's idea, so a figure for a family that
was learnt from says little. Each template of the wargame is one text here, however many it could be filled into.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Final

import msgspec

from runners.wargame.scenario.library import load_grammar

VERSION: Final = 1
TASK: Final = "task:"
"""Begins the family of the plain benign tasks of one kind."""
_CANARY: Final = "CANARY-00000000"
_CLASSES: Final = {
    "prompt_injection": "injection",
    "context_poisoning": "poisoning",
    "logic_bomb": "sabotage",
    "social_engineering": "pretext",
}


class CorpusError(ValueError):
    """A file of labelled texts cannot be used; the message names the place."""


class Text(msgspec.Struct, frozen=True):
    """Holds one labelled text. `group` is the class of an attack, the kind of a plain task, and empty for a twin."""

    family: str
    is_attack: bool
    group: str
    text: str


class _Family(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"kind": "class"}):
    name: str
    kind: str
    pairs: list[tuple[str, str]]


class _Tasks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    texts: list[str]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    families: list[_Family]
    kinds: list[_Tasks]


def shipped() -> tuple[Text, ...]:
    """Return every labelled text that comes with epad."""
    file = resources.files("runners.intent") / "corpus.toml"
    return (*_of_wargame(), *read(file.read_text(encoding="utf-8"), "the shipped corpus.toml"))


def read(text: str, name: str) -> tuple[Text, ...]:
    """Read a file like corpus.toml. Raises CorpusError."""
    try:
        file = msgspec.toml.decode(text, type=_File)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise CorpusError(f"{name}: {error}") from error
    if file.version != VERSION:
        raise CorpusError(f"{name}: version {file.version} is not {VERSION}")
    names = [family.name for family in file.families]
    if twice := sorted({one for one in names if names.count(one) > 1}):
        raise CorpusError(f"{name}: family {twice[0]} is there twice: rename one of the two")
    texts = [
        Text(family.name, is_attack, family.kind if is_attack else "", words)
        for family in file.families
        for pair in family.pairs
        for is_attack, words in zip((True, False), pair, strict=True)
    ]
    texts += [Text(TASK + kind.name, False, kind.name, words) for kind in file.kinds for words in kind.texts]
    if empty := next((one for one in texts if not one.text.strip()), None):
        raise CorpusError(f"{name}: family {empty.family} has an empty text")
    return tuple(texts)


def class_of(category: str) -> str:
    """Return the class of attack that a category of the wargame's belongs to."""
    return _CLASSES.get(category, "injection")


def digest(texts: Iterable[Text]) -> str:
    """Return the SHA-256 of labelled texts, whatever their order."""
    each = sorted(msgspec.json.encode(one) for one in texts)
    return hashlib.sha256(b"\n".join(each)).hexdigest()


def families(texts: Sequence[Text]) -> list[str]:
    """Return the names of the families, sorted."""
    return sorted({one.family for one in texts})


def _of_wargame() -> Iterable[Text]:
    grammar = load_grammar()
    slots = {slot: words[0] for slot, words in grammar.slots.items() if words}
    for family in grammar.families:
        for one in family.instructions:
            attack, benign = (side.format(canary=_CANARY, **slots) for side in (one.attack, one.benign))
            yield Text(family.name, True, class_of(family.category), attack)
            yield Text(family.name, False, "", benign)
