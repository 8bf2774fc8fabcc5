"""The report: its figures have their controls, and its words say what it cannot tell."""

from __future__ import annotations

import pytest

from runners.intent import report as figures
from runners.intent.corpus import shipped
from runners.intent.embedding import WordLlama
from runners.intent.judging import Interval
from runners.intent.report import Report, lines, report

pytestmark = pytest.mark.long  # nine seconds of a core


@pytest.fixture(scope="module")
def found(embedder: WordLlama) -> Report:
    return report(shipped(), embedder, resamples=200)


def test_it_stands_above_its_control_and_its_control_at_a_half(found: Report) -> None:
    """Shuffled labels teach nothing; and a figure near 1 would be of texts that were seen."""
    ours, blind = found.area(figures.OURS), found.area(figures.SHUFFLED)
    assert blind.low <= 0.5 <= blind.high
    assert blind.high < ours.low < ours.value < ours.high < 0.9
    assert found.area(figures.EMBEDDINGS).value < ours.value


def test_the_bands_shares_are_near_what_they_promise(found: Report) -> None:
    """On the texts that they were chosen on."""
    assert found.benign_called["attack"] <= 0.05
    assert found.attacks_called["benign"] <= 0.10
    assert sum(found.attacks_called.values()) == pytest.approx(1.0)
    assert found.attacks_called["attack"] > 4 * found.benign_called["attack"]


def test_what_it_cannot_tell_is_said(found: Report) -> None:
    """In words, with the figures."""
    text = "\n".join(lines(found))
    assert "not shown to be better than words alone" in text
    assert "the intervals overlap" in text
    for words in (
        "Other languages: ",
        "It has learnt none but English",
        "Long texts: ",
        "by one hand",
        "a signal",
    ):
        assert words in text
    assert found.area(figures.LANGUAGES).high < 0.8
    assert found.long_area < 0.75
    assert "472 texts of 52 families" in text


def test_better_is_said_only_if_all_of_the_interval_is_above_nothing(found: Report) -> None:
    """Planted: a gain whose interval holds 0, and one whose does not."""
    fields = {name: getattr(found, name) for name in found.__dataclass_fields__}
    for low, words in ((-0.001, "not shown to be better than"), (0.001, ": better than")):
        planted = Report(**{**fields, "over_words": Interval(0.05, low, 0.1)})
        assert words in "\n".join(lines(planted))
