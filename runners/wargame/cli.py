"""`python -m runners.wargame`: run, status, report."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from enum import IntEnum
from pathlib import Path
from random import Random
from typing import Any

from runners.contract import Contract, keep_alive
from runners.wargame.endpoint.client import ModelClient, open_session
from runners.wargame.engine import Engine, detect
from runners.wargame.play.campaign import Campaign, Mission, PauseLimitError, Schedule
from runners.wargame.play.round import Arena
from runners.wargame.report import markdown
from runners.wargame.report.count import Report, build
from runners.wargame.roles import EMBEDDED_ATTACKER, ROLES
from runners.wargame.scenario.grammar import load_grammar
from runners.wargame.settings import IN_PROCESS, Limits, Settings
from runners.wargame.store import RunRow, SettingsMismatchError, Store, StoreError, is_locked


class Exit(IntEnum):
    """What the exit status says."""

    OK = 0
    FAILED = 1
    OTHER_SETTINGS = 4
    NOT_REPORTABLE = 5
    PAUSED = 6


def main(arguments: list[str] | None = None) -> int:
    """Read the command line and do it."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except SettingsMismatchError as error:
        print(f"wargame: {error}", file=sys.stderr)
        return Exit.OTHER_SETTINGS
    except StoreError as error:
        print(f"wargame: {error}", file=sys.stderr)
        return Exit.FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m runners.wargame",
        description="Multi-turn scenarios against five defender roles.",
        epilog="exit status: 0 fine, 1 failed, 2 usage, 4 the store has other settings, 5 not reportable, 6 paused",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="play rounds; goes on where the store left off")
    run.set_defaults(command=_run)
    _add_run_options(run)
    status = commands.add_parser("status", help="how far a run has come")
    status.set_defaults(command=_status)
    report = commands.add_parser("report", help="what a run has shown")
    report.set_defaults(command=_report)
    for command in (run, status, report):
        command.add_argument("--store", type=Path, default=Path("wargame.db"), help="default: %(default)s")
        command.add_argument("--json", action="store_true", help="JSON instead of text")
    return parser


def _add_run_options(run: argparse.ArgumentParser) -> None:
    limits = Limits()
    add = run.add_argument
    add("--rounds", type=_count, default=1_000, help="in all, those already played included (%(default)s)")
    add("--seed", type=int, default=1)
    add("--base-url", help="OpenAI-compatible, ending in /v1; default: epad's gateway, else embedded models")
    add("--api-key", help="default: epad's key for this subsystem")
    add("--pace", type=_seconds, default=0.0, help="least seconds from one round's start to the next")
    add("--pairs-in-flight", type=_count, default=1, help="attack and twin are one pair (%(default)s)")
    add("--attacker-model", default=EMBEDDED_ATTACKER, help=f"{IN_PROCESS}: no calls (%(default)s)")
    add("--defender-model", default="", help="one model for all five roles")
    add("--role-model", action="append", default=[], metavar="ROLE=MODEL", type=_role_value)
    add("--role-weight", action="append", default=[], metavar="ROLE=WEIGHT", type=_role_value)
    add("--call-seconds", type=_seconds, default=limits.call_seconds)
    add("--round-seconds", type=_seconds, default=limits.round_seconds)
    add("--retries", type=int, default=limits.retries)
    add("--backoff-seconds", type=_seconds, default=limits.backoff_seconds)
    add("--breaker-failures", type=_count, default=limits.breaker_failures)
    add("--pause-first-seconds", type=_seconds, default=limits.pause_first_seconds)
    add("--pause-limit-seconds", type=_seconds, default=0.0, help="give up then; 0 waits for ever")


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {text}")
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be seconds, 0 or more, not {text}")
    return number


def _role_value(text: str) -> tuple[str, str]:
    role, _, value = text.partition("=")
    if role not in {r.name for r in ROLES} or not value:
        raise argparse.ArgumentTypeError(f"expected ROLE=VALUE with a role of {[r.name for r in ROLES]}")
    return role, value


def _settings(options: argparse.Namespace) -> Settings:
    models, weights = dict(options.role_model), dict(options.role_weight)
    roles = tuple(
        replace(
            role,
            model=models.get(role.name, options.defender_model or role.model),
            weight=float(weights.get(role.name, role.weight)),
        )
        for role in ROLES
    )
    return Settings(seed=options.seed, attacker_model=options.attacker_model, roles=roles)


def _limits(options: argparse.Namespace) -> Limits:
    return Limits(
        call_seconds=options.call_seconds,
        round_seconds=options.round_seconds,
        retries=options.retries,
        backoff_seconds=options.backoff_seconds,
        breaker_failures=options.breaker_failures,
        pause_first_seconds=options.pause_first_seconds,
        pause_limit_seconds=options.pause_limit_seconds,
    )


def _run(options: argparse.Namespace) -> Exit:
    contract = Contract.from_environment(os.environ)
    store = Store(options.store)
    try:
        try:
            run = asyncio.run(_play(options, store, contract))
        except PauseLimitError as error:
            print(f"wargame: {error}", file=sys.stderr)
            return Exit.PAUSED
        if run is None:
            return Exit.OK
        report = build(store, run)
        _print_summary(report, as_json=options.json)
        return Exit.NOT_REPORTABLE if report.obstacles else Exit.OK
    finally:
        store.close()


