"""What a turn costs to be told of: every observer the gateway has, called as it calls them.

`python bench/observers.py [--quick] [--json FILE]`. Processor time, the events made included. 32 turns in
flight, conversations of ten turns, no prompt asked twice; streams of words of some eight characters.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence

from _harness import Row, run

from epad.configuration.load import load
from epad.gateway.spending import SpendingBook
from epad.probing.fan_out import TurnFanout
from epad.runtime.clock import SystemClock
from probes.conversation import ConversationHealth
from probes.progress import Progress
from probes.token_burn import SubsystemBudget, TokenBurn
from probes.turns import TurnAdmitted, TurnFinished, TurnObserver, TurnStreamed

IN_FLIGHT = 32
TURN_SECONDS = 0.003
PIECE_SECONDS = 0.001
ROUNDS = 5
COMMAND = "python bench/observers.py"


class Told:
    """Every observer there is, behind the daemon's own fan-out; `findings` is what they had to say."""

    def __init__(self) -> None:
        config, clock = load(), SystemClock()
        self.findings: list[object] = []
        push = self.findings.append
        probes = config.probes
        observers: list[TurnObserver] = [
            TokenBurn(
                probes.token_burn,
                budget=lambda _: SubsystemBudget(10_000_000, 1_000_000_000, 64),
                clock=clock,
                push=push,
            ),
            ConversationHealth(probes.conversation, clock=clock, push=push),
            Progress(probes.progress, snapshots=list, clock=clock),
            SpendingBook({}, None, clock),  # type: ignore[arg-type]  budgets are not asked for here
        ]
        self.fanout = TurnFanout(observers, None, clock)  # type: ignore[arg-type]  for refusals only


def turns(count: int) -> float:
    """Microseconds a turn, admitted and finished."""
    told, digests = Told(), [os.urandom(32) for _ in range(count)]
    names = [f"agent{number}" for number in range(4)]
    waiting: deque[TurnFinished] = deque()
    spent = 0.0
    for number, digest in enumerate(digests):
        at, turn, name = 1_000.0 + number * TURN_SECONDS, digest[:16].hex(), names[number // 10 % 4]
        step = number % 10
        history = tuple(digests[number - step : number + 1])
        conversation = f"c{number // 10}"
        start = time.process_time()
        told.fanout.admitted(
            TurnAdmitted(
                subsystem=name,
                at=at,
                turn=turn,
                model="qwen2.5-coder:7b",
                reserved_tokens=2_000,
                prompt_digest=digest,
                prompt_tokens=1_000,
                last_message=digest,
                conversation=conversation,
                messages=2 * step + 1,
                history=history,
            )
        )
        done = TurnFinished(name, at + 1, turn, "done", 900, 100, 1_000, 200, digest)
        waiting.append(done)
        if len(waiting) == IN_FLIGHT:
            told.fanout.finished(waiting.popleft())
        spent += time.process_time() - start
    assert not told.findings, told.findings[-1]
    return spent / count * 1e6


def pieces(count: int) -> float:
    """Microseconds a piece of eight streams side by side."""
    told, rng = Told(), random.Random(7)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [" " + "".join(rng.choices(letters, k=rng.randint(2, 12))) for _ in range(4_096)]
    for number in range(8):
        told.fanout.admitted(TurnAdmitted("agent", 1_000.0, f"t{number}", "m", 2_000, b""))
    said = rng.choices(words, k=count)
    start = time.process_time()
    for number, text in enumerate(said):
        at = 1_000.0 + number * PIECE_SECONDS
        told.fanout.streamed(TurnStreamed("agent", at, f"t{number & 7}", (text,), number))
    spent = time.process_time() - start
    assert not told.findings, told.findings[-1]
    return spent / count * 1e6


def row(claim: str, most: float, work: Callable[[int], float], count: int) -> Row:
    """The best of some rounds: what others do to the caches only ever slows."""
    rounds = [work(count) for _ in range(ROUNDS)]
    peers: dict[str, float | str] = {"the slowest round, us": max(rounds)}
    best = min(rounds)
    return Row(claim, best, "us", f"<= {most:g} us", best <= most, peers, count * ROUNDS, COMMAND)


def measure(quick: bool) -> Sequence[Row]:
    """Turns, then pieces."""
    scale = 1 if quick else 5
    return [
        row("processor time of a turn in every observer", 15, turns, 20_000 * scale),
        row("processor time of a streamed piece in every observer", 2, pieces, 60_000 * scale),
    ]


if __name__ == "__main__":
    sys.exit(run("observers", measure))
