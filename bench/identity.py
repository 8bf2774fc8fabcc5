"""What an identity costs: a JWT-SVID and an X.509-SVID through the real Workload API, the answer to who asks, memory.

    python bench/identity.py [--quick] [--json FILE]

The identity child runs as the daemon starts it, and the daemon's part (who is at the other end: /proc, the pidfd, the
control group) is in this process, which has as many subsystems as `SUBSYSTEMS`. Goals are of processor time, which a
busy machine does not change; the time that a client waited is told beside it. The peer's figure is such a time: of a
prototype that looked at the credentials of the connection alone.
"""

from __future__ import annotations

import asyncio
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/support"))

import structlog
from _harness import Row, run
from grpclib.client import Channel, UnaryStreamMethod, UnaryUnaryMethod
from identity_world import HEADER, IdentityWorld, identity_world

from epad.identity.attestation import Attestor
from epad.runtime.clock import boot_id
from epad.supervisor.cgroup import cgroup_of
from epad.supervisor.footprints import Workload
from epad.supervisor.identity import ProcessTable
from runners.identity.workload_messages import MESSAGES

SUBSYSTEMS = 100
CALLS, QUICK_CALLS = 2_000, 300
STREAMS = 200
JWT_MS, X509_MS, WHO_MS, RESIDENT_MIB = 3.0, 6.0, 1.0, 64.0
PROTOTYPE = {"prototype of 100 lines (shared/prototypes/tools/spiffe_proto.py)": 0.9}
PROTOTYPE_MIB = {"prototype of 100 lines, with grpclib": 59.0}


def attestor() -> Attestor:
    """One that knows many subsystems; this process is the last of them, as whoever is looked for may be."""
    table, own = ProcessTable(boot_id()), os.getpid()
    group = cgroup_of(own)
    others = [Workload(f"other{number}", None) for number in range(SUBSYSTEMS - 1)]
    workloads = [*others, Workload("agent", table.identity(own), group)]
    return Attestor(table, lambda: workloads, lambda _: os.geteuid(), lambda _: "")


async def timed(count: int, call: Callable[[], Awaitable[object]]) -> list[float]:
    """Call so often, one at a time; return the seconds of each."""
    found = []
    for _ in range(count):
        began = time.perf_counter()
        await call()
        found.append(time.perf_counter() - began)
    return found


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


@dataclass(frozen=True, slots=True)
class Cost:
    """What a call took: processor time of the child and of this process for each, and how long the client waited."""

    child_ms: float
    daemon_and_client_ms: float
    waited_ms: float
    calls: int


async def cost(pid: int, count: int, call: Callable[[], Awaitable[object]]) -> Cost:
    child, own = cpu_seconds(pid), time.process_time()
    waited = await timed(count, call)
    child, own = cpu_seconds(pid) - child, time.process_time() - own
    return Cost(child / count * 1e3, own / count * 1e3, statistics.median(waited) * 1e3, count)


async def through_the_api(world: IdentityWorld, count: int) -> tuple[Cost, Cost]:
    """Return the cost of a JWT-SVID, and of an X.509-SVID."""
    channel = Channel(path=str(world.path))
    jwt = UnaryUnaryMethod(
        channel, "/SpiffeWorkloadAPI/FetchJWTSVID", MESSAGES["JWTSVIDRequest"], MESSAGES["JWTSVIDResponse"]
    )
    x509 = UnaryStreamMethod(
        channel, "/SpiffeWorkloadAPI/FetchX509SVID", MESSAGES["X509SVIDRequest"], MESSAGES["X509SVIDResponse"]
    )

    async def one_jwt() -> None:
        await jwt(MESSAGES["JWTSVIDRequest"](audience=["memory"]), metadata=HEADER)

    async def one_x509() -> None:
        async with x509.open(metadata=HEADER) as stream:
            await stream.send_message(MESSAGES["X509SVIDRequest"](), end=True)
            await stream.recv_message()
            await stream.cancel()

    await timed(20, one_jwt)
    (pid,) = world.child.pids
    tokens, certificates = await cost(pid, count, one_jwt), await cost(pid, count, one_x509)
    channel.close()
    return tokens, certificates


def who_asks(count: int) -> float:
    """Return the processor time in ms that it takes to say whose a connection is."""
    own = attestor()
    with tempfile.TemporaryDirectory() as place, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{place}/s")
        listening.listen()
        with socket.socket(socket.AF_UNIX) as one:
            one.connect(f"{place}/s")
            connection, _ = listening.accept()
            with connection:
                now = time.clock_gettime(time.CLOCK_BOOTTIME)
                began = time.process_time()
                for _ in range(count):
                    assert own.attest(connection, now).name == "agent"
                return (time.process_time() - began) / count * 1e3


async def held_streams(world: IdentityWorld, count: int) -> float:
    """Return what the child weighs with so many streams open."""
    channels = [Channel(path=str(world.path)) for _ in range(count)]
    request, response = MESSAGES["X509SVIDRequest"], MESSAGES["X509SVIDResponse"]
    streams = []
    for channel in channels:
        method = UnaryStreamMethod(channel, "/SpiffeWorkloadAPI/FetchX509SVID", request, response)
        stream = method.open(metadata=HEADER)
        await stream.__aenter__()
        await stream.send_message(request(), end=True)
        assert (await stream.recv_message()) is not None
        streams.append(stream)
    (pid,) = world.child.pids
    weight = resident_mib(pid)
    for stream, channel in zip(streams, channels, strict=True):
        await stream.cancel()
        channel.close()
    return weight


async def measured(quick: bool) -> Sequence[Row]:
    command = "python bench/identity.py" + (" --quick" if quick else "")
    count = QUICK_CALLS if quick else CALLS
    with tempfile.TemporaryDirectory(prefix="epad-bench-") as place:
        async with identity_world(Path(place), attestor=attestor(), most_a_minute=1 << 30) as world:
            (pid,) = world.child.pids
            idle = resident_mib(pid)
            tokens, certificates = await through_the_api(world, count)
            streams = STREAMS // 4 if quick else STREAMS
            held = await held_streams(world, streams)
    who = who_asks(count)

    def row(
        claim: str, value: float, unit: str, goal: float, n: int, peers: dict[str, float | str] | None = None
    ) -> Row:
        return Row(claim, value, unit, f"{goal:g}", value <= goal, peers or {}, n, command)

    def waited(claim: str, one: Cost, peers: dict[str, float | str] | None = None) -> Row:
        return Row(claim, one.waited_ms, "ms", "", None, peers or {}, one.calls, command)

    return [
        row("a JWT-SVID, in the child", tokens.child_ms, "ms CPU", JWT_MS, count),
        waited("a client waits for it, median", tokens, {**PROTOTYPE}),
        row("an X.509-SVID by a new stream, in the child", certificates.child_ms, "ms CPU", X509_MS, count),
        waited("a client waits for it, median (X.509)", certificates),
        row(f"who asks, of {SUBSYSTEMS} subsystems, in the daemon", who, "ms CPU", WHO_MS, count),
        row("memory of the child (PSS)", idle, "MiB", RESIDENT_MIB, 1, {**PROTOTYPE_MIB}),
        row(f"memory of the child with {streams} streams open (PSS)", held, "MiB", RESIDENT_MIB, 1),
    ]


def measure(quick: bool) -> Sequence[Row]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    return asyncio.run(measured(quick))


if __name__ == "__main__":
    sys.exit(run("identity", measure))
