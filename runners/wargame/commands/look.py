"""Print the contents of a store, running or not: `wargame status` and `wargame report`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runners import durable
from runners.wargame.commands.arguments import Commands, add_store
from runners.wargame.commands.exits import Exit
from runners.wargame.engine import Engine
from runners.wargame.locking import StoreError, is_locked
from runners.wargame.play import heartbeat
from runners.wargame.report import html, markdown, transcripts
from runners.wargame.report.count import Report, build, states_of
from runners.wargame.report.html import Reading
from runners.wargame.store import RunRow, Store


def add(commands: Commands) -> None:
    """Add the commands to the parser."""
    status = commands.add_parser("status", help="how far a run has come")
    status.set_defaults(command=show_status)
    add_store(status)
    report = commands.add_parser("report", help="print the results of a run")
    report.set_defaults(command=show_report)
    add_store(report)
    report.add_argument(
        "--html", type=Path, metavar="FILE", help="write the page with plots and transcripts too"
    )


@contextmanager
def opened(path: Path, run_id: str | None = None, *, readonly: bool = True) -> Iterator[tuple[Store, RunRow]]:
    """Yield a store that exists, and a run in it. Raises StoreError."""
    if not path.exists():
        raise StoreError(f"{path}: there is no such store; `run --store {path}` makes one")
    store = Store(path, readonly=readonly)
    try:
        run = store.run(run_id)
        if run is None:
            what = f"run {run_id}" if run_id else "run"
            raise StoreError(f"{path}: no {what} was begun in this store")
        yield store, run
    finally:
        store.close()


def write_page(path: Path, report: Report, reading: Reading) -> None:
    """Write the page. Raises StoreError where it cannot be written."""
    try:
        durable.write_text(path, html.render(report, reading))
    except OSError as error:
        raise StoreError(f"--html {path}: {error}") from error


def _reading(store: Store, run: RunRow) -> Reading:
    def load(which: transcripts.Which, most: int) -> list[transcripts.Transcript]:
        return transcripts.load(store, run, transcripts.choose(store, run, which, most))

    return Reading(
        load("random", transcripts.RANDOM_SHOWN),
        load("disputed", transcripts.DISPUTED_SHOWN),
        load("void", transcripts.VOID_SHOWN),
    )


def show_status(options: argparse.Namespace) -> Exit:
    """Say how far it has come, whether a process is at work, and whether it gets anywhere."""
    with opened(options.store, options.run) as (store, run):
        states = states_of(store, run)
        values = build(store, run).as_json() if options.json else {}
    process = "running" if is_locked(options.store) else "not running"
    pulse = heartbeat.read(heartbeat.heartbeat_path(options.store)) if process == "running" else {}
    if options.json:
        values |= {
            "process": process,
            "detail": run.detail,
            "last_commit_utc": run.updated_utc,
            "heartbeat": pulse,
        }
        print(json.dumps(values, indent=2))
        return Exit.OK
    if banner := Engine(run.engine).banner:
        print(banner)
    moving = "" if pulse.get("is_moving", True) else ", NOT ADVANCING"
    print(f"{run.run_id}: state {run.state.upper()} {run.detail}".rstrip() + f"; process {process}{moving}")
    print(
        f"rounds {sum(states.values())}/{run.wanted}: scored {states.get('scored', 0)}, "
        f"void {states.get('void', 0)}, failed {states.get('failed', 0)}; last written {run.updated_utc}"
    )
    return Exit.OK


def show_report(options: argparse.Namespace) -> Exit:
    """Print the report; the exit status says whether it may be passed on."""
    with opened(options.store, options.run) as (store, run):
        report = build(store, run)
        if options.html is not None:
            write_page(options.html, report, _reading(store, run))
    print(json.dumps(report.as_json(), indent=2) if options.json else markdown.render(report), end="")
    return Exit.NOT_REPORTABLE if report.obstacles else Exit.OK
