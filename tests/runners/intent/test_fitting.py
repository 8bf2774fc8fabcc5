"""The classifier: what it is fitted to, the same each time, and the two ways of scoring that must agree."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import numpy as np
import pytest
from msgspec import structs

from runners.intent import needs
from runners.intent.corpus import digest, shipped
from runners.intent.embedding import EmbeddingError, WordLlama
from runners.intent.fitting import Classifier, FitError, Fitted, fit, folds_of
from runners.intent.words import Lookup, Vocabulary

# Told by the interpreter itself: each socket that is made, and each name that is looked up.
NO_NETWORK = """
import sys
tried = []
sys.addaudithook(lambda event, given: tried.append(event) if event.startswith("socket.") else None)
from runners.intent import cli, report, serve
from runners.intent.embedding import WordLlama
print(WordLlama.installed().embed(["print the private key"]).shape)
heavy = {"wordllama", "pydantic", "requests", "torch"}
print(tried, sorted({name.partition(".")[0] for name in sys.modules} & heavy))
import socket
socket.socket().close()
print(tried)
"""


def test_nothing_is_downloaded_and_the_package_is_never_imported() -> None:
    """Not a socket, not a name; the control at the end is counted."""
    ended = subprocess.run([sys.executable, "-c", NO_NETWORK], capture_output=True, text=True, check=False)
    assert ended.stdout.splitlines() == ["(1, 256)", "[] []", "['socket.__new__']"], ended.stderr


def test_a_missing_package_is_named_with_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is read."""
    assert needs.missing() == ""
    monkeypatch.setattr(needs, "PACKAGES", ("numpy", "no_such_thing"))
    assert needs.missing() == "no_such_thing not installed: pip install 'epad[intent]'"
    with pytest.raises(EmbeddingError, match="no_such_thing"):
        WordLlama.installed()


def test_embeddings_are_of_unit_length_and_of_the_text_alone(embedder: WordLlama) -> None:
    """Whatever stands beside it in a batch; a text without a token is nothing."""
    rows = embedder.embed(["sort the list", "", "a much longer text about something else entirely"])
    assert np.allclose(np.linalg.norm(rows, axis=1), [1, 0, 1])
    assert np.allclose(rows[0], embedder.embed(["sort the list"])[0])


def test_a_fit_is_the_same_each_time_and_says_what_it_rests_on(fitted: Fitted, embedder: WordLlama) -> None:
    """To the digest of its texts; and it is kept and read without loss."""
    some = [one for one in shipped() if one.family < "k"]
    assert fit(some, embedder) == fit(some, embedder)
    assert fitted.training_digest == digest(shipped())
    assert msgspec.json.decode(msgspec.json.encode(fitted), type=Fitted) == fitted


def test_it_tells_more_than_chance_on_held_out_families(fitted: Fitted) -> None:
    """And no more than it honestly can: a figure near 1 would be of texts that it has seen."""
    assert 0.75 < fitted.auc < 0.9
    assert fitted.low < 0 < fitted.high


def test_texts_it_was_fitted_to_are_mostly_told(fitted: Fitted, embedder: WordLlama) -> None:
    """No attack of them is called benign, and no twin an attack; and many are unsure."""
    verdicts = Classifier(fitted, embedder).judge([one.text for one in shipped()])
    found = {(one.is_attack, said.label) for one, said in zip(shipped(), verdicts, strict=True)}
    assert (True, "benign") not in found
    assert (False, "attack") not in found
    assert (True, "unsure") in found
    assert all(0 <= one.score <= 1 for one in verdicts)
    assert {one.group for one in verdicts if one.label == "unsure"} == {""}


def test_words_are_scored_as_their_rows_would_be() -> None:
    """The quick way and the wide one."""
    texts = ["sort the list", "the list the list", "no word of these", ""]
    vocabulary = Vocabulary.learnt(["sort the list", "sort a file"])
    weights = np.random.default_rng(1).normal(size=len(vocabulary.grams))
    assert np.allclose(Lookup(vocabulary, weights).scores(texts), vocabulary.rows(texts) @ weights)


def test_a_family_lies_in_one_fold() -> None:
    """As a whole, and each fold has some."""
    names = [one.family for one in shipped()]
    folds = folds_of(names)
    assert len(set(zip(names, folds, strict=True))) == len(set(names))
    assert len(set(folds)) == 13


def test_a_classifier_of_other_embeddings_is_refused(fitted: Fitted, embedder: WordLlama) -> None:
    """And so is one of another format."""
    for changed in (structs.replace(fitted, embedder_digest="0" * 64), structs.replace(fitted, format=2)):
        with pytest.raises(FitError, match="fit it anew"):
            Classifier(changed, embedder)


def test_too_few_texts_are_refused(embedder: WordLlama) -> None:
    """With how many there are."""
    with pytest.raises(FitError, match="do not suffice"):
        fit(shipped()[:10], embedder)
    with pytest.raises(FitError, match="0 of them attacks"):
        fit([one for one in shipped() if not one.is_attack], embedder)


def test_a_torn_file_of_weights_is_said() -> None:
    """With the fix."""
    with pytest.raises(EmbeddingError, match=r"weights cannot be read: .*install"):
        WordLlama(b"torn", b"{}")
