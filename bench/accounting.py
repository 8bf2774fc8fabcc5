"""Tokens that a model server made against tokens that the gateway charged, one row for each thing a server may do.

`python bench/accounting.py [--quick] [--json FILE] [--only TEXT]`. The real gateway in this process, over the loopback,
before a server that says exactly the bytes it is told: recorded from real servers where that was possible
(bench/recordings), else as public reports describe them. No row may be charged less than was made; where the answer
has a final count and the client stays to its end, none may be charged more. `--plant NAME` breaks one rule of the
gateway on purpose and says which rows notice; `--plant all` does so for every rule, and fails if a broken one is not
noticed.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import _accounting_ollama
import _accounting_openai
import _accounting_recordings
import _accounting_shapes
import _accounting_typed
import structlog
from _accounting_behaviour import Behaviour, Outcome
from _accounting_plants import BY_NAME, PLANTS, DoesNotFit, Plant, planted
from _byte_server import ByteServer, Script
from _gateway_inside import Inside, inside
from _harness import Row, write

from epad.configuration.schema import BudgetConfig, UpstreamConfig

_COMMAND = "python bench/accounting.py"
_DIALECTS = ("openai", "ollama", "anthropic")
_BUDGET = BudgetConfig(tokens_per_minute=1_000_000, max_in_flight=0)
_LIMITS = {"default_output_tokens": 1_000, "max_output_tokens": 4_000}
_LEAVE_SECONDS = 0.1
_AT_ONCE = 8
_ROWS_NAMED = 3


def all_behaviours() -> list[Behaviour]:
    """Every one there is."""
    parts = (
        _accounting_recordings, _accounting_openai, _accounting_shapes, _accounting_ollama, _accounting_typed,
    )  # fmt: skip
    return [behaviour for part in parts for behaviour in part.behaviours()]


async def outcome(behaviour: Behaviour) -> Outcome:
    """Have a server do it once, behind a gateway of its own, and say what it came to."""

    def answer(path: str, body: object) -> tuple[Script, int] | None:
        del body
        return (behaviour.script, behaviour.prompt) if path == behaviour.path else None

    async with ByteServer(answer).serving() as server:
        upstream = UpstreamConfig(url=server.url, dialects=_DIALECTS, server=behaviour.kind)
        async with inside({"raw": upstream}, {"writer": _BUDGET}, **_LIMITS) as gateway:
            status = await _asked(gateway, behaviour)
            if not gateway.ledger.opened or (not server.made and behaviour.leaves_after != 0):
                return Outcome(behaviour, server.tokens, 0, 0, "refused", status)
            [closed] = await gateway.closed(1)
            reserved = gateway.ledger.opened[0].reserved_tokens
    return Outcome(behaviour, server.tokens, reserved, closed.charged_tokens, closed.outcome.value, status)


async def _asked(gateway: Inside, behaviour: Behaviour) -> int:
    if behaviour.leaves_after == 0:
        await gateway.leave(behaviour.path, behaviour.body, _LEAVE_SECONDS)
        return 0
    told = await gateway.ask(behaviour.path, behaviour.body, leaves_after=behaviour.leaves_after)
    return told.status


async def outcomes(behaviours: Sequence[Behaviour], at_once: int = 1) -> list[Outcome]:
    """So many at once, in their order."""
    room = asyncio.Semaphore(at_once)

    async def one(behaviour: Behaviour) -> Outcome:
        async with room:
            return await outcome(behaviour)

    return await asyncio.gather(*map(one, behaviours))


def plants_table(behaviours: Sequence[Behaviour], plants: Sequence[Plant]) -> int:
    """Break one rule after the other, and say which rows notice that are good otherwise; 1 if one goes unnoticed."""
    good = [each.behaviour for each in asyncio.run(outcomes(behaviours, _AT_ONCE)) if each.good]
    print(
        f"{len(good)} of {len(behaviours)} rows are good with nothing planted; below, those that a plant turns red"
    )
    unnoticed = 0
    for plant in plants:
        try:
            with planted(plant):
                red = [each for each in asyncio.run(outcomes(good, _AT_ONCE)) if not each.good]
        except DoesNotFit as error:
            print(f"{plant.name:28} DOES NOT FIT: {error}")
            unnoticed += 1
            continue
        unnoticed += not red
        named = "; ".join(f"{e.behaviour.server}: {e.behaviour.name} {e.verdict}" for e in red[:_ROWS_NAMED])
        more = f" and {len(red) - _ROWS_NAMED} more" if len(red) > _ROWS_NAMED else ""
        print(
            f"{plant.name:28} {plant.rule}\n{'':28} {named + more if red else 'NOBODY NOTICES'}", flush=True
        )
    print(f"{len(plants)} rules broken, {unnoticed} unnoticed")
    return int(unnoticed > 0)


def row(each: Outcome) -> Row:
    """One outcome, as the other benches write theirs."""
    behaviour = each.behaviour
    goal = (
        "exactly what was made" if behaviour.counted else "no less than was made, no more than was reserved"
    )
    if behaviour.unseen:
        goal = "cannot be seen: named here so that nobody believes otherwise"
    peers: dict[str, float | str] = {
        "made": each.made, "reserved": each.reserved, "verdict": each.verdict, "turn": each.ended,
        "source": behaviour.source,
    }  # fmt: skip
    claim = f"{behaviour.server}: {behaviour.name}"
    return Row(claim, each.charged, "tokens charged", goal, each.good, peers, 1, _COMMAND)


def table(found: Sequence[Outcome]) -> str:
    """The outcomes for a person: what is wrong stands in capitals."""
    lines = [
        f"{'server':18} {'behaviour':58} {'made':>6} {'charged':>8} {'reserved':>8}  {'verdict':16} source"
    ]
    for each in found:
        of = each.behaviour
        figures = f"{each.made:6} {_figure(each.charged)} {each.reserved:8}"
        lines.append(f"{of.server:18} {of.name:58} {figures}  {each.verdict:16} {of.source}")
    return "\n".join(lines)


def _figure(value: int) -> str:
    return f"{value:8}" if value < 10**8 else f"{value:8.1e}"


def summary(found: Sequence[Outcome]) -> str:
    """How many of each verdict."""
    verdicts = Counter(each.verdict for each in found)
    return f"{len(found)} behaviours: " + ", ".join(f"{n} {verdict}" for verdict, n in verdicts.most_common())


def main() -> int:
    """Measure, print, write; the exit status is 1 if a row is at fault."""
    parser = argparse.ArgumentParser("accounting", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="nothing is left out: it takes half a minute anyway"
    )
    parser.add_argument("--json", metavar="FILE", type=Path)
    parser.add_argument(
        "--only", metavar="TEXT", default="", help="behaviours that have this in their server or name"
    )
    parser.add_argument(
        "--plant", choices=["all", *BY_NAME], help="break this rule on purpose; exit 1 if no row notices"
    )
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    if arguments.plant:
        plants = PLANTS if arguments.plant == "all" else (BY_NAME[arguments.plant],)
        return plants_table(all_behaviours(), plants)
    chosen = [each for each in all_behaviours() if arguments.only in f"{each.server}: {each.name}"]
    found = asyncio.run(outcomes(chosen))
    print(table(found))
    print(summary(found))
    if arguments.json is not None:
        write(arguments.json, "accounting", [row(each) for each in found], quick=arguments.quick)
    return int(not all(each.good for each in found))


if __name__ == "__main__":
    sys.exit(main())
