"""The few lines that end a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runners.quantize import manifest


def figure(values: dict[str, Any], unit: str = "", digits: int = 2) -> str:
    """A figure never travels without its interval and n."""
    return (
        f"{values['value']:+.{digits}f}{unit} "
        f"[{values['low']:+.{digits}f}, {values['high']:+.{digits}f}], n={values['n']}"
    )


def summary_lines(path: Path) -> list[str]:
    """Size, loss expected and measured, controls, and where everything is."""
    found = manifest.read(path)
    layers, budget, measured = found["layers"], found["budget"], found["measured"]
    by_bits: dict[int, int] = {}
    for values in layers.values():
        by_bits[values["bits"]] = by_bits.get(values["bits"], 0) + 1
    spread = ", ".join(f"{count} at {bits}" for bits, count in sorted(by_bits.items()))
    gap = found["predicted"]["gap"]
    proof = "" if gap is None else f"; allocation at most {gap:.2%} from the best"
    before, after = measured["baseline_perplexity"], measured["perplexity"]
    return [
        f"layers      {budget['layers']:,} bytes of at most {budget['limit_layers']:,}; bits: {spread}",
        f"weights     {budget['weights']:,} bytes in the export",
        f"perplexity  {before:.4f} -> {after:.4f}, {figure(measured['increase_percent'], ' %')}",
        f"predicted   {found['predicted']['increase_percent']:+.2f} %{proof}",
        f"controls    {', '.join(sorted(found['controls']))}: passed",
        f"manifest    {path}",
    ]


def variant_lines(found: dict[str, Any]) -> list[str]:
    """Format the effect of a change, with the intervals that tell how sure it is."""
    helped = found["windows_helped"]
    return [
        f"changed     {len(found['changed'])} layers, {found['extra_bytes']:+,} bytes",
        f"before      {figure(found['before']['increase_percent'], ' %')}",
        f"after       {figure(found['after']['increase_percent'], ' %')}",
        f"change      {figure(found['change']['increase_percent'], ' %', 3)}: {found['verdict']}",
        f"windows     {helped['value']:.1%} helped [{helped['low']:.1%}, {helped['high']:.1%}], n={helped['n']}",
    ]
