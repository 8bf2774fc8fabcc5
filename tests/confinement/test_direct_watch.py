"""Attempts to connect past the doors of a real cell: which are seen, and that a server of its own is left alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import cell_world
import pytest
from cell_world import GATEWAY, Mode, Running
from patience import until
from way_out_world import KeptEvents, KeptObserver

from epad.confinement.direct_record import DirectRecord
from epad.confinement.direct_watch import READ_AT_ONCE, DirectWatch
from epad.confinement.model_servers import Servers
from epad.confinement.zygote import Zygote
from epad.metrics.registry import Metrics
from epad.runtime.clock import SystemClock
from epad.storage.event_log import EventKind
from probes.egress import EgressDirect

MODEL = 11_434
OWN = 8_000
SERVERS = Servers({MODEL: "upstream here", OWN: "upstream there"}, {"api.vendor.example": "upstream cloud"})

BEGIN = """
import errno, socket, time
def tcp(host, port):
    one = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    one.settimeout(5)
    try:
        one.connect((host, port))
        print("connected", host, port)
    except OSError as error:
        print(errno.errorcode[error.errno], host, port)
    return one
def udp(host, port, text=b"x"):
    one = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        one.connect((host, port)); one.send(text); one.settimeout(5); one.recv(1)
    except OSError as error:
        print(errno.errorcode[error.errno], host, port)
"""


class Watching:
    """A watch of cells, and what it has put on record."""

    def __init__(self) -> None:
        self.events, self.observer, self.metrics = KeptEvents(), KeptObserver(), Metrics()
        record = DirectRecord(self.events, self.metrics, self.observer, SystemClock(), lambda: SERVERS)
        self.watch = DirectWatch(record)

    @property
    def seen(self) -> list[tuple[str, int, str]]:
        return [
            (one.host, one.port, one.kind) for one in self.observer.heard if isinstance(one, EgressDirect)
        ]

    def value(self, kind: str) -> float:
        labels = {"subsystem": "agent", "kind": kind}
        return self.metrics.registry.get_sample_value("epad_egress_direct_attempts_total", labels) or 0.0


@pytest.fixture
async def watching() -> AsyncIterator[Watching]:
    one = Watching()
    yield one
    one.watch.close("agent")


async def begun(
    zygote: Zygote, place: Path, mode: Mode, watching: Watching, source: str, *, read: bool = True
) -> Running:
    """Start a program in a cell whose attempts are watched."""
    command = ["python3", "-S", "-c", BEGIN + source]
    plan = replace(cell_world.plan(place, command, mode), watched=watching.watch.ports())
    running = await cell_world.start(zygote, plan)
    assert running.cell.unwatched == ""
    assert running.cell.watch is not None
    if read:
        watching.watch.open("agent", running.cell.watch.dup())
    return running


async def test_every_attempt_to_connect_is_seen_by_its_address(
    zygote: Zygote, place: Path, mode: Mode, watching: Watching
) -> None:
    """At a model server by the loopback of either family, at a host, by TCP and by QUIC; all are refused at once."""
    source = f"""
tcp("127.0.0.1", {MODEL}); tcp("127.9.9.9", {MODEL}); tcp("::1", {MODEL})
tcp("192.0.2.1", 443); tcp("2001:db8::1", 80); udp("192.0.2.2", 443); udp("2001:db8::2", 443)
"""
    running = await begun(zygote, place, mode, watching, source)
    ended = await running.end()
    assert {line.split()[0] for line in ended.output.splitlines()} == {"ECONNREFUSED"}, ended.output
    await until(lambda: len(watching.seen) == 7, f"all seven, not {watching.seen}")
    assert watching.seen == [
        ("127.0.0.1", MODEL, "model_server"),
        ("127.9.9.9", MODEL, "model_server"),
        ("::1", MODEL, "model_server"),
        ("192.0.2.1", 443, "host"),
        ("2001:db8::1", 80, "host"),
        ("192.0.2.2", 443, "host"),
        ("2001:db8::2", 443, "host"),
    ]
    first = watching.events.of(EventKind.EGRESS_DIRECT)[0]
    assert (first["server"], first["how"], first["unsaid_before"]) == ("upstream here", "tcp", 0)
    assert first["words"] == "tried to connect to 127.0.0.1:11434 (upstream here), past its doors"
    assert (watching.value("model_server"), watching.value("host")) == (3, 4)


async def test_a_name_that_is_looked_up_is_seen(
    zygote: Zygote, place: Path, mode: Mode, watching: Watching
) -> None:
    """By the C library's own resolver, which is refused at once; the event names the model server of that name."""
    source = """
try:
    socket.getaddrinfo("api.vendor.example", 443)
except OSError as error:
    print(error)
"""
    running = await begun(zygote, place, mode, watching, source)
    await running.end()
    await until(lambda: watching.seen, "the question")
    assert {kind for _, _, kind in watching.seen} == {"lookup"}
    assert watching.seen[0][:2] == ("api.vendor.example", 53)
    assert watching.events.of(EventKind.EGRESS_DIRECT)[0]["server"] == "upstream cloud"


