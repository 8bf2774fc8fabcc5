"""What a cell holds, what it lets work, and what it costs: escapes and needs, start, memory, the way to the gateway.

python bench/confinement.py --json bench/results/confinement.json      # as root: for another user's cells too
python bench/confinement.py --peers-only --json bench/results/confinement.json      # sandbox-runtime and systemd alone
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/support"))

import cell_world
from _confinement_others import OTHERS, figures
from _confinement_peers import bubblewrap, got_out, protecting, run_as_user
from _harness import Peers, Row, run
from agent_needs import NEEDS, Need
from cell_world import GATEWAY, MODES, Mode
from escapes.all_cases import CASES
from neighbourhood import PYTHON, Neighbourhood, neighbourhood, unavailable

from epad.confinement.zygote import Zygote
from runners.cell.plan import Wall

COMMAND = "python bench/confinement.py"
LANDLOCK = tuple(wall for wall in Wall if wall.startswith("landlock") and wall != "landlock-tcp")
SPAWN_GOAL_MS = 15.0
MEMORY_GOAL_KIB = 1024.0
ROUND_TRIP_GOAL = 1.3
CONNECTION_GOAL = 1.2
# Runs in a cell and outside of one alike: half a second of round trips on one connection, or of new connections.
CLIENT = """
import socket, statistics, sys, time
kind, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
times = []
def connect():
    link = socket.create_connection(("127.0.0.1", port))
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return link
link = connect()
for _ in range(count):
    began = time.perf_counter()
    if kind == "connect":
        link.close()
        link = connect()
    link.sendall(b"x")
    link.recv(1)
    times.append(time.perf_counter() - began)
