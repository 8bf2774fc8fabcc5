"""Call the kernel where Python has no function of its own for it. Every failure is an OSError that names the call."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Mapping
from typing import Any, Final

_LIBC = ctypes.CDLL(None, use_errno=True)

CLONE_NEWNS: Final = 0x00020000
CLONE_NEWCGROUP: Final = 0x02000000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000

MS_NOSUID: Final = 2
MS_NODEV: Final = 4
MS_NOEXEC: Final = 8
MS_REC: Final = 1 << 14
MS_PRIVATE: Final = 1 << 18
MNT_DETACH: Final = 2

MOUNT_ATTR_RDONLY: Final = 1
MOUNT_ATTR_NOSUID: Final = 2
MOUNT_ATTR_NODEV: Final = 4
MOUNT_ATTR_NOEXEC: Final = 8

AT_FDCWD: Final = -100
AT_EMPTY_PATH: Final = 0x1000
AT_RECURSIVE: Final = 0x8000
OPEN_TREE_CLONE: Final = 1
OPEN_TREE_CLOEXEC: Final = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH: Final = 0x04
MOVE_MOUNT_T_EMPTY_PATH: Final = 0x40

RESOLVE_NO_MAGICLINKS: Final = 0x02
RESOLVE_NO_SYMLINKS: Final = 0x04
RESOLVE_BENEATH: Final = 0x08

RENAME_NOREPLACE: Final = 1

PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4
PR_SET_NAME: Final = 15
PR_CAPBSET_DROP: Final = 24
PR_SET_NO_NEW_PRIVS: Final = 38
PR_CAP_AMBIENT: Final = 47
PR_CAP_AMBIENT_CLEAR_ALL: Final = 4

# The calls that have the same number on every architecture, being newer than the common table (Linux 5.1).
_COMMON: Final = {
    "open_tree": 428,
    "move_mount": 429,
    "openat2": 437,
    "mount_setattr": 442,
    "landlock_create_ruleset": 444,
    "landlock_add_rule": 445,
    "landlock_restrict_self": 446,
}
_OF_MACHINE: Final[Mapping[str, Mapping[str, int]]] = {
    "x86_64": {"pivot_root": 155, "renameat2": 316, "seccomp": 317},
    "aarch64": {"pivot_root": 41, "renameat2": 276, "seccomp": 277},
}
_NUMBERS: Final = {**_COMMON, **_OF_MACHINE.get(os.uname().machine, {})}


def syscall(name: str, *arguments: Any) -> int:
    """Make a system call by its name. Raises OSError, ENOSYS too where its number is not known here."""
    number = _NUMBERS.get(name, -1)
    return check(name, _LIBC.syscall(ctypes.c_long(number), *map(_word, arguments)))


def unshare(flags: int) -> None:
    """Leave namespaces for new ones. Raises OSError."""
    try:
        check("unshare", _LIBC.unshare(flags))
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise OSError(
                error.errno, "unshare: the limit of them is reached (sysctl user.max_*_namespaces)"
            ) from error
        raise


def join(descriptor: int, flags: int) -> None:
    """Join the namespaces of the process that a pidfd is of. Raises OSError."""
    check("setns", _LIBC.setns(descriptor, flags))


def prctl(option: int, value: Any, *, what: str = "prctl") -> int:
    """Call prctl with one argument. Raises OSError."""
    return check(what, _LIBC.prctl(option, _word(value), _word(0), _word(0), _word(0)))


def mount(kind: str, target: str, flags: int, data: str = "") -> None:
    """Mount a new file system of a kind. Raises OSError."""
    name = kind.encode()
    done = _LIBC.mount(name, os.fsencode(target), name, ctypes.c_ulong(flags), data.encode())
    check(f"mount {kind} on {target}", done)


def make_private(target: str) -> None:
    """Let mounts made below a place not be seen elsewhere, nor others' here. Raises OSError."""
    done = _LIBC.mount(None, os.fsencode(target), None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None)
    check(f"make {target} private", done)


def unmount(target: str) -> None:
    """Take a mount away, with all below it. Raises OSError."""
    check(f"unmount {target}", _LIBC.umount2(os.fsencode(target), MNT_DETACH))


def clone_mount(descriptor: int, *, what: str) -> int:
    """Return a descriptor of a detached copy of the tree at an open path, with all mounts below. Raises OSError."""
    flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE | AT_EMPTY_PATH
    try:
        return syscall("open_tree", descriptor, b"", flags)
    except OSError as error:
        raise OSError(error.errno, f"copy the mount of {what}: {os.strerror(error.errno or 0)}") from error


def set_mount_attributes(descriptor: int, attributes: int, *, recursive: bool = True) -> None:
    """Add attributes to an open mount, and to all below it. Raises OSError."""
    structure = (ctypes.c_uint64 * 4)(attributes, 0, 0, 0)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    syscall("mount_setattr", descriptor, b"", flags, structure, ctypes.sizeof(structure))


def attach_mount(mount_descriptor: int, target_descriptor: int, *, what: str) -> None:
    """Put a detached mount on an open place. Raises OSError."""
    flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    try:
        syscall("move_mount", mount_descriptor, b"", target_descriptor, b"", flags)
    except OSError as error:
        raise OSError(error.errno, f"mount on {what}: {os.strerror(error.errno or 0)}") from error


def open_beneath(directory: int, path: str, flags: int) -> int:
    """Open a path that neither leaves a directory nor goes through a symbolic link. Raises OSError."""
    how = (ctypes.c_uint64 * 3)(flags | os.O_CLOEXEC, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
    try:
        return syscall("openat2", directory, os.fsencode(path), how, ctypes.sizeof(how))
    except OSError as error:
        raise OSError(error.errno, f"{os.strerror(error.errno or 0)}, or a symbolic link: {path}") from error


def drop_capabilities() -> None:
    """Give up every capability, and the way to any through exec. Raises OSError."""
    last = int(_read("/proc/sys/kernel/cap_last_cap"))
    for capability in range(last + 1):
        _drop_from_bounding_set(capability)
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, what="clear ambient capabilities")


def clear_capabilities() -> None:
    """Clear the process's own sets. Raises OSError."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)()
    check("capset", _LIBC.capset(header, data))


def _drop_from_bounding_set(capability: int) -> None:
    try:
        prctl(PR_CAPBSET_DROP, capability, what=f"drop capability {capability}")
    except PermissionError:
        # Who has no CAP_SETPCAP cannot empty the set; no_new_privs closes the way through exec all the same.
        return


def no_new_privileges() -> None:
    """Make exec grant no privileges from now on. Raises OSError."""
    prctl(PR_SET_NO_NEW_PRIVS, 1, what="no_new_privs")


def check(what: str, value: int) -> int:
    """Return the value of a call, or raise its error with the call's name."""
    if value < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return value


def _word(value: Any) -> Any:
    return ctypes.c_long(value) if isinstance(value, int) else value


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()
