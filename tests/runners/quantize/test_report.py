"""The report says what was measured, with n, and what it was measured on."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import matplotlib.legend
import pytest

from runners.quantize.report import plots
from runners.quantize.report.report import TOY_BANNER, Findings, card, markdown, outside, page

FIGURE = {"value": 1.5, "low": 1.0, "high": 2.0, "n": 64}


def manifest(predicted: float = 0.015) -> dict[str, Any]:
    layer = {"bits": 3, "bytes": 1000, "fisher": 0.01, "drift": 0.1}
    paired = {"increase_percent": FIGURE, "delta_nll": {**FIGURE, "value": 0.015, "low": 0.01, "high": 0.02}}
    measured = {"baseline_perplexity": 30.0, "perplexity": 30.5, "windows_worse": FIGURE, **paired}
    return {
        "settings": {"solver": "gptq", "group": 64, "storage": "gguf", "calibration_windows": 8, "window": 64},
        "inputs": {"model": "m" * 64, "evaluation": "e" * 64},
        "measured": measured,
        "predicted": {"delta_nll": predicted, "increase_percent": 1.4, "objective": 0.01, "gap": 0.0},
        "budget": {"layers": 1000, "weights": 1500, "total": 1500},
        "controls": {
            "noop": {"noop": 30.0, "baseline": 30.0},
            "positive": {"layer": "x", "hurts": False, **measured},
        },
        "divergence": {
            "window_kl": FIGURE, "window_agreement": FIGURE, "flipped": FIGURE, "confident": 1, "uncertain": 2,
            "verdict": "too few flips to tell (n=3)", "treat_next": ["x"],
        },
        "layers": {"model.layers.0.mlp.up_proj": layer, "model.layers.1.mlp.up_proj": {**layer, "bits": 8}},
        "inverted": [],
        "notes": [["fallback", "model.layers.0.mlp.up_proj", "rtn instead: <script>"]],
    }  # fmt: skip


def findings(weights: int = 1000) -> Findings:
    scores: list[dict[str, Any]] = [
        {"drift": 0.1, "fisher": 0.01, "kl": None},
        {"drift": 0.2, "fisher": 0.02, "kl": 0.01},
    ]
    return Findings(manifest(), scores, [[800, 0.3], [1000, 0.01]], [0.1, -0.1, 0.2], weights)


def test_every_figure_has_its_interval_and_n() -> None:
    """Small samples lie when they travel alone."""
    text = markdown(findings())
    assert "| increase | +1.50 % [+1.00, +2.00], n=64 |" in text
    assert "does NOT hurt" in text
    assert "| fallback: model.layers.0.mlp.up_proj | rtn instead: <script> |" in text


def test_a_toy_is_called_one() -> None:
    """In every form, and a model of use is not."""
    assert all(TOY_BANNER in make(findings()) for make in (markdown, page, card))
    assert not any(TOY_BANNER in make(findings(8_000_000_000)) for make in (markdown, page, card))


def test_a_prediction_that_does_not_hold_is_flagged() -> None:
    """Outside half and twice of the measured interval."""
    assert outside(manifest(0.015)) == ""
    assert "OUTSIDE" in outside(manifest(0.0049))
    assert "OUTSIDE" in outside(manifest(0.05))


def test_the_page_is_whole_and_escaped() -> None:
    """Four drawings that parse, no text that could act, and twice the same bytes."""
    made = page(findings())
    assert made == page(findings())
    assert made.count("<svg") == 4
    assert "<script>" not in made


def test_a_busy_machine_draws_without_complaint(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking for a legend's best place warns when it took a second, and warnings are errors here."""
    seconds = itertools.count(step=10)
    monkeypatch.setattr("matplotlib.legend.time.perf_counter", lambda: next(seconds))
    assert page(findings()).count("<svg") == 4


def test_a_users_own_style_changes_nothing() -> None:
    """A matplotlibrc is a taste, and equal reports are equal bytes."""
    plain = page(findings())
    with mpl.rc_context({"axes.grid": True, "font.size": 20, "svg.fonttype": "path", "svg.hashsalt": None}):
        assert page(findings()) == plain


@pytest.mark.parametrize(
    "drawn",
    [
        lambda: plots.bits_map(manifest()["layers"]), lambda: plots.signals(findings().scores),
        lambda: plots.deltas([0.1]), lambda: plots.pareto([[800, 0.3]], (800, 0.3)),
    ],
    ids=["bits", "signals", "deltas", "pareto"],
)  # fmt: skip
def test_drawings_are_well_formed(drawn: Callable[[], str]) -> None:
    """As XML, with the size that a page needs."""
    assert ET.fromstring(drawn()).get("viewBox")  # noqa: S314 - our own drawing
