"""A wargame through epad's gateway whose model server is gone for a minute in the middle: nobody is held, it goes on.

`python bench/wargame_outage.py [--quick] [--json FILE]` plays 60 rounds as a subsystem of a real daemon. Halfway the
model server is killed, and started again 60 s later (5 s in a quick run). Nobody orders anything meanwhile.
The server is as `_model_server.py` says. The scenarios are the grammar's, so that every call is
a defender's. SmolLM2-135M on two busy cores takes an hour.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests" / "support")]
from _harness import Row, run  # noqa: E402
from _model_server import IN_FRONT, Server, the_server  # noqa: E402
from installed import Installation, installation  # noqa: E402

from runners.wargame.locking import StoreError  # noqa: E402
from runners.wargame.report.count import Report, build  # noqa: E402
from runners.wargame.store import Store  # noqa: E402

ROUNDS, OUTAGE_SECONDS = 60, 60.0
QUICK_ROUNDS, QUICK_OUTAGE_SECONDS = 24, 5.0
LONGEST_SECONDS = 2 * 3_600.0
LOOK_SECONDS = 1.0
STUB_PACE_SECONDS = 1.0
COMMAND = "python bench/wargame_outage.py"
WARGAME = (
    IN_FRONT
    + """
[subsystems.wargame]
command = {command}
notifies = true
background = true
restart = {{ success_exit_codes = [0, 5, 6] }}
budget = {{ max_in_flight = 8 }}
[subsystems.bystander]
command = ["sleep", "100000"]
"""
)
PLAN = """
[run]
verdict_tokens = {tokens}
[limits]
call_seconds = 120
round_seconds = 600
"""


@dataclass
class Seen:
    """What was seen of the daemon and the wargame while it played."""

    holds: list[str] = field(default_factory=list)
    sentences: Counter[str] = field(default_factory=Counter)
    done_at_kill: int = 0
    outage_seconds: float = 0.0
    back_after: float | None = None
    seconds: float = 0.0

    def look(self, house: Installation) -> None:
        """Note every hold that there is now, and what the daemon says."""
        status = house.status()
        for one in status["subsystems"]:
            if one["hold"]["rung"] != "open":
                self.holds.append(f"{one['name']}: {one['hold']['rung']} ({one['hold']['reason']})")
        self.sentences[str(status["sentence"]).partition(" since ")[0]] += 1


@contextlib.contextmanager
def played(server: Server, model: str, rounds: int) -> Iterator[Installation]:
    """A daemon that plays a wargame of so many rounds."""
    plan = PLAN.format(tokens=int(os.environ.get("EPAD_REAL_VERDICT_TOKENS", "96")))
    words = [sys.executable, "-m", "runners.wargame", "run", "--store", "w.db", "--config", "plan.toml", "--rounds",
             str(rounds), "--attacker-model", "grammar", "--defender-model", model, "--control-pairs", "0",
             "--pace", "0" if os.environ.get("EPAD_REAL_SERVE") else str(STUB_PACE_SECONDS)]  # fmt: skip
    config = WARGAME.format(url=server.url, command=json.dumps(words))
    with installation(config) as house:
        home = house.state / "subsystems/wargame"
        home.mkdir(parents=True)
        (home / "plan.toml").write_text(plan)
        house.start()
        try:
            yield house
        finally:
            house.stop()


def report_of(house: Installation) -> Report | None:
    """What the wargame's store says so far; None before it has one."""
    path = house.state / "subsystems/wargame/w.db"
    with contextlib.suppress(StoreError), contextlib.closing(Store(path, readonly=True)) as store:
        one = store.run()
        return None if one is None else build(store, one)
    return None


def watch(house: Installation, server: Server, rounds: int, outage: float) -> Seen:
    """Look once a second until all rounds are played; kill the server halfway, and start it again after the outage."""
    seen, began = Seen(), time.monotonic()
    killed = started = 0.0
    while house.subsystem("wargame")["state"] not in {"exited", "stopped", "failed"}:
        now, so_far = time.monotonic(), report_of(house)
        played_so_far = 0 if so_far is None else so_far.attempted
        if now - began > LONGEST_SECONDS:
            break
        if not killed and 2 * played_so_far >= rounds:
            server.kill()
            killed, seen.done_at_kill = time.monotonic(), played_so_far
            print(f"{now - began:.0f} s: {played_so_far} rounds are played; the server is killed", flush=True)
        elif killed and not started and now - killed >= outage:
            server.start()
            started, seen.outage_seconds = time.monotonic(), time.monotonic() - killed
            at_return = played_so_far
            print(f"{started - began:.0f} s: the server is back", flush=True)
        elif started and seen.back_after is None and played_so_far > at_return:
            seen.back_after = time.monotonic() - started
        seen.look(house)
        time.sleep(LOOK_SECONDS)
    seen.seconds = time.monotonic() - began
    return seen


def measure(quick: bool) -> list[Row]:
    """Play the wargame and sum up what was seen."""
    rounds = QUICK_ROUNDS if quick else ROUNDS
    server, model = the_server()
    server.start()
    try:
        with played(server, model, rounds) as house:
            seen = watch(house, server, rounds, QUICK_OUTAGE_SECONDS if quick else OUTAGE_SECONDS)
            phases = [event["fields"]["destination"] for event in house.events("phase.changed")]
            report = report_of(house)
            ends = house.events("subsystem.exited")
    finally:
        server.kill()
    if report is None:
        raise SystemExit("the wargame has played nothing")
    return _rows(seen, report, phases, ends, rounds, model, server.url)


def _rows(
    seen: Seen, report: Report, phases: list[str], ends: list[Any], rounds: int, model: str, url: str
) -> list[Row]:
    beside: dict[str, float | str] = {
        "model, server": f"{model}, {url}",
        "rounds by how they ended": str(dict(report.states) | dict(report.reasons)),
        "votes": str({role: dict(kinds) for role, kinds in report.votes.items()}),
        "calls": str({name: dict(kinds) for name, kinds in report.calls.items()}),
        "answers that ended otherwise than by their own stop": str(dict(report.endings)),
        "seconds in all": seen.seconds,
    }
    left = [phase for phase in phases if phase != "NORMAL"]
    return [
        Row("rounds played, none lost, none twice", report.attempted, "rounds", str(rounds), report.attempted == rounds,
            beside, rounds, COMMAND),
        Row("seconds that the model server was gone", seen.outage_seconds, "s", "", None,
            {"rounds played before": seen.done_at_kill}, 1, COMMAND),
        Row("holds on the wargame or the bystander", len(seen.holds), "looks", "0", not seen.holds,
            {"which": "; ".join(dict.fromkeys(seen.holds))}, sum(seen.sentences.values()), COMMAND),
        Row("phases other than NORMAL", len(left), "phases", "0", not left,
            {"which": ", ".join(left), "what the daemon said, by looks": str(dict(seen.sentences))}, 1, COMMAND),
        Row("seconds from the server's return to the next round", seen.back_after, "s", "without an order",
            seen.back_after is not None, {}, 1, COMMAND),
        Row("ends of the wargame's process", len(ends), "", "1", len(ends) == 1, {}, 1, COMMAND),
    ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(run("wargame_outage", measure))
