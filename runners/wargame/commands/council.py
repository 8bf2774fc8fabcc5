"""`wargame council`: red, blue and reconciling analysts over a finding or a transcript."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from runners.wargame.commands.arguments import Commands, add_plan, add_store, utf8
from runners.wargame.commands.exits import Exit
from runners.wargame.commands.look import opened
from runners.wargame.configuration import Plan, resolve
from runners.wargame.council.citations import Index, IndexFileError, load_index
from runners.wargame.council.council import Analyst, CouncilError, Minutes, as_text, convene
from runners.wargame.endpoint.opening import open_pool
from runners.wargame.engine import BANNER, Engine, detect
from runners.wargame.locking import StoreError
from runners.wargame.report.transcripts import load
from runners.wargame.roles import EMBEDDED_ANALYST


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    council = commands.add_parser(
        "council", help="three analysts over a finding, with citations checked by code"
    )
    council.set_defaults(command=convened)
    add_store(council)
    add_plan(council)
    council.add_argument("finding", nargs="?", type=Path, help="a text or JSON file")
    council.add_argument("--round", type=int, metavar="N", help="a transcript of the store instead")
    council.add_argument(
        "--analyst-model", type=utf8, default="", help="default: the teacher's model and endpoint"
    )
    council.add_argument(
        "--index", type=Path, help="STIX JSON, or ids and names as TOML or JSON; default: a tiny one"
    )


def convened(options: argparse.Namespace) -> Exit:
    """Hold the council; the exit status is 1 if a citation is lost or wrong."""
    try:
        index = load_index(options.index)
        minutes, engine = asyncio.run(_convene(resolve(options), options, _finding(options), index))
    except (CouncilError, IndexFileError) as error:
        print(f"wargame: {error}", file=sys.stderr)
        return Exit.FAILED
    if options.json:
        print(json.dumps({"engine": engine, "banner": engine.banner, **minutes.as_json()}, indent=2))
    else:
        print("\n".join(part for part in (engine.banner and BANNER, as_text(minutes)) if part))
    return Exit.FAILED if minutes.faults else Exit.OK


def _finding(options: argparse.Namespace) -> dict[str, Any]:
    if (options.finding is None) == (options.round is None):
        raise StoreError("say either a file with the finding or --round N of --store")
    if options.round is not None:
        with opened(options.store, options.run) as (store, run):
            found = load(store, run, [options.round])
        if not found:
            raise StoreError(f"{options.store}: no round {options.round} was played")
        one = found[0]
        return {
            "outcome": one.outcome,
            "category": one.category,
            "label": one.label,
            "turns": list(one.turns),
        }
    try:
        text = options.finding.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{options.finding}: {error}") from error
    return {"text": text}


async def _convene(
    plan: Plan, options: argparse.Namespace, finding: dict[str, Any], index: Index
) -> tuple[Minutes, Engine]:
    async with open_pool(plan.endpoints, plan.limits) as pool:
        model = options.analyst_model or (plan.teacher.model if plan.endpoints else EMBEDDED_ANALYST)
        engine = detect([model], await pool.owners())
        return await convene(finding, Analyst(model, plan.teacher.endpoint), pool, index), engine
