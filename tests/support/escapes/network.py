"""Ways to the network, and to sockets that are not files."""

from __future__ import annotations

import fcntl
import os
import socket
import struct

from escapes.case import Facts, escape, read

MSG_FASTOPEN = 0x20000000


def _connects(family: int, address: tuple[str, int]) -> bool:
    with socket.socket(family, socket.SOCK_STREAM) as link:
        link.settimeout(2)
        link.connect(address)
    return True


def _answers(address: tuple[str, int]) -> bool:
    """Say whether an echo of datagrams is there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.settimeout(1)
        link.sendto(b"x", address)
        return link.recv(10) == b"x"


@escape("network")
def reach_a_model_server_directly(facts: Facts) -> bool:
    return _connects(socket.AF_INET, ("127.0.0.1", facts["tcp"]))


@escape("network")
def reach_it_by_another_loopback_address(facts: Facts) -> bool:
    return _connects(socket.AF_INET, ("127.9.9.9", facts["tcp"]))


@escape("network")
def reach_it_by_ipv6(facts: Facts) -> bool:
    return _connects(socket.AF_INET6, ("::1", facts["tcp6"]))


@escape("network")
def reach_it_by_a_mapped_address(facts: Facts) -> bool:
    return _connects(socket.AF_INET6, ("::ffff:127.0.0.1", facts["tcp"]))


@escape("network")
def reach_it_by_no_address(facts: Facts) -> bool:
    return _connects(socket.AF_INET, ("0.0.0.0", facts["tcp"]))


@escape("network")
def reach_it_by_the_machines_address(facts: Facts) -> bool:
    return _connects(socket.AF_INET, (facts["address"], facts["tcp"]))


@escape("network")
def reach_another_port(facts: Facts) -> bool:
    return _connects(socket.AF_INET, ("127.0.0.1", facts["other_tcp"]))


@escape("network")
def ask_a_name_server(facts: Facts) -> bool:
    return _answers(("127.0.0.1", facts["udp"]))


@escape("network")
def send_datagrams_by_a_connected_socket(facts: Facts) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.settimeout(1)
        link.connect(("127.0.0.1", facts["udp"]))
        link.send(b"x")
        return link.recv(10) == b"x"


@escape("network", "syscalls")
def connect_by_fast_open(facts: Facts) -> bool:
    with socket.socket() as link:
        link.sendto(b"x", MSG_FASTOPEN, ("127.0.0.1", facts["tcp"]))
        return bool(link.getpeername()[1] == facts["tcp"])


@escape("network", "syscalls")
def connect_by_fast_open_of_a_message(facts: Facts) -> bool:
    with socket.socket() as link:
        link.sendmsg([b"x"], [], MSG_FASTOPEN, ("127.0.0.1", facts["tcp"]))
        return bool(link.getpeername()[1] == facts["tcp"])


@escape("network", "syscalls", optional=True)
def connect_by_mptcp(facts: Facts) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262) as link:
        link.settimeout(2)
        link.connect(("127.0.0.1", facts["tcp"]))
    return True


@escape("network", "landlock-scope")
def reach_an_abstract_socket(facts: Facts) -> bool:
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(f"\0{facts['unique']}")
    return True


@escape("network", "landlock-scope")
def send_to_an_abstract_socket(facts: Facts) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        link.sendto(b"x", f"\0{facts['unique']}-dgram")
    return True


@escape("network")
def list_the_hosts_interfaces(facts: Facts) -> bool:
    return len(socket.if_nameindex()) > 1


@escape("network")
def see_the_hosts_connections(facts: Facts) -> bool:
    return f":{facts['tcp']:04X}" in read("/proc/self/net/tcp")


@escape("network")
def be_reached_from_outside(facts: Facts) -> bool:
    """A listener on the host's loopback would be in the host's list of them."""
    with socket.create_server(("127.0.0.1", 0)):
        return bool(os.readlink("/proc/self/ns/net") == facts["network_namespace"])


@escape("privileges", outside=False)
def take_the_loopback_down(facts: Facts) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        fcntl.ioctl(link, 0x8914, struct.pack("16sh22x", b"lo", 0))
    return True


@escape("privileges", "syscalls", outside=False)
def make_a_raw_socket(facts: Facts) -> bool:
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()
    return True


@escape("privileges", "syscalls", outside=False)
def make_a_packet_socket(facts: Facts) -> bool:
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()
    return True


@escape("syscalls")
def hear_the_kernels_events(facts: Facts) -> bool:
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15).close()  # NETLINK_KOBJECT_UEVENT
    return True


@escape("syscalls")
def ask_the_firewall(facts: Facts) -> bool:
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4).close()  # NETLINK_SOCK_DIAG: others' sockets
    return True
