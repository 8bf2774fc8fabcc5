"""`hsaq`: the quantizer's command line."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from runners.contract import Contract
from runners.quantize.fault import ControlError, ExportError, HsaqError, SettingsError
from runners.quantize.options import add_places, add_settings, cache_folder, settings_of
from runners.quantize.settings import Settings

if TYPE_CHECKING:
    from runners.quantize.variants import Variant

# Its windows are short, so it takes more of them than the usual 32.
DEMO: Final = Settings(calibration_windows=128, evaluation_windows=256, bits_per_weight=3.5)
NEEDED: Final = ("torch", "transformers", "safetensors", "scipy")


class Exit(IntEnum):
    """Names the exit statuses."""

    OK = 0
    FAILED = 1
    INVALID = 5
    INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Read the command line and do it."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except (ControlError, ExportError) as error:
        print(f"hsaq: INVALID: {error}", file=sys.stderr)
        return Exit.INVALID
    except HsaqError as error:
        print(f"hsaq: {error}", file=sys.stderr)
        return Exit.FAILED
    except KeyboardInterrupt:
        print("\nhsaq: stopped; the same command goes on where it was", file=sys.stderr)
        return Exit.INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hsaq",
        description="Mixed-precision quantization that spends bits where they hurt, and proves it.",
        epilog="exit status: 0 fine, 1 failed, 2 usage, 5 a control failed and the run is INVALID, "
        "130 interrupted: the same command goes on",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_demo(commands)
    _add_run(commands)
    status = _add(commands, "status", "show the progress of a run", _status)
    status.add_argument("work", type=Path)
    _add_variants(commands)
    diff = _add(commands, "diff", "print the differences of two manifests; status 1 if there are any", _diff)
    diff.add_argument("left", type=Path)
    diff.add_argument("right", type=Path)
    diff.add_argument("--all", action="store_true", help="every leaf, not only the layers")
    return parser


def _add(
    commands: Any, name: str, text: str, command: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=f"{text[0].upper()}{text[1:]}."
    )
    parser.set_defaults(command=command)
    return parser


def _add_variants(commands: Any) -> None:
    promote = _add(
        commands, "promote", "force layers up and see whether it helps, window by window", _promote
    )
    promote.add_argument("work", type=Path, help="folder of a finished run")
    promote.add_argument("--match", nargs="+", default=["o_proj", "down_proj"], help="(%(default)s)")
    promote.add_argument("--least", type=int, default=4, help="bits (%(default)s)")
    treat = _add(
        commands, "treat", "scale the worst layers by AWQ before quantizing, and see whether it helps", _treat
    )
    treat.add_argument("work", type=Path, help="folder of a finished run")
    treat.add_argument(
        "--treat", default="worst:9", help="worst:N, or names separated by commas (%(default)s)"
    )
    treat.add_argument("--solver", choices=("awq",), default="awq", help="(%(default)s)")
    for command in (promote, treat):
        command.add_argument("--cache", type=Path, default=None, help=f"scores ({cache_folder()})")
        command.add_argument("--json", action="store_true", help="JSON instead of text")


def _add_demo(commands: Any) -> None:
    demo = _add(commands, "demo", "train a small model on the standard library's text and quantize it", _demo)
    add_places(demo)
    add_settings(demo, DEMO)
    demo.set_defaults(bpw=0.0)
    demo.add_argument("--steps", type=int, default=None, help="of training; fewer make a worse model sooner")


def _add_run(commands: Any) -> None:
    run = _add(commands, "run", "quantize a model; goes on where it was", _run)
    run.add_argument("model", type=Path, help="folder of a transformers model in safetensors")
    run.add_argument("--calibration", type=Path, required=True, help="UTF-8 text to calibrate on")
    run.add_argument("--evaluation", type=Path, required=True, help="UTF-8 text to evaluate on; another one")
    run.add_argument("--dry-run", action="store_true", help="check everything, print the plan, do nothing")
    add_places(run)
    add_settings(run, Settings())


def _demo(options: argparse.Namespace) -> Exit:
    _need_libraries()
    from runners.quantize.demo.corpus import standard_library  # noqa: PLC0415 - torch, seconds
    from runners.quantize.demo.training import CALIBRATION_FILE, HELD_OUT_FILE, Recipe, trained  # noqa: PLC0415
    from runners.quantize.device import prepare_threads  # noqa: PLC0415
    from runners.quantize.reporter import Reporter  # noqa: PLC0415

    settings = settings_of(options, DEMO)
    if not settings.bits_per_weight and not settings.memory.ceiling_bytes:
        settings = replace(settings, bits_per_weight=DEMO.bits_per_weight)
    recipe = Recipe() if options.steps is None else Recipe(steps=options.steps)
    reporter = Reporter(Contract.from_environment(os.environ))
    reporter.say("demo: a toy trained here on the standard library's text; it is no language model of use")
    prepare_threads(settings.threads)
    corpus = standard_library()
    reporter.stage("train", recipe.steps)
    folder = trained(
        options.cache or cache_folder(), recipe, corpus, lambda _done, _all, text: reporter.step(0, text)
    )
    return _quantize(options, folder, (folder / CALIBRATION_FILE, folder / HELD_OUT_FILE), settings)


def _run(options: argparse.Namespace) -> Exit:
    _need_libraries()
    if options.calibration.resolve() == options.evaluation.resolve():
        raise SettingsError(
            "--calibration and --evaluation are the same file; a model must not be judged on it"
        )
    settings = settings_of(options, Settings())
    return _quantize(options, options.model, (options.calibration, options.evaluation), settings)


def _quantize(options: argparse.Namespace, model: Path, texts: tuple[Path, Path], settings: Settings) -> Exit:
    from runners.quantize.opening import opened  # noqa: PLC0415 - torch, seconds
    from runners.quantize.pipeline import run_all  # noqa: PLC0415
    from runners.quantize.preflight import preflight  # noqa: PLC0415
    from runners.quantize.report.summary import summary_lines  # noqa: PLC0415

    if getattr(options, "dry_run", False):
        return _dry_run(options, model, settings, preflight)
    with opened(options, model, texts, settings) as (run, executor):
        path = run_all(run, executor)
        for line in summary_lines(path):
            print(line)
    return Exit.OK


def _dry_run(
    options: argparse.Namespace, model: Path, settings: Settings, preflight: Callable[..., Any]
) -> Exit:
    """Only headers are read, nothing is written."""
    from runners.quantize.checkpoint import Checkpoint  # noqa: PLC0415
    from runners.quantize.network import empty_linears  # noqa: PLC0415
    from runners.quantize.run import narrowed  # noqa: PLC0415

    checkpoint = Checkpoint.open(model)
    layers = [layer for block in empty_linears(checkpoint) for layer in block]
    for line in preflight(checkpoint, layers, narrowed(settings, checkpoint), options.work).lines():
        print(line)
    return Exit.OK


def _promote(options: argparse.Namespace) -> Exit:
    _need_libraries()
    from runners.quantize.opening import reopened  # noqa: PLC0415 - torch, seconds
    from runners.quantize.variants import promoted, try_variant  # noqa: PLC0415

    with reopened(options.work, options.cache) as (run, bits):
        wanted = promoted(bits, options.match, options.least)
        found = try_variant(run, bits, wanted, frozenset(), run.here)
    return _say_variant(found, as_json=options.json)


def _treat(options: argparse.Namespace) -> Exit:
    _need_libraries()
    from runners.quantize.opening import reopened  # noqa: PLC0415 - torch, seconds
    from runners.quantize.variants import to_treat, try_variant  # noqa: PLC0415

    with reopened(options.work, options.cache) as (run, bits):
        treated = to_treat(options.treat, bits, run.cache.get(run.score_key()))
        found = try_variant(run, bits, bits, treated, run.here)
    return _say_variant(found, as_json=options.json)


def _say_variant(found: Variant, *, as_json: bool) -> Exit:
    from runners.quantize.report.summary import variant_lines  # noqa: PLC0415

    lines = [json.dumps(found.as_json(), indent=1)] if as_json else variant_lines(found.as_json())
    print("\n".join(lines))
    return Exit.OK


def _status(options: argparse.Namespace) -> Exit:
    from runners.quantize.journal import Journal  # noqa: PLC0415 - apsw

    file = options.work / "run.db"
    if not file.is_file():
        raise HsaqError(f"{file}: no run was begun here")
    journal = Journal(file)
    try:
        for stage, units, seconds, peak in journal.stages():
            print(f"{stage:20} {units:5} units {seconds:9.1f} s  peak {peak / (1 << 20):8,.0f} MiB")
        for note in journal.notes():
            print(f"{note.kind}: {note.layer}: {note.detail}")
    finally:
        journal.close()
    return Exit.OK


def _diff(options: argparse.Namespace) -> Exit:
    from runners.quantize import manifest  # noqa: PLC0415

    left, right = manifest.read(options.left), manifest.read(options.right)
    found = manifest.differences(left, right)
    for line in manifest.moved_layers(left, right):
        print(line)
    if options.all:
        for difference in found:
            print(f"{difference.where}: {json.dumps(difference.left)} | {json.dumps(difference.right)}")
    print(f"{len(found)} differences" if found else "no difference")
    return Exit.FAILED if found else Exit.OK


def _need_libraries() -> None:
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise HsaqError(f"{', '.join(missing)} missing; pip install 'epad[quantize]'")
