"""Ways to processes outside, and to what the kernel keeps for them."""

from __future__ import annotations

import ctypes
import os
import resource
import signal

from escapes.case import Facts, escape, read, syscall

PROC = ("proc", "landlock")


@escape(*PROC)
def read_a_neighbours_environment(facts: Facts) -> bool:
    return facts["secret"] in read(f"/proc/{facts['neighbour']}/environ")


@escape(*PROC)
def read_a_neighbours_memory(facts: Facts) -> bool:
    with open(f"/proc/{facts['neighbour']}/mem", "rb") as file:
        file.seek(facts["neighbour_address"])
        return len(file.read(16)) == 16


@escape(*PROC)
def reach_files_through_a_neighbours_root(facts: Facts) -> bool:
    return facts["secret"] in read(f"/proc/{facts['neighbour']}/root{facts['outside']}/secret")


@escape(*PROC)
def list_a_neighbours_open_files(facts: Facts) -> bool:
    return len([os.readlink(f"/proc/{facts['neighbour']}/fd/{name}") for name in "012"]) == 3


@escape("proc")
def read_a_neighbours_arguments(facts: Facts) -> bool:
    return facts["secret"] in read(f"/proc/{facts['neighbour']}/cmdline")


@escape("proc")
def list_the_hosts_processes(facts: Facts) -> bool:
    arguments = [read(f"/proc/{name}/cmdline") for name in os.listdir("/proc") if name.isdecimal()]
    return any(facts["secret"] in found for found in arguments)


@escape("landlock", outside=False)
def write_the_first_process(facts: Facts) -> bool:
    maps = [line.split() for line in read("/proc/1/maps").splitlines()]
    start = next(int(line[0].partition("-")[0], 16) for line in maps if "w" in line[1])
    with open("/proc/1/mem", "r+b", buffering=0) as file:
        file.seek(start)
        kept = file.read(1)
        file.seek(start)
        return file.write(kept) == 1


@escape("processes", "landlock", "syscalls")
def read_by_process_vm_readv(facts: Facts) -> bool:
    buffer = ctypes.create_string_buffer(16)
    local = (ctypes.c_uint64 * 2)(ctypes.addressof(buffer), 16)
    remote = (ctypes.c_uint64 * 2)(facts["neighbour_address"], 16)
    return syscall(310, 270, facts["neighbour"], local, 1, remote, 1, 0) == 16


@escape("processes", "landlock", "syscalls")
def trace_a_neighbour(facts: Facts) -> bool:
    syscall(101, 117, 0x4206, facts["neighbour"], 0, 0)  # PTRACE_SEIZE
    return True


@escape("processes", "landlock", "syscalls")
def take_a_neighbours_file(facts: Facts) -> bool:
    process = os.pidfd_open(facts["neighbour"])
    return syscall(438, 438, process, 0, 0) >= 0


@escape("processes", "landlock", "syscalls")
def compare_with_a_neighbour(facts: Facts) -> bool:
    return syscall(312, 272, facts["neighbour"], facts["neighbour"], 0, 0, 0) == 0


@escape("processes", "landlock-scope")
def signal_a_neighbour(facts: Facts) -> bool:
    os.kill(facts["neighbour"], signal.SIGCONT)
    return True


@escape("processes", "landlock-scope")
def signal_a_neighbour_by_pidfd(facts: Facts) -> bool:
    signal.pidfd_send_signal(os.pidfd_open(facts["neighbour"]), signal.SIGCONT)
    return True


@escape("processes")
def slow_a_neighbour_down(facts: Facts) -> bool:
    os.setpriority(os.PRIO_PROCESS, facts["neighbour"], 19)
    return True


@escape("processes")
def move_a_neighbour_to_a_processor(facts: Facts) -> bool:
    os.sched_setaffinity(facts["neighbour"], os.sched_getaffinity(facts["neighbour"]))
    return True


@escape("processes")
def limit_a_neighbour(facts: Facts) -> bool:
    resource.prlimit(facts["neighbour"], resource.RLIMIT_CORE)
    return True


@escape("ipc")
def attach_a_neighbours_shared_memory(facts: Facts) -> bool:
    return syscall(29, 194, facts["key"], 0, 0) >= 0  # shmget of one that is there


@escape("ipc")
def open_a_neighbours_message_queue(facts: Facts) -> bool:
    return syscall(68, 186, facts["key"], 0) >= 0  # msgget


@escape("ipc")
def open_a_neighbours_semaphores(facts: Facts) -> bool:
    return syscall(64, 190, facts["key"], 0, 0) >= 0  # semget


@escape("ipc", "landlock")
def open_a_neighbours_posix_queue(facts: Facts) -> bool:
    return syscall(240, 180, facts["unique"].encode(), os.O_RDONLY, 0, None) >= 0  # mq_open


@escape("syscalls")
def read_the_keyring(facts: Facts) -> bool:
    return syscall(250, 219, 0, -4, 1, 0, 0) > 0  # KEYCTL_GET_KEYRING_ID of the user's


@escape("syscalls")
def add_a_key(facts: Facts) -> bool:
    return syscall(248, 217, b"user", b"epad-escape", b"x", 1, -2) > 0


@escape("proc")
def read_the_list_of_keys(facts: Facts) -> bool:
    return len(read("/proc/keys")) > 0


@escape("cgroups")
def see_the_path_of_ones_control_group(facts: Facts) -> bool:
    return bool(os.readlink("/proc/self/ns/cgroup") == facts["cgroup_namespace"])


@escape("hostname")
def share_the_hosts_name(facts: Facts) -> bool:
    return bool(os.readlink("/proc/self/ns/uts") == facts["uts_namespace"])


@escape("limits")
def start_the_hosts_core_handler(facts: Facts) -> bool:
    return resource.getrlimit(resource.RLIMIT_CORE)[0] != 1
