"""Run a command where every packet that would leave the machine is recorded, and none is answered.

`unshare --net --mount python recorded_network.py REPORT COMMAND...`. The namespace has a loopback, and one interface
with a default route for IPv4 and IPv6, whose other end is read; the only resolver lies behind it. What other
programs resolve names by, over Unix sockets, is hidden. REPORT gets a JSON list of [protocol, address, port].
"""

from __future__ import annotations

import ipaddress
import json
import select
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

_LINKS = """
link set lo up
link add way type veth peer name reader
address add 10.99.0.2/24 dev way
address add fd99::2/64 dev way nodad
link set way up
link set reader up
neighbour add 10.99.0.1 lladdr 02:00:00:00:00:01 dev way nud permanent
neighbour add fd99::1 lladdr 02:00:00:00:00:01 dev way nud permanent
route add default via 10.99.0.1
route add default via fd99::1
"""
_RESOLVER = "10.99.0.1"
_HIDDEN = ("/run/nscd", "/run/systemd/resolve", "/var/run/nscd")
_ALL_PROTOCOLS = 3
_IPV4, _IPV6, _ICMPV6, _HOP_BY_HOP = 0x0800, 0x86DD, 58, 0
_NAMES = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6"}

Packet = tuple[str, str, int]


def packet_of(frame: bytes) -> Packet | None:
    """Return where a frame is to go; None for what the kernel says to its neighbours by itself."""
    kind = struct.unpack_from("!H", frame, 12)[0]
    if kind == _IPV4:
        protocol, address = frame[23], frame[30:34]
        ports = 14 + 4 * (frame[14] & 15)
    elif kind == _IPV6:
        protocol, address, ports = frame[20], frame[38:54], 54
        if protocol == _HOP_BY_HOP or (protocol == _ICMPV6 and 130 <= frame[54] <= 143):
            return None
    else:
        return None
    port = struct.unpack_from("!H", frame, ports + 2)[0] if protocol in {6, 17} else 0
    return _NAMES.get(protocol, str(protocol)), str(ipaddress.ip_address(address)), port


def main() -> int:
    """Make the network, run the command, write the report; exit as the command did."""
    report, *command = sys.argv[1:]
    for line in _LINKS.strip().splitlines():
        subprocess.run(["ip", *line.split()], check=True)
    with tempfile.TemporaryDirectory() as place:
        resolver = Path(place) / "resolv.conf"
        resolver.write_text(f"nameserver {_RESOLVER}\noptions timeout:1 attempts:1\n")
        subprocess.run(["mount", "--bind", resolver, Path("/etc/resolv.conf").resolve()], check=True)
        for hidden in filter(lambda path: Path(path).is_dir(), _HIDDEN):
            subprocess.run(["mount", "-t", "tmpfs", "none", hidden], check=True)
        return _run(command, Path(report))


def _run(command: list[str], report: Path) -> int:
    found: list[Packet] = []
    ours, theirs = socket.socketpair()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL_PROTOCOLS)) as reader:
        reader.bind(("reader", 0))
        reading = threading.Thread(target=_read, args=(reader, ours, found))
        reading.start()
        status = subprocess.run(command, check=False).returncode
        theirs.close()
        reading.join()
    report.write_text(json.dumps(found))
    return status


def _read(reader: socket.socket, end: socket.socket, found: list[Packet]) -> None:
    """Take packets until the end is closed and nothing waits any more."""
    while True:
        ready, _, _ = select.select([reader, end], [], [])
        if reader in ready:
            packet = packet_of(reader.recv(65_536))
            if packet is not None:
                found.append(packet)
        elif end in ready:
            return


if __name__ == "__main__":
    sys.exit(main())