async def test_what_a_cell_does_within_itself_is_no_attempt(
    zygote: Zygote, place: Path, mode: Mode, watching: Watching
) -> None:
    """A server of its own at a model server's port, an aborted connection to it, other ports, and its doors."""
    source = f"""
import struct
tcp("127.0.0.1", 5_000)
server = socket.create_server(("127.0.0.1", {OWN}))
for _ in range(3):
    inside = tcp("127.0.0.1", {OWN}); link, _ = server.accept()
    inside.sendall(b"unread"); link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    link.close()
    inside.close()
tcp("{GATEWAY.host}", {GATEWAY.port})
own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); own.bind(("127.0.0.1", 0))
udp_client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); udp_client.sendto(b"a", own.getsockname())
assert own.recv(9) == b"a"
try:
    udp_client.sendto(b"b", ("192.0.2.1", 123))
except OSError as error:
    print(errno.errorcode[error.errno], "ntp")
tcp("127.0.0.1", {MODEL})
"""
    running = await begun(zygote, place, mode, watching, source)
    ended = await running.end()
    assert "ENETUNREACH ntp" in ended.output
    assert ended.output.count(f"connected 127.0.0.1 {OWN}") == 3
    await until(lambda: watching.seen, "the one attempt")
    assert watching.seen == [("127.0.0.1", MODEL, "model_server")]


async def test_the_program_has_no_packet_socket_and_can_make_none(
    zygote: Zygote, place: Path, mode: Mode, watching: Watching
) -> None:
    source = """
import os
try:
    socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
except OSError as error:
    print(errno.errorcode[error.errno])
for number in os.listdir("/proc/self/fd"):
    place = "/proc/self/fd/" + number
    print(os.readlink(place) if os.path.lexists(place) else "")
"""
    ended = await (await begun(zygote, place, mode, watching, source)).end()
    assert ended.output.startswith("EPERM\n")
    assert "pipe:" in ended.output
    assert "socket:" not in ended.output


async def test_a_flood_is_read_in_pieces_and_the_rest_is_counted(
    zygote: Zygote, place: Path, mode: Mode, watching: Watching
) -> None:
    """No attempt is without a trace: it is read, or in the number of those that were not."""
    tries = 3_000
    source = f"for _ in range({tries}):\n    one = socket.socket(); one.connect_ex(('192.0.2.1', 443)); one.close()\n"
    running = await begun(zygote, place, mode, watching, source)
    await running.end()
    await until(lambda: watching.value("host") + watching.value("unread") == tries, "all to be counted")
    assert watching.value("unread") > 0
    assert watching.value("host") >= READ_AT_ONCE
    assert len(watching.events.of(EventKind.EGRESS_DIRECT)) < 20


async def test_the_next_daemon_sees_attempts_in_a_living_cell(
    zygote: Zygote, place: Path, mode: Mode, watching: Watching
) -> None:
    """Its socket is another one; whoever tries meanwhile is refused, and not seen."""
    source = f"""
import os
while not os.path.exists("go"):
    time.sleep(0.02)
tcp("127.0.0.1", {MODEL})
"""
    running = await begun(zygote, place, mode, watching, source, read=False)
    assert running.cell.watch is not None
    running.cell.watch.close()
    again = await zygote.reopen(running.cell.pid, [], watching.watch.ports())
    assert (again.doors, again.unwatched) == ((), "")
    assert again.watch is not None
    watching.watch.open("agent", again.watch)
    await asyncio.to_thread((place / "go").touch)
    await running.end()
    await until(lambda: watching.seen == [("127.0.0.1", MODEL, "model_server")], "the attempt")


async def test_a_cell_that_is_not_watched_has_no_such_routes(zygote: Zygote, place: Path, mode: Mode) -> None:
    """As it was before: there is no way to any address."""
    command = ["python3", "-S", "-c", BEGIN + 'tcp("192.0.2.1", 443)']
    plan = replace(cell_world.plan(place, command, mode), watched=None)
    ended = await cell_world.run(zygote, plan)
    assert ended.output.startswith("ENETUNREACH"), ended.output