print(statistics.median(times) * 1e6)
"""


def modes() -> Sequence[Mode]:
    return MODES if os.geteuid() == 0 else MODES[:1]


def measure(quick: bool) -> list[Row]:
    return asyncio.run(_measure(quick))


async def _measure(quick: bool) -> list[Row]:
    others = measure_others(quick)
    async with cell_world.zygote() as zygote:
        rows = [await escapes(zygote, mode) for mode in modes()]
        rows += [await needs(zygote, mode) for mode in modes()]
        rows += [await spawn(zygote, mode, 30 if quick else 200) for mode in modes()]
        rows = [replace(row, peers={**row.peers, **others[row.claim]}) for row in rows]
        rows += [await memory(zygote)]
        rows += await network(zygote, 5 if quick else 20)
        rows += [await reopening(zygote, 20 if quick else 100)]
    return rows


def measure_others(quick: bool) -> dict[str, Peers]:
    """Measure the peers that know no modes, each once, and return what they have by claim."""
    with neighbourhood() as here:
        names = {mode: _names(mode, here) for mode in modes()}
    every = sorted(set().union(*names.values()))
    measured = {peer: of(every, _present(), 5 if quick else 40) for peer, of in OTHERS.items()}
    found: dict[str, Peers] = {}
    for mode in modes():
        claims = (_escapes_claim(mode, names[mode]), _needs_claim(mode), _spawn_claim(mode))
        found.update(zip(claims, figures(measured, names[mode]), strict=True))
    return found


def _names(mode: Mode, here: Neighbourhood) -> list[str]:
    """Name the escapes that mean something in a mode here: as root, a control group counts the processes."""
    left_out = {"fork_without_end"} if mode == "root daemon" else set()
    return sorted({case.name for case in CASES} - unavailable(here.facts) - left_out)


def _present() -> list[Need]:
    return [need for need in NEEDS if not need.lacking()]


def _escapes_claim(mode: Mode, names: Sequence[str]) -> str:
    return f"escapes held, {mode}, of {len(names)}"


def _needs_claim(mode: Mode) -> str:
    return f"needs met, {mode}, of {len(_present())}"


def _spawn_claim(mode: Mode) -> str:
    return f"start above a plain one, {mode}"


async def escapes(zygote: Zygote, mode: Mode) -> Row:
    """Count the escapes that each holds; what only some kernels let out counts for all alike."""
    peers: Peers = {}
    with neighbourhood() as here:
        names = _names(mode, here)
        command = here.command(names)
        out = got_out((await cell_world.run(zygote, here.plan(mode, command))).output)
    with neighbourhood() as here:
        peers["none"] = len(names) - out_of(run_as_user(here.command(names), str(here.workspace)))
    with neighbourhood() as here:
        wrapper = bubblewrap(str(here.workspace), [here.facts["readable"]])
        if wrapper is None:
            peers["bubblewrap"] = "not installed"
        else:
            done = run_as_user([*wrapper, *protecting(here), *here.command(names)], str(here.workspace))
            peers["bubblewrap"] = len(names) - out_of(done)
    with neighbourhood() as here:
        peers["Landlock alone"] = len(names) - len(await landlock_alone(zygote, here, mode, names))
    return Row(
        _escapes_claim(mode, names), len(names) - len(out), "", "all", not out, peers, len(names), COMMAND
    )


async def landlock_alone(zygote: Zygote, here: Neighbourhood, mode: Mode, names: Sequence[str]) -> list[str]:
    others = [wall for wall in Wall if wall not in LANDLOCK]
    ordered = cell_world.without(here.plan(mode, here.command(names)), *others)
    return got_out((await cell_world.run(zygote, ordered)).output)


def out_of(done: subprocess.CompletedProcess[str]) -> int:
    return len(got_out(done.stdout)) if done.stdout else 0


async def needs(zygote: Zygote, mode: Mode) -> Row:
    present = _present()
    met = {need.name for need in present if await _is_met(zygote, mode, need)}
    peers: Peers = {}
    for peer, wrap in (("none", lambda _: []), ("bubblewrap", bubblewrap)):
        peers[peer] = sum(_is_met_by(wrap, need) for need in present)
    return Row(
        _needs_claim(mode), len(met), "", "all", len(met) == len(present), peers, len(present), COMMAND
    )


async def _is_met(zygote: Zygote, mode: Mode, need: Need) -> bool:
    with cell_world.workspace(cell_world.UID) as place:
        return need.is_met((await cell_world.run(zygote, cell_world.plan(place, need.command, mode))).output)


def _is_met_by(wrap: Callable[[str], list[str] | None], need: Need) -> bool:
    with cell_world.workspace(cell_world.UID) as place:
        home = place / "home"
        home.mkdir(mode=0o777)
        home.chmod(0o777)
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(home), "LANG": "C.UTF-8"}
        command = [*(wrap(str(place)) or []), *need.command]
        return need.is_met(run_as_user(command, str(place), environment).stdout)


async def spawn(zygote: Zygote, mode: Mode, count: int) -> Row:
    """Time a start to the end of a program that does nothing, in turn with the same without a cell."""
    with cell_world.workspace(cell_world.UID) as place:
        ordered = cell_world.plan(place, ["/bin/true"], mode)
        wrapper = bubblewrap(str(place))
        ways: dict[str, Callable[[], Awaitable[object]]] = {
            "plain": lambda: _run_plainly(["/bin/true"], place),
            "cell": lambda: cell_world.run(zygote, ordered),
        }
        if wrapper is not None:
            ways["bubblewrap"] = lambda: _run_plainly([*wrapper, "/bin/true"], place)
        times: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(count):
            for way, start in ways.items():
                began = time.perf_counter()
                await start()
                times[way].append((time.perf_counter() - began) * 1e3)
    plain = statistics.median(times.pop("plain"))
    above = {way: statistics.median(taken) - plain for way, taken in times.items()}
    value = above.pop("cell")
    return Row(
        _spawn_claim(mode),
        value,
        "ms",
        f"<= {SPAWN_GOAL_MS:g}",
        value <= SPAWN_GOAL_MS,
        {**above, "plain, in all": plain},
        count,
        COMMAND,
    )


async def _run_plainly(command: Sequence[str], place: Path) -> None:
    run_as_user(command, str(place))


async def memory(zygote: Zygote) -> Row:
    """Weigh the process that stays beside a program, and the zygote once for the daemon."""
    with cell_world.workspace(cell_world.UID) as place:
        running = await cell_world.start(zygote, cell_world.plan(place, ["sleep", "60"]))
        value = private_kib(running.cell.pid)
        os.kill(running.cell.pid, signal.SIGKILL)
        await running.end()
        peers: Peers = {"the zygote, once": private_kib(zygote.pid or 0)}
        if (wrapper := bubblewrap(str(place))) is not None:
            peers["bubblewrap's own processes"] = _weigh([*wrapper, "sleep", "60"], place)
    claim = "private memory beside a program"
    return Row(claim, value, "KiB", "<= 1024", value <= MEMORY_GOAL_KIB, peers, 1, COMMAND)


def private_kib(pid: int) -> float:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    lines = (
        line.split() for line in text.splitlines() if line.startswith(("Private_Clean", "Private_Dirty"))
    )
    return float(sum(int(line[1]) for line in lines))


def _weigh(command: Sequence[str], place: Path) -> float:
    with subprocess.Popen(command, cwd=place, start_new_session=True) as process:
        deadline = time.monotonic() + 10
        while len(found := _tree(process.pid)) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        total = sum(private_kib(pid) for pid in found if "bwrap" in Path(f"/proc/{pid}/comm").read_text())
        with suppress(ProcessLookupError):
            process.kill()
    return total


def _tree(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(below for child in children for below in _tree(int(child)))]


async def network(zygote: Zygote, rounds: int) -> list[Row]:
    """Time the way to a door against the same on the host's loopback, in turn."""
    times: dict[tuple[str, str], list[float]] = {}
    with cell_world.workspace(cell_world.UID) as place, socket.create_server(("127.0.0.1", 0)) as host:
        _serve(host)
        for _ in range(rounds):
            for kind, count in (("round trip", "3000"), ("connect", "800")):
                arguments = [PYTHON, "-c", CLIENT, kind.split()[0]]
                command = [*arguments, str(host.getsockname()[1]), count]
                plain = float(
                    await asyncio.to_thread(lambda command=command: run_as_user(command, str(place)).stdout)
                )
                ordered = cell_world.plan(place, [*arguments, str(GATEWAY.port), count])
                running = await cell_world.start(zygote, ordered)
                door = running.cell.doors[0].dup()
                _serve(door)
                times.setdefault((kind, "cell"), []).append(float((await running.end()).output))
                door.shutdown(socket.SHUT_RDWR)
                door.close()
                times.setdefault((kind, "loopback"), []).append(plain)
    return [
        _ratio("a round trip through a door", "round trip", ROUND_TRIP_GOAL, times),
        _ratio("a new connection to a door", "connect", CONNECTION_GOAL, times),
    ]


