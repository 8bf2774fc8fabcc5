"""`wargame run`: play rounds, from where the store left off."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from runners.contract import Contract, keep_alive
from runners.wargame.commands.arguments import Commands, add_plan, add_store, count, seconds
from runners.wargame.commands.exits import STOPPED, Exit
from runners.wargame.commands.speaker import Speaker, speaker
from runners.wargame.configuration import ConfigurationError, Plan, resolve
from runners.wargame.endpoint.opening import open_pool
from runners.wargame.endpoint.pool import Pool
from runners.wargame.engine import detect
from runners.wargame.play import heartbeat
from runners.wargame.play.campaign import Campaign, Mission, PauseLimitError, Player, Schedule
from runners.wargame.play.round import Arena
from runners.wargame.report.count import build
from runners.wargame.scenario.grammar import Grammar
from runners.wargame.scenario.library import load_grammar
from runners.wargame.store import RunRow, Store

CONTROL_PAIRS = 5


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    run = commands.add_parser("run", help="play rounds; goes on where the store left off")
    run.set_defaults(command=play)
    add_store(run)
    add_plan(run)
    run.add_argument(
        "--rounds", type=count, default=1_000, help="in all, those played included (%(default)s)"
    )
    run.add_argument("--fork", action="store_true", help="begin another run in a store of other settings")
    run.add_argument(
        "--pace", type=seconds, default=0.0, help="least seconds from one round's start to the next"
    )
    run.add_argument(
        "--pairs-in-flight", type=int, default=0, help="an attack and its twin are a pair; 0: by measuring"
    )
    run.add_argument("--control-pairs", type=int, default=CONTROL_PAIRS, help="0 to 5; 0: no control")
    run.add_argument("--executor", choices=("local", "ray"), default="local", help="ray: the extra `ray`")
    run.add_argument("--ray-address", help="of a running cluster; default: one on this machine")
    run.add_argument("--quiet", action="store_true", help="no line for each round")


def play(options: argparse.Namespace) -> Exit:
    """Play to the end, to a signal, or to a pause that lasted too long."""
    plan = resolve(options)
    store = Store(options.store)
    try:
        try:
            run, stopped_by = asyncio.run(_play(options, plan, store))
        except PauseLimitError as error:
            print(f"wargame: {error}", file=sys.stderr)
            return Exit.PAUSED
        if stopped_by is signal.SIGINT:
            print(f"\nwargame: {STOPPED}: {options.store} keeps every round that ended", file=sys.stderr)
            return Exit.INTERRUPTED
        if stopped_by is not None:
            return Exit.OK
        report = build(store, run)
        speaker(options, run).summary(report)
        return Exit.NOT_REPORTABLE if report.obstacles else Exit.OK
    finally:
        store.close()


async def _play(
    options: argparse.Namespace, plan: Plan, store: Store
) -> tuple[RunRow, signal.Signals | None]:
    """Play; return the run and the signal that ended it early, or None."""
    contract, grammar = Contract.from_environment(os.environ), load_grammar(plan.scenarios)
    async with open_pool(plan.endpoints, plan.limits) as pool:
        engine = detect(plan.settings.models, await pool.owners())
        url = plan.url or next(iter(pool.clients.values())).endpoint.base_url
        run = store.begin(plan.settings.description(), engine, url, options.rounds, fork=options.fork)
        said = speaker(options, run)
        said.start()
        player, slots = _player(options, plan, grammar, pool, run.run_id)
        pairs = options.pairs_in_flight or slots
        schedule = Schedule(options.rounds, options.pace, pairs, options.control_pairs)
        mission = Mission(run, grammar, plan.settings, plan.limits, schedule)
        campaign = Campaign(mission, player, pool, store, contract, said.say)
        said.watch(campaign, pool)
        contract.ready(f"{engine.upper()} {run.run_id}")
        async with _beating(campaign, pool, contract, options, said):
            stopped_by = await _until_signal(campaign)
    return store.run(run.run_id) or run, stopped_by


def _player(
    options: argparse.Namespace, plan: Plan, grammar: Grammar, pool: Pool, run_id: str
) -> tuple[Player, int]:
    """Return the player of the rounds, and how many it plays at once (0: as many as the endpoints can take)."""
    if options.executor == "local":
        return Arena(plan.settings, plan.limits, grammar, pool, run_id, plan.attacker_endpoint), 0
    try:
        from runners.wargame.play.ray_player import Errand, RayPlayer  # noqa: PLC0415 - an extra, and slow
    except ImportError as error:
        raise ConfigurationError(
            f"--executor ray needs the extra: pip install 'epad[ray]' ({error})"
        ) from error
    endpoints = tuple(client.endpoint for client in pool.clients.values())
    errand = Errand(plan.settings, plan.limits, grammar, endpoints, run_id, plan.attacker_endpoint)
    player = RayPlayer(options.ray_address, errand, pool)
    return player, player.slots


@asynccontextmanager
async def _beating(
    campaign: Campaign, pool: Pool, contract: Contract, options: argparse.Namespace, said: Speaker
) -> AsyncIterator[None]:
    """Say outside that the run lives and moves for as long as the block lasts."""

    def report() -> dict[str, Any]:
        return {
            "is_moving": campaign.is_moving,
            "is_paused": campaign.is_paused,
            "done": campaign.done,
            "wanted": options.rounds,
            "rounds_in_flight": campaign.in_flight,
            "endpoints": {
                name: {"in_flight": client.gate.in_flight, "limit": client.admission.limit}
                for name, client in pool.clients.items()
            },
        }

    path = heartbeat.heartbeat_path(options.store)
    tasks = [
        asyncio.create_task(keep_alive(contract, lambda: campaign.is_moving), name="keep-alive"),
        asyncio.create_task(heartbeat.beat(path, report, said.late), name="heartbeat"),
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        contract.stopping()


async def _until_signal(campaign: Campaign) -> signal.Signals | None:
    """Play until the end, SIGTERM or SIGINT; return the signal. Rounds in flight are left for the next start."""
    received: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        received.append(number)
        playing.cancel()

    playing = asyncio.create_task(campaign.play_all(), name="campaign")
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    try:
        await playing
    except asyncio.CancelledError:
        return next(iter(received), signal.SIGTERM)
    return None
