"""What tool calls cost, in one run beside servers that others wrote: processor time, latency, start, memory.

`python bench/tools.py [--quick] [--json FILE]`. The daemon is the installed one, its ledger on the disk; each call is
recorded before it is done. Processor time is that of the process that serves, by /proc; the worker's own is a row of
its own. The machine may be busy: read ratios within a run, not figures across runs.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/support"))

from _harness import Peers, Row, run
from installed import QUICK, Installation, installation
from tool_agent import Connection
from tool_process import ToolWorker

_HERE = Path(__file__).parent
_TICK = os.sysconf("SC_CLK_TCK")
_MIB = 1 << 20
_BIG_BYTES = 400 * _MIB
_HANGING = 100
_IDLE_SECONDS = 3.0
# Less than such a call may take, after which its worker is killed.
_HANG_SECONDS = 6.0
# A load that repeats itself is what the probes stop.
_UNWATCHED = "[probes.tools]\nidentical_calls = 1000000\noutput_bytes = 1099511627776\n"
# Before other work on the machine: a figure made of somebody else's compiler helps nobody.
_NICE = -10


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured."""

    calls: int
    worker_calls: int
    starts: int
    beside: int


FULL = Effort(calls=1_000, worker_calls=500, starts=40, beside=500)
QUICK_EFFORT = Effort(calls=400, worker_calls=100, starts=10, beside=200)


@dataclass
class Client:
    """One client on one connection, in the era of sessions, which every server speaks."""

    connect: Callable[[], http.client.HTTPConnection]
    tool: str
    arguments: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)

    def calls(self, count: int) -> list[float]:
        """Make calls one after the other; return how long each took, in milliseconds."""
        params = {"name": self.tool, "arguments": self.arguments}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": "2025-11-25",
            **self.headers,
        }
        took = []
        with contextlib.closing(self.connect()) as connection:
            for _ in range(count):
                began = time.perf_counter()
                connection.request("POST", "/mcp", body, headers)
                answer = json.loads(connection.getresponse().read())
                took.append(1_000 * (time.perf_counter() - began))
                assert not answer["result"]["isError"], answer
        return took


def processor_ms(pid: int) -> float:
    """The processor time of a process so far, in milliseconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return 1_000 * (int(fields[11]) + int(fields[12])) / _TICK


def idle_ms(pid: int) -> float:
    """What a process takes a second while nobody calls: the daemon watches, whether there are calls or not."""
    before, began = processor_ms(pid), time.monotonic()
    time.sleep(_IDLE_SECONDS)
    return (processor_ms(pid) - before) / (time.monotonic() - began)


def cost(client: Client, pid: int, count: int, at_once: int = 1, idle: float = 0.0) -> float:
    """The processor time of a server for one call, in microseconds, without what it takes when idle."""
    client.calls(max(20, count // 10))
    before, began = processor_ms(pid), time.monotonic()
    threads = [threading.Thread(target=client.calls, args=(count // at_once,)) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    used = processor_ms(pid) - before - idle * (time.monotonic() - began)
    return 1_000 * used / (count // at_once * at_once)


@contextlib.contextmanager
def peer(kind: str) -> Iterator[tuple[Client, int]]:
    """A server that others wrote, and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, _HERE / "_tools_servers.py", kind, str(port)])
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.1)
        yield (
            Client(lambda: http.client.HTTPConnection("127.0.0.1", port), "echo", {"text": "x"}),
            process.pid,
        )
    finally:
        process.kill()
        process.wait()


def peers_cost(count: int) -> Peers:
    """The processor time of a call to each server that can be had."""
    figures: dict[str, float | str] = {}
    for kind, name in (("lowlevel", "official SDK, lowest layer"), ("fastmcp", "FastMCP")):
        try:
            with peer(kind) as (client, pid):
                figures[name] = cost(client, pid, count)
        except (AssertionError, KeyError, ValueError, OSError, http.client.HTTPException) as error:
            figures[name] = f"cannot be measured: {error!r:.80}"
    return figures


