"""The stages in their order, from a model's folder to a checked export and its manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from runners.quantize import manifest, sizes
from runners.quantize.allocation.exact import pareto
from runners.quantize.allocation.problem import NANO, Allocation, Problem
from runners.quantize.cache import ScoreRow
from runners.quantize.executor import Executor
from runners.quantize.export.exporting import export_and_check
from runners.quantize.preflight import preflight
from runners.quantize.report.report import Findings, write_report
from runners.quantize.run import Run
from runners.quantize.stages import evaluate as evaluating
from runners.quantize.stages.allocate import predicted, problem, solve
from runners.quantize.stages.diagnose import diagnose, inversions
from runners.quantize.stages.fork import profile_kl
from runners.quantize.stages.profile import profile
from runners.quantize.stages.quantize import QuantizedBlocks, quantize
from runners.quantize.storage import UNQUANTIZED

MANIFEST: Final = "manifest.json"
PARETO_POINTS: Final = 12


@dataclass(frozen=True, slots=True)
class Planned:
    """Holds the decision of the allocation, and its inputs."""

    rows: Mapping[tuple[str, int], ScoreRow]
    kl: Mapping[tuple[str, int], float]
    problem: Problem
    allocation: Allocation


def plan(run: Run, executor: Executor) -> Planned:
    """Profile and allocate. Where the cache holds every score, not one forward pass is done."""
    rows = profile(run, executor)
    kl = profile_kl(run) if run.settings.signal == "kl" else {}
    posed = problem(run, rows, kl)
    allocation = solve(run, posed)
    run.workspace.journal.put("pareto", [[a.size_bytes, a.loss / NANO] for a in pareto(posed, PARETO_POINTS)])
    return Planned(rows, kl, posed, allocation)


def run_all(run: Run, executor: Executor) -> Path:
    """Run every stage; return the manifest's path. Committed units are not done again."""
    preflight(run.checkpoint, run.layers, run.settings, run.workspace.folder)
    planned = plan(run, executor)
    bits = planned.allocation.bits
    quantize(run, bits, executor)
    blocks = QuantizedBlocks.of(run, bits)
    blocks.check(run.network)
    controls = run_controls(run, planned, executor)
    losses = evaluating.evaluate(run, "evaluate-quantized", blocks.overrides)
    measured = evaluating.compare(run, losses)
    journal = run.workspace.journal
    journal.put("controls", controls)
    journal.put("measured", measured.as_json())
    journal.put("divergence", diagnose(run, blocks, losses, planned))
    exported = export_and_check(run, blocks)
    path = run.workspace.folder / MANIFEST
    told = content(run, planned, blocks, exported)
    manifest.write(path, told)
    write_report(run.workspace.folder, findings(run, planned, told, losses.nll))
    return path


def findings(run: Run, planned: Planned, told: Mapping[str, Any], losses: Sequence[float]) -> Findings:
    """Gather the findings for the report."""
    rows = planned.rows.values()
    scores = [{"drift": r.drift, "fisher": r.fisher, "kl": planned.kl.get((r.layer, r.bits))} for r in rows]
    before = evaluating.baseline(run).nll
    return Findings(
        manifest=told,
        scores=scores,
        pareto=run.workspace.journal.get("pareto"),
        window_deltas=[after - was for was, after in zip(before, losses, strict=True)],
        weights=sizes.parameters(run.checkpoint, run.layers),
    )


def run_controls(run: Run, planned: Planned, executor: Executor) -> dict[str, Any]:
    """The no-op control through the same stages, and the positive control; either failing ends the run."""
    untouched = dict.fromkeys(planned.allocation.bits, UNQUANTIZED)
    quantize(run, untouched, executor, "noop")
    blocks = QuantizedBlocks.of(run, untouched, "noop")
    limit = evaluating.CONTROL_WINDOWS
    evaluating.baseline(run)
    losses = evaluating.evaluate(run, "evaluate-noop", blocks.overrides, limit)
    controls = {"noop": evaluating.check_noop(run, losses)}
    scored = [key for key in planned.rows if key[1] == min(run.settings.bits)]
    if scored:
        layer = max(scored, key=lambda key: planned.rows[key].fisher)[0]
        hurt = evaluating.evaluate(run, "evaluate-damaged", evaluating.damaged(run, layer), limit)
        controls["positive"] = evaluating.check_positive(run, layer, hurt)
    return controls


def content(
    run: Run, planned: Planned, blocks: QuantizedBlocks, exported: Mapping[str, Any]
) -> dict[str, Any]:
    """Build the manifest. Nothing in it depends on when or how often the run was interrupted."""
    settings, allocation, journal = run.settings, planned.allocation, run.workspace.journal
    expected = predicted(allocation, planned.rows)
    items = sizes.itemise(run.checkpoint, run.layers, allocation.size_bytes, settings.memory)
    return {
        "inputs": {name: value for name, value in run.identity.items() if name != "settings"},
        "settings": settings.as_json(),
        "budget": {**items.as_json(), "limit_layers": planned.problem.limit_bytes},
        "predicted": {**expected, "increase_percent": evaluating.percent(expected["delta_nll"])},
        "measured": journal.get("measured"),
        "controls": journal.get("controls"),
        "divergence": journal.get("divergence"),
        "layers": {layer: _layer(run, planned, layer) for layer in run.layers},
        "inverted": [f.as_json() for f in inversions(planned.rows)],
        "notes": [[note.kind, note.layer, note.detail] for note in journal.notes()],
        "quantized_sha256": blocks.digests(),
        "exports": exported,
    }


def _layer(run: Run, planned: Planned, layer: str) -> dict[str, Any]:
    bits = planned.allocation.bits[layer]
    values: dict[str, Any] = {
        "bits": bits,
        "bytes": sizes.layer_bytes(run.checkpoint, run.settings.format, layer, bits, run.settings.group),
    }
    row = planned.rows.get((layer, bits))
    if row is not None:
        values |= {"drift": row.drift, "fisher": row.fisher, "imatrix": row.imatrix}
    if (layer, bits) in planned.kl:
        values["kl"] = planned.kl[layer, bits]
    return values
