"""Ways through the kernel's other doors: namespaces, memory that is executed, and calls with a past."""

from __future__ import annotations

import ctypes
import os
import resource
import signal

from escapes.case import LIBC, Facts, escape, syscall

NEW_USER = 0x10000000


@escape("syscalls")
def make_a_user_namespace(facts: Facts) -> bool:
    return int(LIBC.unshare(NEW_USER)) == 0


@escape("syscalls")
def clone_into_a_user_namespace(facts: Facts) -> bool:
    pid = syscall(56, 220, NEW_USER | signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return True


@escape("syscalls")
def clone3_into_a_user_namespace(facts: Facts) -> bool:
    arguments = (ctypes.c_uint64 * 8)(NEW_USER, 0, 0, 0, signal.SIGCHLD, 0, 0, 0)
    pid = syscall(435, 435, arguments, ctypes.sizeof(arguments))
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return True


@escape("syscalls", "landlock", "privileges", outside=False)
def mount_a_file_system(facts: Facts) -> bool:
    return int(LIBC.mount(b"tmpfs", b"/tmp", b"tmpfs", ctypes.c_ulong(0), None)) == 0


@escape("syscalls", "landlock", "privileges", outside=False)
def unmount_a_cover(facts: Facts) -> bool:
    return int(LIBC.umount2(f"{facts['workspace']}/.git/hooks".encode(), 2)) == 0


@escape("syscalls", "privileges", outside=False)
def change_the_root(facts: Facts) -> bool:
    os.chroot("/tmp")
    return True


@escape("syscalls", optional=True)
def set_an_io_uring_up(facts: Facts) -> bool:
    return syscall(425, 425, 4, ctypes.create_string_buffer(120)) >= 0


@escape("syscalls", optional=True)
def catch_page_faults(facts: Facts) -> bool:
    return syscall(323, 282, 1 | os.O_CLOEXEC) >= 0  # UFFD_USER_MODE_ONLY: anybody's


@escape("syscalls")
def take_the_handle_of_a_file(facts: Facts) -> bool:
    handle = (ctypes.c_uint32 * 34)(128)
    mount_id = ctypes.c_int()
    return syscall(303, 264, -100, b"/usr", handle, ctypes.byref(mount_id), 0) == 0


@escape("syscalls")
def trace_a_child(facts: Facts) -> bool:
    return syscall(101, 117, 0, 0, 0, 0) == 0  # PTRACE_TRACEME


@escape("syscalls")
def execute_a_file_of_memory(facts: Facts) -> bool:
    file = os.memfd_create("x", os.MFD_CLOEXEC)
    with open("/usr/bin/true", "rb") as program:
        os.write(file, program.read())
    pid = os.fork()
    if pid == 0:
        try:
            os.execve(file, ["true"], {})
        finally:
            os._exit(1)
    return os.waitpid(pid, 0)[1] == 0


@escape("syscalls")
def execute_a_file_of_memory_by_its_flag(facts: Facts) -> bool:
    return os.memfd_create("x", 0x10) >= 0  # MFD_EXEC


@escape("syscalls")
def read_the_clocks_state(facts: Facts) -> bool:
    return int(LIBC.adjtimex(ctypes.create_string_buffer(208))) >= 0


@escape("syscalls", optional=True)
def encrypt_in_the_kernel(facts: Facts) -> bool:
    """AF_ALG: a large interface, the way of several escalations."""
    return syscall(41, 198, 38, 5, 0) >= 0


@escape("syscalls", optional=True)
def speak_to_the_hypervisor(facts: Facts) -> bool:
    return syscall(41, 198, 40, 1, 0) >= 0  # AF_VSOCK


@escape("syscalls", optional=True)
def change_the_table_of_segments(facts: Facts) -> bool:
    if os.uname().machine != "x86_64":
        return int(LIBC.adjtimex(ctypes.create_string_buffer(208))) >= 0
    return syscall(154, 0, 0, ctypes.create_string_buffer(16), 16) >= 0  # modify_ldt, read


@escape("limits")
def fork_without_end(facts: Facts) -> bool:
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    return soft > 4_096 or soft < 0


@escape("privileges", outside=False)
def keep_a_capability(facts: Facts) -> bool:
    with open("/proc/self/status", encoding="utf-8") as file:
        line = next(line for line in file if line.startswith("CapEff"))
    return int(line.split()[1], 16) != 0
