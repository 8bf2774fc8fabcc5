"""Answer from a store without asking any model: `wargame rescore`, `wargame read` and `wargame compare`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from runners.wargame.commands.arguments import Commands, add_store, count
from runners.wargame.commands.exits import Exit
from runners.wargame.commands.look import opened
from runners.wargame.play.rescore import rescore
from runners.wargame.report import transcripts
from runners.wargame.report.compare import compare
from runners.wargame.report.count import build


def add(commands: Commands) -> None:
    """Add the commands to the parser."""
    again = commands.add_parser("rescore", help="judge stored replies again with this program's parser")
    again.set_defaults(command=judge_again)
    add_store(again)
    reading = commands.add_parser("read", help="print transcripts")
    reading.set_defaults(command=read)
    add_store(reading)
    reading.add_argument("--round", type=int, action="append", default=[], metavar="N")
    reading.add_argument("--which", choices=("random", "disputed", "void"), default="random")
    reading.add_argument("--number", type=count, default=5)
    reading.add_argument("--seed", type=int, default=0)
    reading.add_argument("--mark", action="store_true", help="a person has read them: the report will say so")
    both = commands.add_parser("compare", help="a second run beside a first, on the same rounds")
    both.set_defaults(command=compare_runs)
    both.add_argument("first", type=Path)
    both.add_argument("second", type=Path)
    both.add_argument("--first-run", metavar="ID", help="of a store with forks")
    both.add_argument("--second-run", metavar="ID", help="of a store with forks")
    both.add_argument("--json", action="store_true", help="JSON instead of text")


def judge_again(options: argparse.Namespace) -> Exit:
    """Judge again, and name each round that is something else now."""
    with opened(options.store, options.run, readonly=False) as (store, run):
        changes = rescore(store, run)
    if options.json:
        print(json.dumps([[one.index, one.before, one.after] for one in changes]))
        return Exit.OK
    for change in changes:
        print(f"#{change.index}: {change.before} -> {change.after}")
    print(f"{len(changes)} rounds changed")
    return Exit.OK


def read(options: argparse.Namespace) -> Exit:
    """Print the transcripts that were asked for, or a sample."""
    with opened(options.store, options.run, readonly=not options.mark) as (store, run):
        chosen = options.round or transcripts.choose(store, run, options.which, options.number, options.seed)
        found = transcripts.load(store, run, chosen)
        print("\n\n".join(map(transcripts.as_text, found)))
        if options.mark:
            transcripts.mark_read(store, run, [one.index for one in found])
    return Exit.OK


def compare_runs(options: argparse.Namespace) -> Exit:
    """Print the differences of two runs, and their effect if it can be told."""
    with opened(options.first, options.first_run) as (store, run):
        first = build(store, run)
    with opened(options.second, options.second_run) as (store, run):
        second = build(store, run)
    found = compare(first, second)
    if options.json:
        print(json.dumps(found.as_json(), indent=2))
    else:
        for name, report in (("first", first), ("second", second)):
            print(
                f"{name}: {report.run.run_id} catch {report.headline.catch}, false alarm {report.headline.false_alarm}"
            )
        print("differs in: " + ("; ".join(found.differences) or "nothing"))
        print(found.verdict)
    return Exit.NOT_REPORTABLE if found.refusal else Exit.OK
