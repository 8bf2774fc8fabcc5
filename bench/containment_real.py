"""Hold no honest workload over a real model server, and hold a loop over it.

`python bench/containment_real.py [--quick] [--json FILE]`. The workloads are those that epad once froze before real
servers: several answers to one prompt, an evaluation harness, yes and no in a growing conversation, a poem, tables and
lists. Two planted loops must be held, else the zeros say nothing. `_model_server.py` chooses the server; the stub gives
every question the same answer and stands for no model: with it only the loops are asked.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests" / "support")]
from _harness import Row, run  # noqa: E402
from _model_server import IN_FRONT, the_server  # noqa: E402
from installed import Installation, installation  # noqa: E402

COMMAND = "python bench/containment_real.py"
LOOK_SECONDS = 1.0
CLIENT = """
[subsystems.{name}]
kind = "client"
listen = "unix:{socket}"
"""
Bodies = Iterator[dict[str, Any]]
TOPICS = (
    "the sea", "an old bridge", "winter", "bread", "a lighthouse", "moss", "a train at night", "rain", "a garden",
    "copper", "the moon", "a clock", "salt", "a river", "wool", "glass", "a crow", "snow", "ink", "a harbour",
)  # fmt: skip


def body(text: str, tokens: int, **more: Any) -> dict[str, Any]:
    """One question."""
    return {"messages": [{"role": "user", "content": text}], "max_tokens": tokens, **more}


def samples(n: int) -> Bodies:
    """Five draws of each prompt at a temperature, as self-consistency does."""
    return (
        body(f"Name one thing about {TOPICS[k // 5 % 20]} ({k // 100}).", 16, temperature=0.8)
        for k in range(n)
    )


def harness(n: int) -> Bodies:
    """Multiple choice at temperature 0, two epochs one after the other, as an evaluation harness asks."""
    half = max(1, n // 2)
    for k in range(n):
        a, b = 7 + 3 * (k % half), 11 + 5 * (k % half)
        yield body(
            f"{a} + {b} = ? A) {a + b} B) {a + b + 1} C) {a - b} D) {a * b}. Answer with one letter.",
            4,
            temperature=0,
        )


def growing(n: int) -> Bodies:
    """Yes or no to one question after another, in a conversation that grows, begun anew after twelve."""
    messages: list[dict[str, str]] = []
    for k in range(n):
        messages = messages if k % 12 else []
        messages.append(
            {"role": "user", "content": f"Is {k * 7 % 101} larger than {k * 13 % 89}? Say yes or no."}
        )
        yield {"messages": list(messages), "max_tokens": 3, "temperature": 0}
        messages.append({"role": "assistant", "content": "Yes." if k * 7 % 101 > k * 13 % 89 else "No."})


def poems(n: int) -> Bodies:
    """A poem each time, streamed, as long as a page."""
    return (
        body(f"Write a poem about {TOPICS[k % 20]}.", 160, temperature=0.7, stream=True) for k in range(n)
    )


def tables(n: int) -> Bodies:
    """CSV, YAML and lists, streamed."""
    forms = (
        "a CSV table of 15 rows with id,name,price",
        "YAML with 12 entries of host and port",
        "a numbered list of 20 lines",
    )
    return (
        body(f"Write {forms[k % 3]} about {TOPICS[k % 20]}.", 160, temperature=0, stream=True)
        for k in range(n)
    )


def tight_loop(n: int) -> Bodies:
    """The same prompt at temperature 0, without end."""
    return (body("Say ok.", 4, temperature=0) for _ in range(n))


def error_loop(n: int) -> Bodies:
    """One error of a tool, appended again and again."""
    messages = [{"role": "user", "content": "Repair the build."}]
    for k in range(n):
        yield {"messages": [messages[0], *messages[1:][-20:]], "max_tokens": 8, "temperature": 0}
        messages.append({"role": "assistant", "content": f"I try again, number {k}."})
        messages.append({"role": "user", "content": "error: no such file"})


HONEST = {"samples": samples, "harness": harness, "growing": growing, "poems": poems, "tables": tables}
REQUESTS = {"samples": 300, "harness": 300, "growing": 240, "poems": 40, "tables": 45}
LOOPS = {"tight": tight_loop, "error": error_loop}
LOOP_REQUESTS = 120


@dataclass
class Told:
    """What came of a workload: statuses of its requests, and every hold on it that was seen."""

    statuses: Counter[int] = field(default_factory=Counter)
    finishes: Counter[str] = field(default_factory=Counter)
    holds: list[str] = field(default_factory=list)


def play(door: Path, model: str, bodies: Bodies, told: Told) -> None:
    """Ask one after the other; a workload that is held goes on to its end, and is told by its statuses."""
    for one in bodies:
        connection = http.client.HTTPConnection("epad", timeout=120)
        connection.sock = socket.socket(socket.AF_UNIX)
        try:
            connection.sock.connect(str(door))
            asked, head = json.dumps({"model": model, **one}), {"Content-Type": "application/json"}
            connection.request("POST", "/v1/chat/completions", asked, head)
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
            told.statuses[answer.status] += 1
            for finish in ("stop", "length", "content_filter"):
                told.finishes[finish] += f'"finish_reason":"{finish}"' in text.replace(" ", "")
        except (OSError, http.client.HTTPException):
            told.statuses[0] += 1
        finally:
            connection.close()


def look(
    house: Installation, told: dict[str, Told], phases: Counter[str], until: Sequence[threading.Thread]
) -> None:
    """Look once a second until all have played."""
    while any(thread.is_alive() for thread in until):
        status = house.status()
        phases[status["phase"]] += 1
        for one in status["subsystems"]:
            if one["hold"]["rung"] != "open":
                told[one["name"]].holds.append(f"{one['hold']['rung']}: {one['hold']['reason']}")
        time.sleep(LOOK_SECONDS)


def measure(quick: bool) -> list[Row]:
    """Play the honest workloads, two at once, then the loops."""
    server, model = the_server()
    is_real = bool(os.environ.get("EPAD_REAL_SERVE"))
    share = 0.1 if quick else 1.0
    honest = (
        {name: make(max(6, int(REQUESTS[name] * share))) for name, make in HONEST.items()} if is_real else {}
    )
    loops = {name: make(LOOP_REQUESTS) for name, make in LOOPS.items()}
    told = {name: Told() for name in (*honest, *loops)}
    server.start()
    try:
        with installation("") as house:
            doors = {name: house.directory / f"{name}.sock" for name in told}
            house.config.write_text(
                IN_FRONT.format(url=server.url)
                + "".join(CLIENT.format(name=name, socket=door) for name, door in doors.items())
            )
            house.start()
            at_honest, at_loops = Counter[str](), Counter[str]()
            for group, phases in ((honest, at_honest), (loops, at_loops)):
                waiting = list(group.items())
                while waiting:
                    some, waiting = waiting[:2], waiting[2:]
                    threads = [
                        threading.Thread(
                            target=play, args=(doors[name], model, bodies, told[name]), daemon=True
                        )
                        for name, bodies in some
                    ]
                    for thread in threads:
                        thread.start()
                    look(house, told, phases, threads)
            house.stop()
    finally:
        server.kill()
    return _rows(told, tuple(honest), tuple(loops), at_honest, f"{model}, {server.url}")


def _rows(
    told: dict[str, Told], honest: Sequence[str], loops: Sequence[str], phases: Counter[str], beside: str
) -> list[Row]:
    rows = []
    for name in honest:
        one, asked = told[name], sum(told[name].statuses.values())
        rows.append(
            Row(f"honest, {name}: requests not answered, or held", asked - one.statuses[200] + len(one.holds), "", "0",
                one.statuses == Counter({200: asked}) and not one.holds,
                {"server": beside, "statuses": str(dict(one.statuses)), "ends": str(dict(one.finishes)),
                 "holds": "; ".join(dict.fromkeys(one.holds))}, asked, COMMAND)
        )  # fmt: skip
    if honest:
        left = sum(count for phase, count in phases.items() if phase != "NORMAL")
        looks = sum(phases.values())
        rows.append(
            Row(
                "honest: looks in another phase than NORMAL", left, "looks", "0", not left, {}, looks, COMMAND
            )
        )
    for name in loops:
        one = told[name]
        rows.append(
            Row(f"loop, {name}: answered before it was held", one.statuses[200], "requests", "held", bool(one.holds),
                {"statuses": str(dict(one.statuses)), "holds": "; ".join(dict.fromkeys(one.holds))},
                sum(one.statuses.values()), COMMAND)
        )  # fmt: skip
    return rows


if __name__ == "__main__":
    sys.exit(run("containment_real", measure))
