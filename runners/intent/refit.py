"""Fit anew with the wargame's misses, and take the new fit only if it is better on families that neither has seen.

Both are judged on the texts that were there before. A family is held out with its misses, so a figure for a family is
never of a fit that has seen some of it. Better means that the whole 95 % interval of the difference, over families, is
above 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from runners.intent.arrays import Vector
from runners.intent.corpus import Text
from runners.intent.embedding import Embedder
from runners.intent.fitting import Fitted, fit, folds_of, scorer, see, span
from runners.intent.judging import Interval, gain, held_out


@dataclass(frozen=True, slots=True)
class Refit:
    """Holds how a fit with more texts compares. `fitted` is None where it is refused, and `why` says why."""

    added: int
    gain: Interval | None
    fitted: Fitted | None
    why: str


def refit(
    shipped: Sequence[Text], more: Sequence[Text], embedder: Embedder, added: Sequence[Text] = ()
) -> Refit:
    """Compare a fit with more texts to one without; `added` were learnt before. Raises FitError, EmbeddingError."""
    known = [*shipped, *added]
    there = {one.text for one in known}
    new = [one for one in more if one.text not in there]
    if not new:
        return Refit(0, None, None, "no text is new: every miss is among the texts that it was fitted to")
    found = compare(known, new, embedder)
    if found.low <= 0:
        return Refit(
            len(new),
            found,
            None,
            f"not better on held-out families: the area grows by {found}, and that interval holds 0",
        )
    fitted = fit(shipped, embedder, [*added, *new])
    return Refit(len(new), found, fitted, f"better on held-out families: the area grows by {found}")


def compare(known: Sequence[Text], new: Sequence[Text], embedder: Embedder) -> Interval:
    """Return how much the area on the known texts grows when the new ones are learnt from too."""
    seen = see([*known, *new], embedder)
    rows, _ = span(seen.embeddings @ seen.embeddings.T + seen.words @ seen.words.T)
    labels, attacks = seen.attacks.astype(float), seen.attacks
    folds = folds_of(seen.families)
    learn, old = scorer(rows, labels), np.arange(len(known))

    def without(learnt: Sequence[int], asked: Sequence[int]) -> Vector:
        return learn([one for one in learnt if one < len(known)], asked)

    before, after = held_out(folds, without)[old], held_out(folds, learn)[old]
    return gain(before, after, attacks[old], [one.family for one in known])
