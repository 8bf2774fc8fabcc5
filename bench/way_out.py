"""What the way out costs and how soon it cuts: its real process between a client and a server, each in its own.

`python bench/way_out.py [--quick] [--json FILE]`. A tunnel is cut in the middle of a download, as QUARANTINE does it,
and the time runs from the daemon's order to the client's end. Round trips, new tunnels and bulk are held against the
same over plain loopback.
"""

from __future__ import annotations

import asyncio
import re
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from _harness import Row, run

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from tls_hello import real_hello
from way_out_world import WayOutWorld, way_out_world

CUTS, QUICK_CUTS = 100, 20
TRIPS, QUICK_TRIPS = 2_000, 300
BULK_BYTES = 256 << 20
NEIGHBOURS = 100
CUT_GOAL_MS = 20.0
HOST = "a.example"
HELLO = real_hello(HOST)
COMMAND = "python bench/way_out.py"

# Each connection begins with a hello, which comes back; then what comes is sent back, or `flood` sends for ever.
SERVER = """
import socket, sys, threading
size, flood = int(sys.argv[1]), sys.argv[2] == "flood"
def serve(one):
    try:
        got = b""
        while len(got) < size:
            got += one.recv(size - len(got))
        one.sendall(got)
        while flood:
            one.sendall(bytes(1 << 16))
        while data := one.recv(1 << 16):
            one.sendall(data)
    except OSError:
        pass
listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
print(listener.getsockname()[1], flush=True)
while True:
    one, _ = listener.accept()
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    threading.Thread(target=serve, args=(one,), daemon=True).start()
"""


@contextmanager
def server(kind: str) -> Iterator[int]:
    """Run a server in a process of its own, and return its port."""
    arguments = (sys.executable, "-c", SERVER, str(len(HELLO)), kind)
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def direct(port: int) -> socket.socket:
    """Connect to a server itself."""
    one = socket.create_connection(("127.0.0.1", port))
    return greeted(one)


def tunnel(door: int, port: int) -> socket.socket:
    """Connect to a server by the way out."""
    one = socket.create_connection(("127.0.0.1", door))
    one.sendall(f"CONNECT {HOST}:{port} HTTP/1.1\r\n\r\n".encode())
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += one.recv(1)
    assert b" 200 " in answer, answer
    return greeted(one)


def greeted(one: socket.socket) -> socket.socket:
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    one.sendall(HELLO)
    left = len(HELLO)
    while left:
        left -= len(one.recv(left))
    return one


def round_trip(one: socket.socket, count: int) -> float:
    """Return the median of round trips of a byte, in microseconds."""
    took = []
    for _ in range(count):
        begun = time.perf_counter()
        one.sendall(b"x")
        one.recv(1)
        took.append(time.perf_counter() - begun)
    return statistics.median(took) * 1e6


def bulk(one: socket.socket) -> float:
    """Return how much a second comes from a server that sends for ever, in MB."""
    begun, left = time.perf_counter(), BULK_BYTES
    while left > 0:
        left -= len(one.recv(1 << 18))
    return BULK_BYTES / (time.perf_counter() - begun) / 1e6


async def cut(world: WayOutWorld, port: int) -> float:
    """Return the milliseconds from the order to close a door to the client's end, in the middle of a download."""
    await world.open("agent", f"{HOST}=127.0.0.1:{port}")
    one = await asyncio.to_thread(tunnel, world.ports["agent"], port)
    ended: list[float] = []

    def read() -> None:
        try:
            while one.recv(1 << 18):
                pass
        except OSError:
            pass
        ended.append(time.perf_counter())

    reading = threading.Thread(target=read)
    reading.start()
    await asyncio.sleep(0.05)
    begun = time.perf_counter()
    await world.way_out.close("agent")
    await asyncio.to_thread(reading.join)
    one.close()
    return (ended[0] - begun) * 1e3


def opened(open_one: Sequence[object], count: int) -> float:
    """Return the median of new connections that have carried a hello, in microseconds."""
    connect, *arguments = open_one
    assert callable(connect)
    took = []
    for _ in range(count):
        begun = time.perf_counter()
        one: socket.socket = connect(*arguments)
        took.append(time.perf_counter() - begun)
        one.close()
    return statistics.median(took) * 1e6


def private_kib(pid: int) -> float:
    """Return the memory that a process has for itself."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return float(sum(int(size) for size in re.findall(r"Private_\w+:\s+(\d+) kB", text)))


async def measure_cuts(world: WayOutWorld, port: int, count: int, command: str) -> Row:
    took = [await cut(world, port) for _ in range(count)]
    return Row(
        "from the order to the client's end, in mid-download: the longest", max(took), "ms", f"{CUT_GOAL_MS:g}",
        max(took) <= CUT_GOAL_MS, {"median": statistics.median(took)}, count, command,
    )  # fmt: skip


async def measure_costs(world: WayOutWorld, echo: int, flood: int, count: int, command: str) -> list[Row]:
    for name in ("agent", "busy"):
        await world.open(name, f"{HOST}=127.0.0.1:{echo}", f"{HOST}=127.0.0.1:{flood}")
    door = world.ports["agent"]
    through, plain = await asyncio.to_thread(tunnel, door, echo), await asyncio.to_thread(direct, echo)
    trip = await asyncio.to_thread(round_trip, through, count)
    trip_plain = await asyncio.to_thread(round_trip, plain, count)
    new = await asyncio.to_thread(opened, (tunnel, door, echo), count // 10)
    new_plain = await asyncio.to_thread(opened, (direct, echo), count // 10)
    rate = await asyncio.to_thread(bulk, await asyncio.to_thread(tunnel, door, flood))
    rate_plain = await asyncio.to_thread(bulk, await asyncio.to_thread(direct, flood))
    pid = world.way_out.pid
    assert pid is not None
    memory = private_kib(pid)
    neighbours = [await asyncio.to_thread(tunnel, world.ports["busy"], echo) for _ in range(NEIGHBOURS)]
    beside = await asyncio.to_thread(round_trip, through, count // 4)
    with_neighbours = private_kib(pid)
    for one in (*neighbours, through, plain):
        one.close()
    return [
        Row("a round trip of a byte", trip, "us", "", None, {"loopback": trip_plain}, count, command),
        Row(
            "a new tunnel with its hello", new, "us", "", None, {"loopback": new_plain}, count // 10, command
        ),
        Row("a download", rate, "MB/s", "", None, {"loopback": rate_plain}, BULK_BYTES, command),
        Row("a round trip beside 100 quiet tunnels", beside, "us", "", None, {}, count // 4, command),
        Row(
            "memory of the process",
            memory,
            "KiB",
            "",
            None,
            {"with 100 tunnels": with_neighbours},
            1,
            command,
        ),
    ]


async def main(*, quick: bool) -> Sequence[Row]:
    """Measure the cuts, then the costs."""
    command = COMMAND + (" --quick" if quick else "")
    with server("echo") as echo, server("flood") as flood:
        async with way_out_world() as world:
            cuts = await measure_cuts(world, flood, QUICK_CUTS if quick else CUTS, command)
        async with way_out_world() as world:
            costs = await measure_costs(world, echo, flood, QUICK_TRIPS if quick else TRIPS, command)
    return [cuts, *costs]


if __name__ == "__main__":
    sys.exit(run("way_out", lambda quick: asyncio.run(main(quick=quick))))
