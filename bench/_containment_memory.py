"""Rows of bench/containment.py about memory: what grows slowly, what jumps, and what is large and honest.

They are rows of `_containment_honest.ROWS` and `_containment_runaway.RUNAWAYS`; importing this adds them. A runaway's
cost is what it has taken, in MiB; an oracle's is its limit, or what the machine has to give.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import _containment_shapes as shapes
from _containment_honest import chat, row
from _containment_runaway import runaway
from _containment_world import Ask, Client
from virtual_memory import GIB, MIB, Course

_PROCESS = '[subsystems.short]\ncommand = ["lives", "1e9", "0"]\n'
LEFT_MIB = (64 - 8 - 1) * 1_024
"""Of a machine of 64 GiB, of which other programs have 8 and 1 is to be left."""


def _leak(mib_a_minute: float) -> Course:
    return lambda lived: 200 * MIB + lived / 60 * mib_a_minute * MIB


def _jump(at: float, to: float, until: float = float("inf")) -> Course:
    return lambda lived: to if at <= lived < until else 200 * MIB


def _beside(rng: random.Random, n: int = 190) -> Sequence[Client]:
    return [Client([Ask(chat(shapes.sentence(rng)), 20.0) for _ in range(n)], "bystander-two")]


for _name, _course, _limit, _oracle in (
    ("grows by 100 MiB a minute to its memory_max of 4 GiB", _leak(100), 'memory_max = "4GiB"', 4_096),
    ("jumps by 6 GiB above its memory_max of 4 GiB", _jump(120, 6 * GIB), 'memory_max = "4GiB"', 4_096),
    ("stays above its memory_high of 2 GiB", _jump(60, 3 * GIB), 'memory_high = "2GiB"', 3_072),
    ("takes the last of the machine, 1 GiB a minute, no limit", _leak(1_024), "", LEFT_MIB),
    ("takes the last of the machine within a minute, no limit", _leak(50 * 1_024), "", LEFT_MIB),
):
    runaway(
        f"memory that {_name}", "memory", _oracle, counts="memory", limit=3_600.0, memory={"short": _course},
        toml=_PROCESS + _limit,
    )(_beside)  # fmt: skip


for _name, _course, _limit in (
    ("of a model server that loads 40 GiB in a minute", lambda lived: min(40.0, lived / 1.5) * GIB, ""),
    (
        "that swings below its memory_max",
        lambda lived: (1 + 2.8 * (lived % 60) / 60) * GIB,
        'memory_max = "4GiB"',
    ),
    ("that is above its memory_high for 40 s", _jump(100, 3 * GIB, until=140), 'memory_high = "2GiB"'),
):

    @row(f"memory {_name}", memory={"short": _course}, toml=_PROCESS + _limit)
    def _(rng: random.Random, n: int) -> Sequence[Client]:
        return [Client([Ask(chat(shapes.sentence(rng)), 2.0) for _ in range(n)])]
