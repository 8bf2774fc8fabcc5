"""What becomes of confined agents when they are held, and when the daemon dies or is upgraded under their load.

python bench/confined_children.py --json bench/results/confined_children.json
python bench/confined_children.py --plant all      # break a rule on purpose: each time some row must be red
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/support"))

import installed
from _confined_children_plant import PLANTS
from _harness import Row, run, show
from installed import QUICK, Installation, installation

COMMAND = "python bench/confined_children.py"
CHILDREN = 10
CUTS = 100
AGAIN_GOAL_SECONDS = 1.0
CUT_GOAL_MS = 20.0

# Asks for its models as fast as it can, or keeps one stream open; writes down when it saw what, by the machine's clock.
AGENT = """
import json, os, time, urllib.request
seen = open("seen", "a", buffering=1)
ask = urllib.request.Request(TARGET or os.environ["EPAD_GATEWAY_URL"] + "/v1/models")
if TARGET:
    ask.set_proxy(os.environ["HTTP_PROXY"].removeprefix("http://"), "http")
while True:
    word = "ended"
    try:
        with urllib.request.urlopen(ask, timeout=60) as answer:
            if TARGET:
                seen.write(f"{time.monotonic()} begun\\n")
            while answer.read(1024):
                pass
    except OSError:
        word = "refused"
    seen.write(f"{time.monotonic()} {word}\\n")
    time.sleep(0.005)
"""


class Endless(BaseHTTPRequestHandler):
    """Sends a kilobyte every ten milliseconds for as long as somebody reads."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        with suppress(OSError):
            while True:
                self.wfile.write(bytes(1024))
                time.sleep(0.01)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name in the library)
        """Say nothing."""


@contextmanager
def endless() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def agent(name: str, target: str = "") -> str:
    """The tables of a confined agent; with a target, one that keeps a stream from there open by the way out."""
    source = f"TARGET = {f'http://{target}/' if target else ''!r}\n{AGENT}"
    hosts = f'hosts = ["{target}"]\n' if target else ""
    command = json.dumps([sys.executable, "-S", "-c", source])
    return f"[subsystems.{name}]\ncommand = {command}\n[subsystems.{name}.confine]\n{hosts}"


def seen(house: Installation, name: str) -> list[tuple[float, str]]:
    """What an agent has written down."""
    path = house.state / "subsystems" / name / "seen"
    with suppress(OSError):
        lines = path.read_text().splitlines()
        return [(float(at), word) for at, _, word in (line.partition(" ") for line in lines) if word]
    return []


def first(house: Installation, name: str, word: str, since: float) -> float:
    """Wait for a word, and return when it was written."""
    house.wait(
        lambda: any(at > since and one == word for at, one in seen(house, name)),
        f"{word} of {name}",
        killed=True,
    )
    return next(at for at, one in seen(house, name) if at > since and one == word)


def events(house: Installation, word: str, since: float) -> dict[str, float]:
    """When each agent was first told of in a line with this word, on the monotonic clock."""
    shift = time.time() - time.monotonic()
    found: dict[str, float] = {}
    for line in house.log.read_text().splitlines():
        if word not in line:
            continue
        event = json.loads(line)
        at = datetime.fromisoformat(event["timestamp"]).timestamp() - shift
        if at > since:
            found.setdefault(event["subsystem"], at)
    return found


def through_a_death(way: str, children: int = CHILDREN) -> list[Row]:
    """Agents under load, and a daemon that dies or is upgraded."""
    names = [f"agent{number}" for number in range(children)]
    passed = 0
    with installation(QUICK + "".join(map(agent, names))) as house:
        house.start()
        for name in names:
            first(house, name, "ended", 0.0)
        before = {name: house.subsystem(name)["pid"] for name in names}
        begun = again = time.monotonic()
        if way == "kill -9":
            passed, again = answered_without_a_daemon(house, names)
            begun = time.monotonic()
            house.launch()
        elif house.ctl("upgrade", "--reason", "a bench").returncode != 0:
            raise AssertionError("the upgrade was refused")
        else:
            again = time.monotonic()
        for name in names:
            first(house, name, "ended", again)
        adopted = events(house, '"subsystem.adopted"', begun)
        taken_up = events(house, '"state": "starting"', begun)
        answered = {name: first(house, name, "ended", adopted[name]) for name in adopted}
        house.wait(lambda: set(names) <= _running(house), "all to run")
        kept = sum(house.subsystem(name)["pid"] == before[name] for name in adopted)
        house.stop()
    slowest = max((answered[name] - taken_up[name] for name in adopted), default=float("inf"))
    whole = max(answered.values(), default=float("inf")) - begun
    about = f"{way} of the daemon, {children} confined children under load"
    return [
        row(f"{about}: adopted as they were", kept, "", kept == children, f"{children}", n=children),
        *(
            [row(f"{about}: answered while none ran", passed, "", passed == 0, "0", n=children)]
            if way == "kill -9"
            else []
        ),
        row(
            f"{about}: from the beginning of a child's adoption to its first answer, the slowest",
            slowest,
            "s",
            slowest <= AGAIN_GOAL_SECONDS,
            f"{AGAIN_GOAL_SECONDS:g}",
            {"from the next daemon's start (or the order) until all were answered, s": whole},
            children,
        ),
    ]


