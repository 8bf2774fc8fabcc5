"""`wargame teach`, `wargame dpo export` and `wargame dpo check`: from mistakes to preference data."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

from runners import durable
from runners.wargame.commands.arguments import Commands, add_plan, add_store, count
from runners.wargame.commands.exits import Exit
from runners.wargame.commands.look import opened
from runners.wargame.configuration import Plan, resolve
from runners.wargame.endpoint.opening import open_pool
from runners.wargame.locking import StoreError
from runners.wargame.store import RunRow, Store
from runners.wargame.training.check import check
from runners.wargame.training.dpo import DEFAULT_MAX_TOKENS, DEFAULT_PER_FAMILY, Export, Format, Gates, export
from runners.wargame.training.teacher import Teacher, teach


def add(commands: Commands) -> None:
    """Add the commands to the parser."""
    teaching = commands.add_parser("teach", help="let the teacher answer every miss and false alarm")
    teaching.set_defaults(command=ask_teacher)
    add_store(teaching)
    add_plan(teaching)
    dpo = commands.add_parser("dpo", help="write preference data from the taught verdicts")
    parts = dpo.add_subparsers(required=True, metavar="COMMAND")
    exporting = parts.add_parser("export", help="write train, validation, format errors and a manifest")
    exporting.set_defaults(command=write_export)
    add_store(exporting)
    exporting.add_argument("--out", type=Path, required=True, help="a folder")
    exporting.add_argument("--format", choices=get_args(Format), default="conversational")
    exporting.add_argument("--per-family", type=count, default=DEFAULT_PER_FAMILY)
    exporting.add_argument("--max-tokens", type=count, default=DEFAULT_MAX_TOKENS, help="TRL's max_length")
    exporting.add_argument(
        "--include-evaluate",
        action="store_true",
        help="also of the families that the headline is measured on",
    )
    exporting.add_argument("--include-embedded", action="store_true", help="although no language model erred")
    checking = parts.add_parser("check", help="read preference files as a trainer would")
    checking.set_defaults(command=check_files)
    checking.add_argument("files", nargs="+", type=Path)
    checking.add_argument("--max-tokens", type=count, default=DEFAULT_MAX_TOKENS)


def ask_teacher(options: argparse.Namespace) -> Exit:
    """Ask, and count the results; failed ones are asked again by the next call."""
    plan = resolve(options)
    with opened(options.store, options.run, readonly=False) as (store, run):
        counted = asyncio.run(_teach(plan, store, run))
    print(json.dumps(counted) if options.json else _counts(counted))
    return Exit.FAILED if any(outcome.startswith("error:") for outcome in counted) else Exit.OK


async def _teach(plan: Plan, store: Store, run: RunRow) -> Counter[str]:
    teacher = Teacher(plan.teacher.model, plan.teacher.endpoint, plan.teacher.sees_label)
    async with open_pool(plan.endpoints, plan.limits) as pool:
        return await teach(store, run, teacher, pool, plan.limits)


def _counts(counted: Counter[str]) -> str:
    return (
        ", ".join(f"{outcome} {number}" for outcome, number in sorted(counted.items())) or "nothing to teach"
    )


def write_export(options: argparse.Namespace) -> Exit:
    """Write the files; an embedded run's carry it in their names."""
    gates = Gates(options.per_family, options.max_tokens, options.include_evaluate)
    with opened(options.store, options.run) as (store, run):
        if run.engine != "llm" and not options.include_embedded:
            raise StoreError(
                f"{options.store}: no language model was run (engine {run.engine}), so there is nothing to train "
                "one on; --include-embedded writes the files all the same"
            )
        found = export(store, run, gates)
    suffix = "" if run.engine == "llm" else f".{run.engine}"
    manifest = found.manifest(run, gates, options.format)
    try:
        _write_files(options.out, suffix, found, manifest, options.format)
    except OSError as error:
        raise StoreError(f"--out {options.out}: {error}") from error
    print(json.dumps(manifest, indent=None if options.json else 2))
    return Exit.OK


def _write_files(folder: Path, suffix: str, found: Export, manifest: dict[str, Any], form: Format) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    _write_lines(folder / f"train{suffix}.jsonl", (row.as_json(form) for row in found.train))
    _write_lines(folder / f"validation{suffix}.jsonl", (row.as_json(form) for row in found.validation))
    _write_lines(folder / f"format_errors{suffix}.jsonl", found.format_errors)
    durable.write_text(folder / f"manifest{suffix}.json", json.dumps(manifest, indent=2) + "\n")


def _write_lines(path: Path, values: Iterable[dict[str, Any]]) -> None:
    durable.write_text(path, "".join(json.dumps(value) + "\n" for value in values))


def check_files(options: argparse.Namespace) -> Exit:
    """Name every fault with its line; the exit status says whether there was one."""
    faults = 0
    for path in options.files:
        try:
            found = check(path, options.max_tokens)
        except (OSError, UnicodeDecodeError) as error:
            raise StoreError(f"{path}: {error}") from error
        for fault in found.faults:
            print(fault, file=sys.stderr)
        faults += len(found.faults)
        print(f"{path}: {found.rows} rows, {dict(found.labels)}, {len(found.faults)} faults")
    return Exit.FAILED if faults else Exit.OK
