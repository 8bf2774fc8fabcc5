"""Fit a classifier of intents to labelled texts: attack or not with a band of "unsure", and the group of each.

A text is seen as its embedding beside its words (`words.py`); on the shipped texts the two together tell more than
the embedding alone (`report.py` has the figures). All figures are of scores that a family got from fits without it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np

from runners.intent.arrays import Flags, Matrix, Vector
from runners.intent.corpus import TASK, Text, digest, families
from runners.intent.embedding import Embedder, EmbeddingError
from runners.intent.judging import Scorer, auc, band, held_out
from runners.intent.linear import groups, logistic, scores, sigmoid
from runners.intent.words import Lookup, Vocabulary

FORMAT: Final = 1
FOLDS: Final = 13
ALARM_SHARE: Final = 0.05
"""Of benign texts like the learnt ones at most so many are called attacks."""
MISS_SHARE: Final = 0.10
"""Of attacks like the learnt ones at most so many are called benign; what lies between is "unsure"."""
_SMALL: Final = 1e-9


class FitError(Exception):
    """The texts do not suffice for a fit, or a fit does not suit its model; the message says why."""


class Fitted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Holds a classifier, with what it was fitted to. `auc` is of held-out families.

    `added` are the texts that it learnt beside those that come with epad: a later fit learns from them too.
    """

    format: int
    embedder: str
    embedder_digest: str
    training_digest: str
    texts: int
    attacks: int
    families: int
    auc: float
    low: float
    high: float
    bias: float
    embedding: tuple[float, ...]
    vocabulary: Vocabulary
    words: tuple[float, ...]
    attack_classes: tuple[str, ...]
    attack_weights: tuple[tuple[float, ...], ...]
    kinds: tuple[str, ...]
    kind_weights: tuple[tuple[float, ...], ...]
    added: tuple[Text, ...] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """Holds labelled texts as rows: the embeddings, the words, and both turned into one narrow space."""

    texts: tuple[Text, ...]
    embeddings: Matrix
    vocabulary: Vocabulary
    words: Matrix

    @property
    def attacks(self) -> Flags:
        return np.array([one.is_attack for one in self.texts])

    @property
    def families(self) -> list[str]:
        return [one.family for one in self.texts]


def see(texts: Sequence[Text], embedder: Embedder) -> Seen:
    """Turn texts into rows. The weights of words are of all texts, which tells no label. Raises EmbeddingError."""
    plain = [one.text for one in texts]
    vocabulary = Vocabulary.learnt(plain)
    return Seen(tuple(texts), embedder.embed(plain), vocabulary, vocabulary.rows(plain))


def folds_of(names: Sequence[str], count: int = FOLDS) -> list[str]:
    """Return the fold of each text: a family lies in one fold as a whole, and chance that is fixed says in which."""
    known = sorted(set(names))
    order = np.random.default_rng(1).permutation(len(known))
    fold = {known[place]: str(number % count) for number, place in enumerate(order)}
    return [fold[name] for name in names]


def span(kernel: Matrix) -> tuple[Matrix, Matrix]:
    """Return rows whose products are the kernel's entries, and what turns the features behind it into such rows.

    A ridge regression is the same there as on the features, of which there are many more than texts.
    """
    sizes, directions = np.linalg.eigh(kernel)
    kept = sizes > _SMALL
    roots = np.sqrt(sizes[kept])
    return directions[:, kept] * roots, directions[:, kept] / roots


def scorer(rows: Matrix, labels: Vector) -> Scorer:
    """Return what learns from some rows and scores others."""

    def score(learnt: Sequence[int], asked: Sequence[int]) -> Vector:
        weights, bias = logistic(rows[list(learnt)], labels[list(learnt)])
        return rows[list(asked)] @ weights + bias

    return score


