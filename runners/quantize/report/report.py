"""The report: one story in Markdown, the same in HTML with plots, and a model card for the export's folder."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from runners import durable
from runners.quantize.report import plots
from runners.quantize.report.summary import figure

TOY_WEIGHTS: Final = 50_000_000
"""Below this many weights a model is a toy, and the report says so at its head."""

TOY_BANNER: Final = "Measured on a toy model: nothing here says what a model of use would do."

STYLE: Final = (
    "body{font:16px/1.5 system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse}td,th{border:1px solid #999;padding:.2rem .5rem;text-align:left}"
    "svg{max-width:100%;height:auto}.toy{background:#fe9;padding:.5rem}"
)


@dataclass(frozen=True, slots=True)
class Findings:
    """Holds the findings of a finished run, for the report."""

    manifest: Mapping[str, Any]
    scores: Sequence[Mapping[str, Any]]
    pareto: Sequence[Sequence[float]]
    window_deltas: Sequence[float]
    weights: int

    @property
    def is_toy(self) -> bool:
        return self.weights < TOY_WEIGHTS


def write_report(folder: Path, findings: Findings) -> None:
    """`report.md`, `report.html` and `MODEL_CARD.md` in the run's folder."""
    durable.write_text(folder / "report.md", markdown(findings))
    durable.write_text(folder / "report.html", page(findings))
    durable.write_text(folder / "MODEL_CARD.md", card(findings))


def tables(found: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Headings, and under each its figures; every measured one with interval and n."""
    measured, budget, divergence = found["measured"], found["budget"], found["divergence"]
    predicted, controls = found["predicted"], found["controls"]
    rows = [
        ("perplexity as it was", f"{measured['baseline_perplexity']:.4f}"),
        ("perplexity quantized", f"{measured['perplexity']:.4f}"),
        ("increase", figure(measured["increase_percent"], " %")),
        ("increase predicted", f"{predicted['increase_percent']:+.2f} %{outside(found)}"),
        ("windows worse", figure(measured["windows_worse"], "")),
        ("KL divergence, nats a token", figure(divergence["window_kl"], "", 4)),
        ("equal first choice", figure(divergence["window_agreement"], "", 4)),
    ]
    sizes = [(name.replace("_", " "), f"{budget[name]:,} bytes") for name in budget if budget[name]]
    said = [
        (
            "no-op control",
            f"{controls['noop']['noop']:.6f} where the baseline has {controls['noop']['baseline']:.6f}",
        ),
        *([("positive control", _positive(controls["positive"]))] if "positive" in controls else []),
    ]
    told = [
        ("prompts whose next token changed", figure(divergence["flipped"], "")),
        ("of these confident, uncertain", f"{divergence['confident']}, {divergence['uncertain']}"),
        ("verdict", divergence["verdict"]),
        ("layers to treat next", ", ".join(divergence["treat_next"])),
        ("inverted layers", _inverted(found["inverted"])),
    ]
    notes = [(f"{kind}: {layer}", detail) for kind, layer, detail in found["notes"]]
    named = [
        ("What it costs", rows),
        ("Size", sizes),
        ("Controls", said),
        ("Diagnosis", told),
        ("Notes", notes),
    ]
    return [(heading, lines) for heading, lines in named if lines]


def outside(found: Mapping[str, Any]) -> str:
    """Return a flag where the measured loss is not within half and twice the predicted."""
    predicted, measured = found["predicted"]["delta_nll"], found["measured"]["delta_nll"]
    inside = measured["low"] <= 2 * predicted and measured["high"] >= predicted / 2
    return "" if inside else " (OUTSIDE 0.5-2 x of what was measured: the prediction does not hold here)"


def _positive(control: Mapping[str, Any]) -> str:
    hurts = "hurts" if control["hurts"] else "moves predictions but does NOT hurt: is the model trained?"
    return f"{control['layer']} at the fewest bits {hurts}: {figure(control['increase_percent'], ' %')}"


def _inverted(found: Sequence[Mapping[str, Any]]) -> str:
    if not found:
        return "none: drift falls with bits everywhere; the source's inversions were not reproduced here"
    return "; ".join(
        f"{f['layer']} {f['bits'][0]} to {f['bits'][1]} bits: drift x {f['drift_ratio']:.2f}" for f in found
    )


def markdown(findings: Findings) -> str:
    """Without plots."""
    lines = ["# HSAQ report", ""]
    if findings.is_toy:
        lines += [f"> {TOY_BANNER}", ""]
    for heading, rows in tables(findings.manifest):
        lines += [
            f"## {heading}",
            "",
            "| | |",
            "|---|---|",
            *(f"| {name} | {text} |" for name, text in rows),
            "",
        ]
    layers = findings.manifest["layers"]
    lines += ["## Layers", "", "| layer | bits | bytes | Fisher, nats | drift |", "|---|---|---|---|---|"]
    for name, values in layers.items():
        scores = f"{values.get('fisher', 0):.3g} | {values.get('drift', 0):.3g}"
        lines.append(f"| {name} | {values['bits']} | {values['bytes']:,} | {scores} |")
    return "\n".join(lines) + "\n"


def page(findings: Findings) -> str:
    """Render one file that needs nothing else."""
    found = findings.manifest
    parts = [
        f"<!doctype html><meta charset=utf-8><title>HSAQ report</title><style>{STYLE}</style><h1>HSAQ report</h1>"
    ]
    if findings.is_toy:
        parts.append(f"<p class=toy>{TOY_BANNER}</p>")
    for heading, rows in tables(found):
        cells = "".join(f"<tr><th>{html.escape(a)}</th><td>{html.escape(b)}</td></tr>" for a, b in rows)
        parts.append(f"<h2>{heading}</h2><table>{cells}</table>")
    chosen = (found["budget"]["layers"], found["predicted"]["objective"])
    drawn = [
        ("Bits", plots.bits_map(found["layers"])),
        ("Signals", plots.signals(findings.scores)),
        ("Size against predicted loss", plots.pareto(findings.pareto, chosen)),
        ("Change of each window's loss", plots.deltas(findings.window_deltas)),
    ]
    parts += [f"<h2>{heading}</h2>{svg}" for heading, svg in drawn]
    return "\n".join(parts) + "\n"


def card(findings: Findings) -> str:
    """Render the facts a stranger needs before loading the export."""
    found = findings.manifest
    settings, measured = found["settings"], found["measured"]
    return "\n".join(
        [
            "# Model card",
            "",
            *([f"> {TOY_BANNER}", ""] if findings.is_toy else []),
            f"- quantized by hsaq: {settings['solver']}, groups of {settings['group']}, format {settings['storage']}",
            f"- from weights with SHA-256 {found['inputs']['model']}",
            f"- {found['budget']['weights']:,} bytes of weights; bits by layer in manifest.json",
            f"- perplexity {figure(measured['increase_percent'], ' %')} on the evaluation text",
            f"- evaluation text: SHA-256 {found['inputs']['evaluation']}",
            f"- calibrated on {settings['calibration_windows']} windows of {settings['window']} tokens",
            "- who loads it: docs/hsaq.md, section Formats",
            "",
        ]
    )
