"""Report what the classifier can tell on families that it has not seen, beside what it must be compared with.

Every figure is of scores from fits without the text's family. Interval: 95 %, over resampled families.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Final

import numpy as np

from runners.intent.arrays import Flags, Matrix, Vector
from runners.intent.asked import windows
from runners.intent.corpus import TASK, Text, families, read
from runners.intent.embedding import Embedder
from runners.intent.fitting import ALARM_SHARE, MISS_SHARE, Classifier, Seen, fit, folds_of, scorer, see, span
from runners.intent.judging import (
    Bin,
    Interval,
    auc,
    band,
    calibration,
    gain,
    held_out,
    interval,
)
from runners.intent.linear import sigmoid

LONG_TEXTS: Final = 200
LONG_PARTS: Final = 12
_SHUFFLES: Final = 5


@dataclass(frozen=True, slots=True)
class Area:
    """Holds an area under the ROC curve with its interval, and the number of texts and families that it is of."""

    name: str
    interval: Interval
    texts: int
    families: int


@dataclass(frozen=True, slots=True)
class Report:
    """Holds the figures. Shares are of all texts of that label; `micros` is the time of one text."""

    areas: tuple[Area, ...]
    over_words: Interval
    attacks_called: dict[str, float]
    benign_called: dict[str, float]
    bins: tuple[Bin, ...]
    off: float
    classes_right: float
    classes_usual: float
    long_alarms: float
    long_area: float
    micros: float
    embedder: str

    def area(self, name: str) -> Interval:
        """Return the interval of one area."""
        return next(one.interval for one in self.areas if one.name == name)


OURS: Final = "embeddings and words"
TWINS: Final = "embeddings and words, twins only"
EMBEDDINGS: Final = "embeddings alone"
WORDS: Final = "words alone (TF-IDF)"
SHUFFLED: Final = "labels shuffled"
EASY: Final = "attacks beside plain tasks, no task learnt from"
LANGUAGES: Final = "German, French, Spanish"


def report(texts: Sequence[Text], embedder: Embedder, resamples: int = 2_000) -> Report:
    """Measure. Raises FitError, EmbeddingError."""
    seen = see(texts, embedder)
    names, attacks = seen.families, seen.attacks
    rows = {name: span(kernel)[0] for name, kernel in _kernels(seen).items()}
    found = {name: _scores(each, seen) for name, each in rows.items()}
    ours = found[OURS]

    def area(name: str, scores: Vector, kept: Flags) -> Area:
        inside = [one for one, is_kept in zip(names, kept, strict=True) if is_kept]
        got = interval(scores[kept], attacks[kept], inside, resamples)
        return Area(name, got, int(kept.sum()), len(set(inside)))

    everything: Flags = np.ones(len(attacks), dtype=bool)
    twins = np.array([not one.startswith(TASK) for one in names])
    areas = [area(OURS, ours, everything), area(TWINS, ours, twins)]
    areas += [area(name, found[name], everything) for name in (EMBEDDINGS, WORDS)]
    areas.append(area(SHUFFLED, _shuffled(rows[OURS], seen), everything))
    areas.append(area(EASY, _scores(rows[OURS], seen, twins), attacks | ~twins))
    areas.append(_languages(texts, embedder, resamples))
    called = band(ours, attacks, ALARM_SHARE, MISS_SHARE)
    labels = np.where(ours >= called.high, "attack", np.where(ours > called.low, "unsure", "benign"))
    bins, off = calibration(sigmoid(ours), attacks)
    right, usual = _classes(seen)
    alarms, long_area = _long(seen, embedder)
    return Report(
        areas=tuple(areas),
        over_words=gain(found[WORDS], ours, attacks, names, resamples),
        attacks_called=_shares(labels[attacks]),
        benign_called=_shares(labels[~attacks]),
        bins=tuple(bins),
        off=off,
        classes_right=right,
        classes_usual=usual,
        long_alarms=alarms,
        long_area=long_area,
        micros=micros(texts, embedder),
        embedder=embedder.name,
    )


def micros(texts: Sequence[Text], embedder: Embedder, rounds: int = 5) -> float:
    """Return the time that the judgement of one text takes, in microseconds: of the quickest round over all texts."""
    classifier, plain = Classifier(fit(texts, embedder), embedder), [one.text for one in texts]
    best = float("inf")
    for _ in range(rounds):
        begun = time.perf_counter()
        classifier.judge(plain)
        best = min(best, time.perf_counter() - begun)
    return 1e6 * best / len(plain)


def _kernels(seen: Seen) -> dict[str, Matrix]:
    embeddings, words = seen.embeddings @ seen.embeddings.T, seen.words @ seen.words.T
    return {OURS: embeddings + words, EMBEDDINGS: embeddings, WORDS: words}


def _scores(rows: Matrix, seen: Seen, learnt_from: Flags | None = None) -> Vector:
    """Return held-out scores; only the texts of `learnt_from` are learnt from, if it is given."""
    score = scorer(rows, seen.attacks.astype(float))

    def of_some(learnt: Sequence[int], asked: Sequence[int]) -> Vector:
        kept = learnt if learnt_from is None else [one for one in learnt if learnt_from[one]]
        return score(kept, asked)

    return held_out(folds_of(seen.families), of_some)


def _shuffled(rows: Matrix, seen: Seen) -> Vector:
    """Return the mean held-out score of fits to labels that chance has dealt out anew."""
    random, labels = np.random.default_rng(11), seen.attacks.astype(float)
    folds = folds_of(seen.families)
    return np.mean(
        [held_out(folds, scorer(rows, random.permutation(labels))) for _ in range(_SHUFFLES)], axis=0
    )


def _languages(texts: Sequence[Text], embedder: Embedder, resamples: int) -> Area:
    file = resources.files("runners.intent") / "languages.toml"
    others = read(file.read_text(encoding="utf-8"), "languages.toml")
    seen = see([*texts, *others], embedder)
    rows, _ = span(_kernels(seen)[OURS])
    count = len(texts)
    scores = scorer(rows, seen.attacks.astype(float))(range(count), range(count, len(seen.texts)))
    attacks = seen.attacks[count:]
    # Three families are too few to draw from: the pairs are drawn.
    pairs = [str(number // 2) for number in range(len(others))]
    return Area(LANGUAGES, interval(scores, attacks, pairs, resamples), len(others), len(families(others)))


def _classes(seen: Seen) -> tuple[float, float]:
    """Return the share of held-out attacks whose class was named rightly, and what the commonest class would give."""
    places = np.flatnonzero(seen.attacks)
    names = np.array([seen.texts[place].group for place in places])
    rows, known = seen.embeddings[places], sorted(set(names.tolist()))
    folds = folds_of([seen.families[place] for place in places])
    scores = np.stack([held_out(folds, scorer(rows, (names == one).astype(float))) for one in known])
    right = float(np.mean(np.array(known)[scores.argmax(axis=0)] == names))
    return right, max(Counter(names.tolist()).values()) / len(names)


def _long(seen: Seen, embedder: Embedder) -> tuple[float, float]:
    """Return the share of long benign texts that are called attacks, and the area with one attack hidden in others.

    Long texts are made of the benign texts and attacks of one half of the families, and the other half is learnt from.
    """
    kept = [int(fold) % 2 == 0 for fold in folds_of(seen.families)]
    learnt = [one for one, is_kept in zip(seen.texts, kept, strict=True) if is_kept]
    other = [one for one, is_kept in zip(seen.texts, kept, strict=True) if not is_kept]
    classifier, random = Classifier(fit(learnt, embedder), embedder), np.random.default_rng(5)
    benign, bad = ([one.text for one in other if one.is_attack == flag] for flag in (False, True))
    scores, alarms = list[float](), 0
    for number in range(2 * LONG_TEXTS):
        parts = random.choice(benign, LONG_PARTS).tolist()
        if hides := number % 2 == 1:
            parts[random.integers(LONG_PARTS)] = str(random.choice(bad))
        found = max(classifier.judge(windows(" ".join(parts))), key=lambda one: one.score)
        scores.append(found.score)
        alarms += found.label == "attack" and not hides
    return alarms / LONG_TEXTS, auc(np.array(scores), np.arange(2 * LONG_TEXTS) % 2 == 1)


def _shares(labels: Vector) -> dict[str, float]:
    return {name: float(np.mean(labels == name)) for name in ("attack", "unsure", "benign")}


def lines(found: Report) -> list[str]:
    """Return the report in words and figures, with what it cannot tell."""
    said = [f"Area under the ROC curve on held-out families, with its 95 % interval ({found.embedder})", ""]
    said += [
        f"  {one.name:50} {one.interval}  {one.texts} texts of {one.families} families" for one in found.areas
    ]
    said += [
        "",
        *_sentences(found),
        "",
        "Calibration: the chance as it was said, and the share of attacks",
        "",
    ]
    said += [f"  said {one.said:.2f}   true {one.true:.2f}   ({one.texts} texts)" for one in found.bins]
    said += [f"  off by {found.off:.3f} on average", "", f"One text takes {found.micros:.0f} us."]
    return said


def _sentences(found: Report) -> list[str]:
    ours, words = found.area(OURS), found.area(WORDS)
    better = "better than" if found.over_words.low > 0 else "not shown to be better than"
    overlap = "; the intervals overlap" if ours.overlaps(words) else ""
    right = f"is named rightly in {found.classes_right:.0%}; the commonest class would give {found.classes_usual:.0%}"
    by_kind = "Benign texts of a kind not learnt from are told by their kind as much as by their intent"
    alarms = f"of benign ones of {LONG_PARTS} parts {found.long_alarms:.0%} are called attacks"
    hidden = (
        f"with an attack among the parts the area is {found.long_area:.3f} (half of the families learnt from)"
    )
    one_hand = (
        "All texts are by one hand, with the wargame's templates: no figure here is of attacks by others"
    )
    signal = "or by people who know this classifier. It is a signal: nothing is let through or refused by it"
    return [
        f"- {OURS}: {better} words alone: the area differs by {found.over_words}{overlap}.",
        f"- Held-out attacks are called: {_called(found.attacks_called)}.",
        f"- Held-out benign texts are called: {_called(found.benign_called)}.",
        f"- The class of a held-out attack {right}.",
        f"- {EASY}: {found.area(EASY)}. {by_kind}.",
        f"- Other languages: {found.area(LANGUAGES)}. It has learnt none but English.",
        f"- Long texts: {alarms}; {hidden}.",
        f"- {one_hand}, {signal}.",
    ]


def _called(shares: dict[str, float]) -> str:
    return ", ".join(f"{share:.0%} {name}" for name, share in shares.items())
