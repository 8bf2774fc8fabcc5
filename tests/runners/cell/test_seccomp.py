"""The filter of system calls, asked call by call on a machine that is played: both tables, every choice."""

from __future__ import annotations

import errno
import socket

import pytest
from bpf_machine import verdict
from hypothesis import given
from hypothesis import strategies as st

from runners.cell import bpf, seccomp
from runners.cell.plan import Syscalls
from runners.cell.syscall_numbers import ARCHITECTURES, NUMBERS

REFUSED = bpf.errno_of(errno.EPERM)
UNKNOWN = bpf.errno_of(errno.ENOSYS)
MACHINES = tuple(NUMBERS)
USUAL = Syscalls()
ALONE = Syscalls(unix_sockets=False, datagrams=False)
NEW_USER, SIGCHLD = 0x10000000, 17
CLOEXEC, NONBLOCK = 0o2000000, 0o4000


def ask(name: str, *arguments: int, machine: str = "x86_64", choice: Syscalls = USUAL) -> int:
    code = seccomp.make_filter(choice, machine)
    return verdict(code, ARCHITECTURES[machine], NUMBERS[machine][name], arguments)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", seccomp.DENIED)
def test_what_leads_out_is_refused(machine: str, name: str) -> None:
    """On every machine that has the call; the two that only one has are x86_64's."""
    if name in NUMBERS[machine]:
        assert ask(name, machine=machine) == REFUSED
    else:
        assert name in {"iopl", "ioperm", "modify_ldt", "uselib", "_sysctl"}


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("clone3", (), UNKNOWN),
        ("clone", (SIGCHLD,), bpf.ALLOW),
        ("clone", (SIGCHLD | NEW_USER,), REFUSED),
        ("ioctl", (0, 0x5412), REFUSED),
        ("ioctl", (0, 0x5413), bpf.ALLOW),
        ("ioctl", (0, 1 << 32 | 0x5412), REFUSED),
        ("sendto", (3, 0, 0, 0x20000000), REFUSED),
        ("sendto", (3, 0, 0, 0x4000), bpf.ALLOW),
        ("sendmsg", (3, 0, 0x20000000), REFUSED),
        ("sendmmsg", (3, 0, 1, 0x20000000), REFUSED),
        ("setsockopt", (3, 6, 30), REFUSED),
        ("setsockopt", (3, 6, 31), REFUSED),
        ("setsockopt", (3, 6, 1), bpf.ALLOW),
        ("setsockopt", (3, 1, 30), bpf.ALLOW),
        ("socketpair", (socket.AF_UNIX, 1), bpf.ALLOW),
        ("socketpair", (socket.AF_INET, 1), REFUSED),
        ("memfd_create", (0, 0x1), UNKNOWN),
        ("memfd_create", (0, 0x11), UNKNOWN),
        ("memfd_create", (0, 0x9), bpf.ALLOW),
        ("memfd_create", (0, 0x18), UNKNOWN),
    ],
)
def test_calls_are_judged_by_their_arguments(
    machine: str, name: str, arguments: tuple[int, ...], expected: int
) -> None:
    """The lower halves alone count, as they do for the kernel."""
    assert ask(name, *arguments, machine=machine) == expected


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("family", "kind", "protocol", "usual", "alone"),
    [
        (socket.AF_INET, socket.SOCK_STREAM | CLOEXEC, 0, bpf.ALLOW, bpf.ALLOW),
        (socket.AF_INET6, socket.SOCK_STREAM | NONBLOCK, 6, bpf.ALLOW, bpf.ALLOW),
        (socket.AF_INET, socket.SOCK_STREAM, 262, REFUSED, REFUSED),  # MPTCP
        (socket.AF_INET, socket.SOCK_STREAM, 132, REFUSED, REFUSED),  # SCTP
        (socket.AF_INET, socket.SOCK_DGRAM, 17, bpf.ALLOW, REFUSED),
        (socket.AF_INET, socket.SOCK_DGRAM, 1, REFUSED, REFUSED),  # ICMP
        (socket.AF_INET, socket.SOCK_RAW, 1, REFUSED, REFUSED),
        (socket.AF_INET, socket.SOCK_SEQPACKET, 132, REFUSED, REFUSED),
        (socket.AF_UNIX, socket.SOCK_STREAM, 0, bpf.ALLOW, REFUSED),
        (socket.AF_UNIX, socket.SOCK_DGRAM | CLOEXEC, 0, bpf.ALLOW, bpf.ALLOW),  # sd_notify(3)
        (socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE, bpf.ALLOW, bpf.ALLOW),
        (socket.AF_NETLINK, socket.SOCK_RAW, 9, REFUSED, REFUSED),  # audit
        (socket.AF_PACKET, socket.SOCK_RAW, 0, REFUSED, REFUSED),
        (40, socket.SOCK_STREAM, 0, REFUSED, REFUSED),  # AF_VSOCK
        (38, socket.SOCK_SEQPACKET, 0, REFUSED, REFUSED),  # AF_ALG
    ],
)
def test_sockets_are_judged_by_family_kind_and_protocol(
    machine: str, family: int, kind: int, protocol: int, usual: int, alone: int
) -> None:
    """In a network of its own, and where Landlock's rules of TCP alone hold."""
    assert ask("socket", family, kind, protocol, machine=machine) == usual
    assert ask("socket", family, kind, protocol, machine=machine, choice=ALONE) == alone


@given(st.sampled_from(MACHINES), st.integers(0, 500), st.integers(0, 1 << 64).map(lambda n: n >> 1))
def test_every_call_gets_an_answer(machine: str, number: int, argument: int) -> None:
    """And one that the filter does not name is allowed, whatever its arguments."""
    code = seccomp.make_filter(USUAL, machine)
    answer = verdict(code, ARCHITECTURES[machine], number, [argument] * 6)
    assert answer in {bpf.ALLOW, REFUSED, UNKNOWN}
    if number not in NUMBERS[machine].values():
        assert answer == bpf.ALLOW


@pytest.mark.parametrize("machine", MACHINES)
def test_other_tables_are_refused(machine: str) -> None:
    """Calls of i386 on x86_64, and of x32, have other numbers."""
    code = seccomp.make_filter(USUAL, machine)
    assert verdict(code, 0x40000003, 1) == REFUSED
    assert verdict(code, ARCHITECTURES[machine], 0x40000000 | 1) == REFUSED


def test_cuda_gets_any_memory_file() -> None:
    """It makes them without a flag."""
    assert ask("memfd_create", 0, 0x1, choice=Syscalls(memory_files="any")) == bpf.ALLOW


def test_no_machine_without_a_table() -> None:
    with pytest.raises(KeyError):
        seccomp.make_filter(USUAL, "riscv64")


def test_a_jump_must_be_within_reach() -> None:
    """One byte, and forward."""
    program = bpf.Program()
    program.jump(bpf.EQUALS, 1, "far")
    for _ in range(256):
        program.give(bpf.ALLOW)
    program.label("far")
    program.give(bpf.ALLOW)
    with pytest.raises(ValueError, match="far"):
        program.assemble()
    with pytest.raises(ValueError, match="twice"):
        program.label("far")