@contextlib.contextmanager
def house(directory: Path) -> Iterator[tuple[Installation, Callable[[str], Callable[[], Connection]]]]:
    """A daemon with two agents that each have a workspace; and the way to each one's door."""
    tables = []
    for name in ("one", "two"):
        (directory / name).mkdir()
        (directory / name / "a.txt").write_text("hello\n" * 100)
        tables.append(
            f'[subsystems.{name}]\nkind = "client"\nworking_directory = "{directory / name}"\n'
            f'listen = "unix:{directory / name}.sock"\n'
        )
    config = QUICK + _UNWATCHED + "[tools]\nenabled = true\ncalls_per_minute = 0\n" + "".join(tables)
    with installation(config) as made:
        made.start()
        yield made, lambda name: lambda: Connection(directory / f"{name}.sock")
        made.stop()


def cost_rows(effort: Effort, pid: int, way: Callable[[], Connection]) -> list[Row]:
    """What a call costs the daemon, and those who do less for one."""
    reads = Client(way, "file_stat", {"path": "a.txt"})
    writes = Client(way, "file_write", {"path": "b.txt", "content": "x", "mode": "replace"})
    idle = idle_ms(pid)
    alone = cost(reads, pid, effort.calls, idle=idle)
    many = cost(reads, pid, effort.calls, 16, idle)
    changed = cost(writes, pid, effort.calls // 4, idle=idle)
    figures = {**peers_cost(effort.calls // 4), "the daemon without calls, ms a second": idle}
    claim = "processor time of the daemon for a call, its record durable"
    return [
        Row(f"{claim}, one at a time", alone, "us", "<= 450", alone <= 450, figures, effort.calls),
        Row(f"{claim}, 16 at once", many, "us", "<= 450", many <= 450, {}, effort.calls),
        Row(f"{claim}, of a change, both records waited for", changed, "us", "", None, {}, effort.calls // 4),
    ]


def worker_rows(effort: Effort, root: Path) -> list[Row]:
    """What the worker adds to a call, by itself: a process of its own, confined."""
    took, used = [], []
    worker = ToolWorker("files", root)
    try:
        for number in range(effort.worker_calls + 20):
            began = time.perf_counter()
            answer = worker.answer("file_stat", {"path": "a.txt"})
            if number >= 20:
                took.append(1_000 * (time.perf_counter() - began))
                used.append(float(answer["cpu_ms"]))
    finally:
        worker.process.kill()
        worker.process.communicate()
    middle = statistics.median(took)
    cpu = {"processor time of the call's process, p50, ms": statistics.median(used)}
    return [
        Row("time that the worker adds to a call, p50", middle, "ms", "<= 4", middle <= 4, cpu, len(took))
    ]


def start_rows(effort: Effort, door: Path) -> list[Row]:
    """From the start of `epad mcp` to its first answer, against an interpreter that does nothing."""
    ping = b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n'
    relay = [Path(sys.executable).parent / "epad", "mcp", "--url", f"unix:{door}"]
    ours, theirs = [], []
    for _ in range(effort.starts):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        theirs.append(1_000 * (time.perf_counter() - began))
        began = time.perf_counter()
        with subprocess.Popen(relay, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(ping)
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["result"] == {}
            ours.append(1_000 * (time.perf_counter() - began))
    ratio = statistics.median(ours) / statistics.median(theirs)
    figures = {
        "epad mcp, p50, ms": statistics.median(ours),
        "python -c pass, p50, ms": statistics.median(theirs),
    }
    claim = "start of `epad mcp` to its first answer, of `python -c pass`"
    return [Row(claim, ratio, "x", "<= 2.5", ratio <= 2.5, figures, effort.starts)]


def hang_rows(
    effort: Effort, made: Installation, way: Callable[[str], Callable[[], Connection]]
) -> list[Row]:
    """Another agent's calls, while a hundred of one agent hang in a worker that answers nothing."""
    others = Client(way("two"), "file_stat", {"path": "a.txt"})
    before = quantile(others.calls(effort.beside))
    hanging = Client(way("one"), "file_stat", {"path": "a.txt"})
    hanging.calls(1)
    (worker,) = workers_of(made, "/one")
    os.kill(worker, signal.SIGSTOP)
    threads = [threading.Thread(target=give_up, args=(hanging,), daemon=True) for _ in range(_HANGING)]
    for thread in threads:
        thread.start()
    took, until = list[float](), time.monotonic() + _HANG_SECONDS
    while len(took) < effort.beside and time.monotonic() < until:
        took += others.calls(10)
    during, hung = quantile(took), sum(thread.is_alive() for thread in threads)
    with contextlib.suppress(ProcessLookupError):
        os.kill(worker, signal.SIGCONT)
    for thread in threads:
        thread.join()
    claim = f"others' calls while {_HANGING} of one agent hang, p99"
    figures = {"without them, ms": before, "of them still hanging at the end": float(hung)}
    return [Row(claim, during, "ms", "<= 50", during <= 50, figures, len(took))]


def give_up(client: Client) -> None:
    with contextlib.suppress(AssertionError, OSError, ValueError, http.client.HTTPException):
        client.calls(1)


def quantile(took: Sequence[float]) -> float:
    return statistics.quantiles(took, n=100)[98]


def workers_of(made: Installation, ending: str) -> list[int]:
    """The first processes of the workers that have a workspace of this name: the oldest of each cell."""
    assert made.process is not None
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit():
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if b"runners.tools" in words and words[-2].decode().endswith(ending):
                    found.append(int(entry.name))
    return found


def memory_rows(made: Installation, workspace: Path, way: Callable[[], Connection]) -> list[Row]:
    """What the daemon and the worker keep of a file that is too large for an answer."""
    assert made.process is not None
    with (workspace / "big.txt").open("w") as file:
        for _ in range(_BIG_BYTES // _MIB):
            file.write(("x" * 79 + "\n") * (_MIB // 80))
    client = Client(way, "file_read", {"path": "big.txt"})
    Client(way, "file_read", {"path": "a.txt"}).calls(3)
    pids = [made.process.pid, *workers_of(made, workspace.name)]
    before, most, done = resident(pids), 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.001):
            most = max(most, resident([pids[0], *workers_of(made, workspace.name)]))

    thread = threading.Thread(target=watch)
    thread.start()
    took = client.calls(3)
    Client(way, "file_wc", {"path": "big.txt"}).calls(1)
    done.set()
    thread.join()
    grown = max(0, most - before) / _MIB
    slowest = max(took)
    return [
        Row("memory for a file of 400 MiB, daemon and worker", grown, "MiB", "<= 20", grown <= 20, {}, 4),
        Row("answer of a file of 400 MiB, slowest", slowest, "ms", "<= 100", slowest <= 100, {}, len(took)),
    ]


def resident(pids: Sequence[int]) -> int:
    """The proportional memory of processes, in bytes."""
    size = 0
    for pid in pids:
        with contextlib.suppress(OSError, ValueError, IndexError):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            size += 1_024 * sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return size


def measure(quick: bool) -> list[Row]:  # as `run` calls it
    effort = QUICK_EFFORT if quick else FULL
    with contextlib.suppress(PermissionError):
        os.nice(_NICE)
    with tempfile.TemporaryDirectory(prefix="epad-tools-") as place, house(Path(place)) as (made, way):
        directory = Path(place)
        assert made.process is not None
        return [
            *cost_rows(effort, made.process.pid, way("one")),
            *worker_rows(effort, directory / "one"),
            *start_rows(effort, directory / "one.sock"),
            *hang_rows(effort, made, way),
            *memory_rows(made, directory / "two", way("two")),
        ]


if __name__ == "__main__":
    raise SystemExit(run("tools", measure))
