"""The labelled texts: their sizes, twins that share the attack's words, and files that are refused by their place."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from runners.intent.corpus import TASK, CorpusError, digest, families, read, shipped

TEXTS = shipped()
PAIR = '[[families]]\nname = "one"\nclass = "injection"\npairs = [["a bad one", "a good one"]]\n'


def test_the_sizes_are_those_that_the_documents_say() -> None:
    """472 texts: 188 attacks of 44 families with a twin each, and 96 tasks of 8 kinds."""
    tasks = [one for one in TEXTS if one.family.startswith(TASK)]
    attacks = [one for one in TEXTS if one.is_attack]
    assert (len(TEXTS), len(attacks), len(tasks)) == (472, 188, 96)
    assert len(families(TEXTS)) == 52
    assert len({one.family for one in attacks}) == 44
    assert Counter(one.group for one in tasks).most_common(1)[0][1] == 12
    assert len({one.text for one in TEXTS}) == len(TEXTS)


def test_a_twin_is_as_long_as_its_attack_and_has_its_words() -> None:
    """So that words alone do not tell them apart: most of the words of an attack are in its twin."""
    pairs = [(one.text, TEXTS[at + 1].text) for at, one in enumerate(TEXTS) if one.is_attack]
    shares = []
    for attack, twin in pairs:
        shorter, longer = sorted((len(attack), len(twin)))
        assert shorter > 0.7 * longer, attack
        words = set(re.findall(r"\w+", attack.lower()))
        shares.append(len(words & set(re.findall(r"\w+", twin.lower()))) / len(words))
    assert sum(shares) / len(shares) > 0.6
    assert min(shares) > 0.25


def test_a_family_is_of_one_class() -> None:
    """It is held out as a whole."""
    classes = {(one.family, one.group) for one in TEXTS if one.is_attack}
    assert len(classes) == len({family for family, _ in classes})


def test_the_digest_is_of_the_texts_and_labels_in_any_order() -> None:
    """Another label of one text is another training."""
    some = list(TEXTS[:4])
    assert digest(some) == digest(reversed(some))
    other = [some[1].__class__(one.family, not one.is_attack, one.group, one.text) for one in some[:1]]
    assert digest([*other, *some[1:]]) != digest(some)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("version = 2\nfamilies = []\nkinds = []", "version 2 is not 1"),
        ("version = 1\nkinds = []\n", "families"),
        ("version = 1\nkinds = []\n" + PAIR + PAIR, "family one is there twice"),
        ("version = 1\nkinds = []\n" + PAIR.replace("a bad one", "  "), "family one has an empty text"),
        ("version = 1\nkinds = []\n" + PAIR.replace('class = "injection"', "kind = 1"), "families"),
        ("version = ", "here.toml"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_its_place(text: str, words: str) -> None:
    """With the file's name and what is wrong."""
    with pytest.raises(CorpusError, match=words) as raised:
        read(text, "here.toml")
    assert str(raised.value).startswith("here.toml: ")