async def _play(options: argparse.Namespace, store: Store, contract: Contract) -> RunRow | None:
    """Play to the end and return the run; None if a signal ended it before."""
    settings, limits, grammar = _settings(options), _limits(options), load_grammar()
    key = options.api_key or ("" if options.base_url else contract.gateway_key)
    async with (
        _endpoint(options.base_url or contract.openai_base_url) as base_url,
        open_session(limits) as session,
    ):
        client = ModelClient(session, base_url, key, limits, Random())
        engine = detect(settings.models, await client.owners())
        run = store.begin(settings.description(), engine, base_url, options.rounds)
        _print_start(run, base_url, as_json=options.json)
        mission = Mission(
            run, grammar, settings, limits, Schedule(options.rounds, options.pace, options.pairs_in_flight)
        )
        arena = Arena(settings, limits, grammar, client, run.run_id)
        campaign = Campaign(mission, arena, client, store, contract, _speaker(run, as_json=options.json))
        contract.ready(f"{engine.upper()} {run.run_id}")
        alive = asyncio.create_task(keep_alive(contract, lambda: campaign.is_moving), name="keep-alive")
        try:
            ended = await _until_signal(campaign)
        finally:
            alive.cancel()
            contract.stopping()
    return store.run() if ended else None


async def _until_signal(campaign: Campaign) -> bool:
    """Play, or stop at SIGTERM or SIGINT: rounds in flight are left for the next start."""
    playing = asyncio.create_task(campaign.play_all(), name="campaign")
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, playing.cancel)
    try:
        await playing
    except asyncio.CancelledError:
        return False
    return True


@contextlib.asynccontextmanager
async def _endpoint(base_url: str) -> AsyncIterator[str]:
    """The endpoint that was named, or an embedded one of our own; never the latter because the former fails."""
    if base_url:
        yield base_url
        return
    from runners.model.catalogue import embedded_engines  # noqa: PLC0415 - 0.3 s, needed here only
    from runners.model.listening import listening  # noqa: PLC0415
    from runners.model.server import ModelServer, Pace  # noqa: PLC0415

    async with listening(ModelServer(embedded_engines(), Pace()), "127.0.0.1:0") as address:
        yield f"http://{address}/v1"


def _speaker(run: RunRow, *, as_json: bool) -> Any:
    def say(line: str, values: dict[str, Any]) -> None:
        print(json.dumps({"engine": run.engine, **values}) if as_json else line, flush=True)

    return say


def _print_start(run: RunRow, base_url: str, *, as_json: bool) -> None:
    banner = Engine(run.engine).banner
    if as_json:
        values = {"event": "start", "engine": run.engine, "banner": banner, "run_id": run.run_id}
        print(json.dumps({**values, "base_url": base_url}), flush=True)
        return
    if banner:
        print(banner, flush=True)
    print(f"{run.run_id}: engine {run.engine}, {run.wanted} rounds against {base_url}", flush=True)


def _print_summary(report: Report, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"event": "end", **report.as_json()}), flush=True)
        return
    print(
        f"attempted {report.attempted}, scored {report.scored}; catch {report.swarm.catch}, "
        f"false alarm {report.swarm.false_alarm} (engine: {report.engine})"
    )
    for obstacle in report.obstacles:
        print(f"NOT REPORTABLE: {obstacle}")
    for alarm in report.alarms:
        print(f"SMOKE ALARM: {alarm}")
    if report.engine.banner:
        print(report.engine.banner)


def _open_run(path: Path) -> tuple[Store, RunRow]:
    if not path.exists():
        raise StoreError(f"{path}: there is no such store; `run --store {path}` makes one")
    store = Store(path, readonly=True)
    run = store.run()
    if run is None:
        store.close()
        raise StoreError(f"{path}: no run was begun in this store")
    return store, run


def _status(options: argparse.Namespace) -> Exit:
    store, run = _open_run(options.store)
    try:
        report = build(store, run)
    finally:
        store.close()
    process = "running" if is_locked(options.store) else "not running"
    if options.json:
        values = {
            **report.as_json(),
            "process": process,
            "detail": run.detail,
            "last_commit_utc": run.updated_utc,
        }
        print(json.dumps(values, indent=2))
        return Exit.OK
    if report.engine.banner:
        print(report.engine.banner)
    print(f"{run.run_id}: state {run.state.upper()} {run.detail}".rstrip() + f"; process {process}")
    print(
        f"rounds {report.attempted}/{run.wanted}: scored {report.scored}, void {report.states.get('void', 0)}, "
        f"failed {report.states.get('failed', 0)}; last written {run.updated_utc}"
    )
    return Exit.OK


def _report(options: argparse.Namespace) -> Exit:
    store, run = _open_run(options.store)
    try:
        report = build(store, run)
    finally:
        store.close()
    print(json.dumps(report.as_json(), indent=2) if options.json else markdown.render(report), end="")
    return Exit.NOT_REPORTABLE if report.obstacles else Exit.OK