def answered_without_a_daemon(house: Installation, names: Collection[str]) -> tuple[int, float]:
    """Kill the daemon, wait until each agent was refused, and count the answers; return them and the time."""
    house.kill()
    gone = time.monotonic()
    for name in names:
        first(house, name, "refused", gone)
    now = time.monotonic()
    return sum(word == "ended" and gone < at < now for name in names for at, word in seen(house, name)), now


def _running(house: Installation) -> set[str]:
    with suppress(OSError):
        return {each["name"] for each in house.status()["subsystems"] if each["state"] == "running"}
    return set()


def held(rounds: int) -> Row:
    """A stream by the way out, cut by a quarantine and begun again by a release, so many times."""
    taken = []
    with endless() as target:
        block = '[containment]\noperator = "block"\n'
        with installation(QUICK + block + agent("agent", target)) as house:
            house.start()
            since = 0.0
            for _ in range(rounds):
                first(house, "agent", "begun", since)
                ordered = time.monotonic()
                house.client().order("/v1/subsystems/agent/quarantine", "a bench")
                taken.append((first(house, "agent", "ended", ordered) - ordered) * 1e3)
                since = time.monotonic()
                house.client().order("/v1/subsystems/agent/release", "a bench")
            house.stop()
    taken.sort()
    slow = taken[round(0.99 * (len(taken) - 1))]
    claim = "from the order of a quarantine to the end of a live stream in the cell, 99 of 100"
    peers: dict[str, float | str] = {"median, ms": statistics.median(taken), "slowest, ms": taken[-1]}
    return row(claim, slow, "ms", slow <= CUT_GOAL_MS, f"{CUT_GOAL_MS:g}", peers, len(taken))


def row(
    claim: str,
    value: float,
    unit: str,
    met: bool,
    goal: str,
    peers: dict[str, float | str] | None = None,
    n: int = CHILDREN,
) -> Row:
    return Row(claim, value, unit, goal, met, peers or {}, n, COMMAND)


def measure(quick: bool) -> Sequence[Row]:
    """Measure all of it."""
    return [*through_a_death("kill -9"), *through_a_death("upgrade"), held(10 if quick else CUTS)]


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Run every daemon with one bug in it."""
    program = Path(__file__).with_name("_confined_children_plant.py")
    with tempfile.TemporaryDirectory(prefix="epad-plant-") as directory:
        wrapper = Path(directory) / "epad"
        wrapper.write_text(f'#!/bin/sh\nexec {sys.executable} {program} {name} "$@"\n')
        wrapper.chmod(0o755)
        kept, installed.EPAD = installed.EPAD, wrapper
        try:
            yield
        finally:
            installed.EPAD = kept


def rows_with(plant: str, children: int = CHILDREN) -> list[Row]:
    """Return the rows of a daemon's death with one bug planted."""
    with planted(plant):
        return through_a_death("kill -9", children)


def plants_table(names: Sequence[str]) -> int:
    """Print the rows with each bug; the exit status is 1 if one turns no row red."""
    unnoticed = 0
    for name in names:
        print(f"planted: {name}", flush=True)
        rows = rows_with(name)
        show(rows)
        unnoticed += all(each.met for each in rows)
    print(f"{len(names)} bugs planted, {unnoticed} unnoticed")
    return int(unnoticed > 0)


def main() -> int:
    """Measure, or with `--plant NAME` measure with a bug."""
    if "--plant" not in sys.argv:
        return run("confined_children", measure)
    parser = argparse.ArgumentParser("confined_children")
    parser.add_argument("--plant", choices=["all", *PLANTS], help="exit 1 if no row notices")
    plant = parser.parse_args().plant
    return plants_table(list(PLANTS) if plant == "all" else [plant])


if __name__ == "__main__":
    sys.exit(main())