def fit(shipped: Sequence[Text], embedder: Embedder, added: Sequence[Text] = ()) -> Fitted:
    """Fit a classifier to the texts that come with epad and to some more. Raises FitError, EmbeddingError."""
    texts = [*shipped, *added]
    attacks = sum(one.is_attack for one in texts)
    if not 0 < attacks < len(texts) or len(families(texts)) < FOLDS:
        raise FitError(
            f"{len(texts)} texts, {attacks} of them attacks, of {len(families(texts))} families do not suffice: "
            f"there must be both kinds, and {FOLDS} families"
        )
    seen = see(texts, embedder)
    rows, turn = span(seen.embeddings @ seen.embeddings.T + seen.words @ seen.words.T)
    labels = seen.attacks.astype(float)
    left_out = held_out(folds_of(seen.families), scorer(rows, labels))
    weights, bias = logistic(rows, labels)
    unsure = band(left_out, seen.attacks, ALARM_SHARE, MISS_SHARE)
    classes, class_weights = _grouped(seen, lambda one: one.is_attack)
    kinds, kind_weights = _grouped(seen, lambda one: one.family.startswith(TASK))
    return Fitted(
        format=FORMAT,
        embedder=embedder.name,
        embedder_digest=embedder.digest,
        training_digest=digest(texts),
        texts=len(texts),
        attacks=attacks,
        families=len(families(texts)),
        auc=auc(left_out, seen.attacks),
        low=unsure.low,
        high=unsure.high,
        bias=bias,
        embedding=tuple((seen.embeddings.T @ (turn @ weights)).tolist()),
        vocabulary=seen.vocabulary,
        words=tuple((seen.words.T @ (turn @ weights)).tolist()),
        attack_classes=classes,
        attack_weights=class_weights,
        kinds=kinds,
        kind_weights=kind_weights,
        added=tuple(added),
    )


def _grouped(
    seen: Seen, wanted: Callable[[Text], bool]
) -> tuple[tuple[str, ...], tuple[tuple[float, ...], ...]]:
    """Fit the groups of some of the texts, on embeddings alone."""
    places = [place for place, one in enumerate(seen.texts) if wanted(one)]
    if not places:
        return (), ()
    known, weights = groups(seen.embeddings[places], [seen.texts[place].group for place in places])
    return known, tuple(tuple(row) for row in weights.tolist())


class Verdict(msgspec.Struct, frozen=True):
    """Says what a text seems to be for.

    `label` is attack, benign or unsure; `group` the class of attack or the kind of task it is nearest to, empty where
    none is near; `score` the chance of an attack as the classifier puts it, which is calibrated on its own texts only.
    """

    label: str
    group: str
    score: float


class Classifier:
    """Judges texts. Raises FitError if the classifier was fitted to other embeddings."""

    def __init__(self, fitted: Fitted, embedder: Embedder) -> None:
        if fitted.format != FORMAT or fitted.embedder_digest != embedder.digest:
            raise FitError(
                f"the classifier was fitted to {fitted.embedder} {fitted.embedder_digest[:12]} in format "
                f"{fitted.format}, and here is {embedder.name} {embedder.digest[:12]}: fit it anew"
            )
        self.fitted = fitted
        self._embedder = embedder
        self._vocabulary = Lookup(fitted.vocabulary, np.array(fitted.words))
        self._embedding = np.array(fitted.embedding)
        self._classes, self._kinds = np.array(fitted.attack_weights), np.array(fitted.kind_weights)

    def judge(self, texts: Sequence[str]) -> list[Verdict]:
        """Judge each text. Raises EmbeddingError."""
        if not texts:
            return []
        rows: Matrix = self._embedder.embed(texts)
        if rows.shape[1] != len(self._embedding):
            raise EmbeddingError(f"{self._embedder.name} gives {rows.shape[1]} numbers a text, not as before")
        found: Vector = rows @ self._embedding + self._vocabulary.scores(texts) + self.fitted.bias
        chances: Vector = sigmoid(found)
        return [self._verdict(*one) for one in zip(rows, found.tolist(), chances.tolist(), strict=True)]

    def _verdict(self, row: Vector, found: float, chance: float) -> Verdict:
        fitted = self.fitted
        if found >= fitted.high:
            return Verdict("attack", _nearest(row, fitted.attack_classes, self._classes), chance)
        if found > fitted.low:
            return Verdict("unsure", "", chance)
        return Verdict("benign", _nearest(row, fitted.kinds, self._kinds), chance)


def _nearest(row: Vector, names: Sequence[str], weights: Matrix) -> str:
    """Return the group of the highest score; none if each is more likely not than so."""
    if not names:
        return ""
    found = scores(row[None, :], weights)[0]
    best = int(found.argmax())
    return names[best] if found[best] > 0 else ""
