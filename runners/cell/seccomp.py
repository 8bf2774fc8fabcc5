"""Filter the system calls of a cell: refuse those that lead out of it, or that nothing in it needs.

A filter of refusals, not of permissions: agents run programs that nobody has listed. Arguments are looked at where a
call is harmless but for some of them. The filter cannot read the memory behind a pointer, so paths and addresses are
the other walls' to hold; `clone3` keeps its flags there, and fails as on a kernel that lacks it: C libraries use
`clone` then.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from runners.cell import bpf, kernel
from runners.cell.plan import Syscalls
from runners.cell.syscall_numbers import ARCHITECTURES, NUMBERS

_REFUSED: Final = bpf.errno_of(errno.EPERM)
_UNKNOWN: Final = bpf.errno_of(errno.ENOSYS)
_X32_BIT: Final = 0x40000000
_SET_MODE_FILTER: Final = 1
_ANY_NAMESPACE: Final = (
    kernel.CLONE_NEWNS
    | kernel.CLONE_NEWCGROUP
    | kernel.CLONE_NEWUTS
    | kernel.CLONE_NEWIPC
    | kernel.CLONE_NEWUSER
    | kernel.CLONE_NEWPID
    | kernel.CLONE_NEWNET
)

DENIED: Final = (
    *("ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp", "pidfd_getfd"),
    *("mount", "umount2", "pivot_root", "chroot", "open_tree", "open_tree_attr", "move_mount"),
    *("fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr", "unshare", "setns"),
    *("io_uring_setup", "io_uring_enter", "io_uring_register"),
    *("add_key", "request_key", "keyctl"),
    *("bpf", "perf_event_open", "userfaultfd", "fanotify_init", "name_to_handle_at", "open_by_handle_at"),
    *("kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module"),
    *(
        "reboot",
        "swapon",
        "swapoff",
        "acct",
        "quotactl",
        "quotactl_fd",
        "syslog",
        "iopl",
        "ioperm",
        "vhangup",
    ),
    *("settimeofday", "clock_settime", "clock_adjtime", "adjtimex", "sethostname", "setdomainname"),
    *("lookup_dcookie", "nfsservctl", "move_pages", "migrate_pages", "set_mempolicy_home_node"),
    *("modify_ldt", "uselib", "_sysctl"),
)
"""Refused whatever their arguments."""

_CHOICES: Final = 8
"""Of two values each, three times."""
_TIOCSTI: Final = 0x5412
_TIOCLINUX: Final = 0x541C
_TYPE_BITS: Final = 0xF
_MSG_FASTOPEN: Final = 0x20000000
_TCP_FASTOPEN: Final = 23
_TCP_FASTOPEN_CONNECT: Final = 30
_TCP_ULP: Final = 31
_MFD_NOEXEC_SEAL: Final = 0x8
_MFD_EXEC: Final = 0x10


def install(choice: Syscalls) -> None:
    """Hold this process and all it becomes to the filter. Raises OSError."""
    machine = os.uname().machine
    if machine not in NUMBERS:
        raise OSError(errno.ENOSYS, f"no table of system calls for {machine}")
    code = make_filter(choice, machine)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer))
    kernel.no_new_privileges()
    kernel.syscall("seccomp", _SET_MODE_FILTER, 0, program)


def prepare(choice: Syscalls) -> None:
    """Have the filter ready for `install`, where this machine has one."""
    if (machine := os.uname().machine) in NUMBERS:
        make_filter(choice, machine)


@lru_cache(maxsize=_CHOICES)
def make_filter(choice: Syscalls, machine: str) -> bytes:
    """Return the filter for a machine of this name. Raises KeyError for one without a table."""
    return _Filter(choice, NUMBERS[machine], ARCHITECTURES[machine]).assemble()


class _Filter:
    """Writes the filter: one block a call, reached if the number in the accumulator is the call's."""

    def __init__(self, choice: Syscalls, numbers: Mapping[str, int], architecture: int) -> None:
        self._choice = choice
        self._numbers = numbers
        self._architecture = architecture
        self._program = bpf.Program()

    def assemble(self) -> bytes:
        program = self._program
        program.load(bpf.ARCHITECTURE_OFFSET)
        program.jump(bpf.EQUALS, self._architecture, "known architecture")
        program.give(_REFUSED)
        program.label("known architecture")
        program.load(bpf.NUMBER_OFFSET)
        program.jump(bpf.AT_LEAST, _X32_BIT, "", "native")
        program.give(_REFUSED)  # x86_64's second table, whose numbers differ
        program.label("native")
        for name in DENIED:
            self._deny(name)
        self._begin("clone3")
        program.give(_UNKNOWN)
        self._end("clone3")
        self._deny_bits("clone", 0, _ANY_NAMESPACE)
        self._deny_values("ioctl", 1, (_TIOCSTI, _TIOCLINUX))
        self._allow_sockets()
        self._allow_socket_pairs()
        # TCP fast open connects without `connect`, which Landlock does not see (Linux 6.18).
        self._deny_bits("sendto", 3, _MSG_FASTOPEN)
        self._deny_bits("sendmsg", 2, _MSG_FASTOPEN)
        self._deny_bits("sendmmsg", 3, _MSG_FASTOPEN)
        self._deny_tcp_options()
        self._hold_memory_files()
        program.give(bpf.ALLOW)
        return program.assemble()

    def _begin(self, name: str) -> None:
        self._program.jump(bpf.EQUALS, self._numbers[name], "", f"after {name}")

    def _end(self, name: str) -> None:
        self._program.label(f"after {name}")

    def _deny(self, name: str) -> None:
        if name in self._numbers:
            self._begin(name)
            self._program.give(_REFUSED)
            self._end(name)

    def _deny_bits(self, name: str, argument: int, bits: int) -> None:
        program = self._program
        self._begin(name)
        program.load(bpf.argument(argument))
        program.jump(bpf.ANY_BIT, bits, "", f"{name} allowed")
        program.give(_REFUSED)
        program.label(f"{name} allowed")
        program.give(bpf.ALLOW)
        self._end(name)

    def _deny_values(self, name: str, argument: int, values: tuple[int, ...]) -> None:
        program = self._program
        self._begin(name)
        program.load(bpf.argument(argument))
        for value in values:
            program.jump(bpf.EQUALS, value, f"{name} refused")
        program.give(bpf.ALLOW)
        program.label(f"{name} refused")
        program.give(_REFUSED)
        self._end(name)

    def _allow_sockets(self) -> None:
        """Allow TCP, and as chosen UDP and Unix sockets; of netlink the protocol that lists interfaces."""
        program = self._program
        self._begin("socket")
        program.load(bpf.argument(0))
        program.jump(bpf.EQUALS, socket.AF_UNIX, "socket allowed" if self._choice.unix_sockets else "unix")
        program.jump(bpf.EQUALS, socket.AF_NETLINK, "netlink")
        program.jump(bpf.EQUALS, socket.AF_INET, "internet")
        program.jump(bpf.EQUALS, socket.AF_INET6, "internet")
        program.give(_REFUSED)
        program.label("netlink")
        program.load(bpf.argument(2))
        program.jump(bpf.EQUALS, socket.NETLINK_ROUTE, "socket allowed", "socket refused")
        program.label("unix")
        program.load(bpf.argument(1))
        program.mask(_TYPE_BITS)
        program.jump(bpf.EQUALS, socket.SOCK_DGRAM, "socket allowed", "socket refused")
        program.label("internet")
        program.load(bpf.argument(1))
        program.mask(_TYPE_BITS)
        program.jump(bpf.EQUALS, socket.SOCK_STREAM, "stream")
        if self._choice.datagrams:
            program.jump(bpf.EQUALS, socket.SOCK_DGRAM, "datagram")
        program.give(_REFUSED)
        # By protocol too: MPTCP and SCTP are streams that Landlock's rules of TCP do not see, ICMP a datagram.
        self._allow_protocol("stream", socket.IPPROTO_TCP)
        if self._choice.datagrams:
            self._allow_protocol("datagram", socket.IPPROTO_UDP)
        program.label("socket refused")
        program.give(_REFUSED)
        program.label("socket allowed")
        program.give(bpf.ALLOW)
        self._end("socket")

    def _allow_protocol(self, label: str, protocol: int) -> None:
        program = self._program
        program.label(label)
        program.load(bpf.argument(2))
        program.jump(bpf.EQUALS, 0, "socket allowed")
        program.jump(bpf.EQUALS, protocol, "socket allowed", "socket refused")

    def _allow_socket_pairs(self) -> None:
        program = self._program
        self._begin("socketpair")
        program.load(bpf.argument(0))
        program.jump(bpf.EQUALS, socket.AF_UNIX, "socketpair allowed")
        program.give(_REFUSED)
        program.label("socketpair allowed")
        program.give(bpf.ALLOW)
        self._end("socketpair")

    def _deny_tcp_options(self) -> None:
        program = self._program
        self._begin("setsockopt")
        program.load(bpf.argument(1))
        program.jump(bpf.EQUALS, socket.IPPROTO_TCP, "", "option allowed")
        program.load(bpf.argument(2))
        for option in (_TCP_FASTOPEN, _TCP_FASTOPEN_CONNECT, _TCP_ULP):
            program.jump(bpf.EQUALS, option, "option refused")
        program.label("option allowed")
        program.give(bpf.ALLOW)
        program.label("option refused")
        program.give(_REFUSED)
        self._end("setsockopt")

    def _hold_memory_files(self) -> None:
        """Allow files of memory only with the seal that keeps them from being executed.

        Without a flag the kernel makes them executable (vm.memfd_noexec 0), so a missing flag is refused too. The
        error is that of a kernel without the call: programs that need no such file fall back to others then.
        """
        if self._choice.memory_files == "any":
            return
        program = self._program
        self._begin("memfd_create")
        program.load(bpf.argument(1))
        program.mask(_MFD_NOEXEC_SEAL | _MFD_EXEC)
        program.jump(bpf.EQUALS, _MFD_NOEXEC_SEAL, "memory file allowed")
        program.give(_UNKNOWN)
        program.label("memory file allowed")
        program.give(bpf.ALLOW)
        self._end("memfd_create")