def _ratio(claim: str, kind: str, goal: float, times: dict[tuple[str, str], list[float]]) -> Row:
    cell, loopback = (statistics.median(times[kind, place]) for place in ("cell", "loopback"))
    peers: Peers = {"loopback, us": loopback, "door, us": cell}
    value = cell / loopback
    return Row(
        claim, value, "x loopback", f"<= {goal:g}", value <= goal, peers, len(times[kind, "cell"]), COMMAND
    )


def _serve(listener: socket.socket) -> None:
    """Echo one byte at a time to whoever connects, until the listener is shut."""
    listener.setblocking(True)

    def accept() -> None:
        with suppress(OSError):
            while True:
                link, _ = listener.accept()
                link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with link, suppress(OSError):
                    while byte := link.recv(1):
                        link.sendall(byte)

    threading.Thread(target=accept, daemon=True).start()


async def reopening(zygote: Zygote, count: int) -> Row:
    """Time making both doors anew in a living cell, as the next daemon does."""
    times = []
    with cell_world.workspace(cell_world.UID) as place:
        running = await cell_world.start(zygote, cell_world.plan(place, ["sleep", "600"]))
        doors = running.cell.doors
        for _ in range(count):
            for door in doors:
                door.close()
            began = time.perf_counter()
            doors = (await zygote.reopen(running.cell.pid, [GATEWAY, cell_world.WAY_OUT])).doors
            times.append((time.perf_counter() - began) * 1e3)
        for door in doors:
            door.close()
        os.kill(running.cell.pid, signal.SIGKILL)
        await running.end()
    value = statistics.median(times)
    return Row("two doors anew in a living cell", value, "ms", "<= 1000", value <= 1000, {}, count, COMMAND)


if __name__ == "__main__":
    sys.exit(run("confinement", measure, measure_others))
