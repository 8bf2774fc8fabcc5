"""Tools of the category `system`: read the host, without what identifies its people or opens its doors."""

from __future__ import annotations

import ipaddress
import os
import platform
from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated, Final

from msgspec import UNSET, Meta, UnsetType

from runners.tools import beneath, environment_shown, host_gpus, host_network, host_processes, output
from runners.tools.host_gpus import Gpu
from runners.tools.host_network import Interface
from runners.tools.host_processes import Process
from runners.tools.signature import Args, PathArg, Result, ToolError, meta


class NoArgs(Args, frozen=True):
    """Takes nothing."""


class InfoResult(Result, frozen=True):
    """Describes the host: memory in bytes."""

    os: str
    kernel: str
    cpu: str
    cpus: int
    memory: int
    memory_available: int
    python: str


SYSTEM_INFO: Final = meta(
    "system_info",
    NoArgs,
    InfoResult,
    risk="R2",
    timeout=5,
    description="Describe the host: system, kernel, processor, memory, Python.",
    examples=({},),
)


@SYSTEM_INFO.tool
async def system_info(_: NoArgs) -> InfoResult:
    """Read the files in which the kernel and the distribution tell it."""
    memory, cpu = _fields("/proc/meminfo"), _fields("/proc/cpuinfo")
    release = next(filter(None, map(_release, ("/etc/os-release", "/usr/lib/os-release"))), "Linux")
    return InfoResult(
        os=release,
        kernel=os.uname().release,
        cpu=cpu.get("model name") or cpu.get("Processor") or platform.machine(),
        cpus=os.cpu_count() or 1,
        memory=_kibibytes(memory.get("MemTotal", "")),
        memory_available=_kibibytes(memory.get("MemAvailable", "")),
        python=platform.python_version(),
    )


class ProcessArgs(Args, frozen=True):
    """Chooses processes by a part of their name."""

    name: str | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 50


class ProcessResult(Result, frozen=True):
    """Holds processes, those with the most memory first; `total` counts all that were chosen."""

    processes: list[Process]
    total: int


PROCESS_LIST: Final = meta(
    "process_list",
    ProcessArgs,
    ProcessResult,
    risk="R2",
    timeout=10,
    description="List processes: pid, name, CPU seconds, memory. No command lines.",
    examples=({}, {"name": "python", "limit": 5}),
)


@PROCESS_LIST.tool
async def process_list(args: ProcessArgs) -> ProcessResult:
    """List those that the kernel shows to who runs the tool."""
    wanted = (args.name or "").casefold()
    found = [each for each in host_processes.processes() if wanted in each.name.casefold()]
    found.sort(key=lambda each: (-each.rss, each.pid))
    kept, _ = output.cut_items(found, args.limit)
    return ProcessResult(processes=kept, total=len(found))


class EnvironmentArgs(Args, frozen=True):
    """Names variables; none: all that are shown."""

    names: Annotated[list[str], Meta(max_length=100)] = []  # noqa: RUF012 (msgspec copies it)


class EnvironmentResult(Result, frozen=True):
    """Holds values. A variable that is set and not shown is `***`; one that is not set is left out."""

    values: dict[str, str]


ENV_VARS: Final = meta(
    "env_vars",
    EnvironmentArgs,
    EnvironmentResult,
    risk="R2",
    timeout=5,
    description="Show environment variables of the host that are no secrets; others are masked.",
    examples=({}, {"names": ["PATH", "API_KEY"]}),
)


@ENV_VARS.tool
async def env_vars(args: EnvironmentArgs) -> EnvironmentResult:
    """Show what the daemon has told this worker."""
    told = environment_shown.from_environment(os.environ)
    names = args.names or [name for name, value in told.items() if value is not None]
    values = {name: told[name] or environment_shown.MASK for name in names if name in told}
    kept, _ = output.cut_items(sorted(values.items()), len(values))
    return EnvironmentResult(values=dict(kept))


class PortArgs(Args, frozen=True):
    """Names a port of this machine's loopback."""

    port: Annotated[int, Meta(ge=1, le=65535)]
    host: str = "127.0.0.1"


class PortResult(Result, frozen=True):
    """Tells if somebody listens, and who, where the kernel tells it."""

    open: bool
    owner: str | UnsetType = UNSET


PORT_CHECK: Final = meta(
    "port_check",
    PortArgs,
    PortResult,
    risk="R2",
    timeout=5,
    description="Tell if a program listens on a TCP port of the loopback. Connects to nothing.",
    examples=({"port": 22},),
)


@PORT_CHECK.tool
async def port_check(args: PortArgs) -> PortResult:
    """Look the port up in the kernel's table."""
    uid = host_network.listener(args.port, _loopback(args.host))
    owner = "" if uid is None else host_network.shown_uid(uid)
    return PortResult(open=uid is not None, owner=owner or UNSET)


def _loopback(host: str) -> host_network.Address:
    with suppress(ValueError):
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
        if address.is_loopback:
            return address
    raise ToolError(
        f"{host!r} is no loopback address of this machine",
        "127.0.0.1, ::1 or localhost; http_get asks others",
    )


class DiskArgs(Args, frozen=True):
    """Names a path of the workspace."""

    path: PathArg = "."


class DiskResult(Result, frozen=True):
    """Tells the bytes and the inodes of a file system, and how many of them are free for a tool."""

    total: int
    used: int
    free: int
    inodes: int
    inodes_free: int


DISK_USAGE: Final = meta(
    "disk_usage",
    DiskArgs,
    DiskResult,
    risk="R2",
    timeout=10,
    description="Tell the size and free space of the file system that a path of the workspace is on.",
    examples=({}, {"path": "docs"}),
)


@DISK_USAGE.tool
async def disk_usage(args: DiskArgs) -> DiskResult:
    """Ask the file system by an open descriptor."""
    descriptor = beneath.open_path(args.path, os.O_PATH)
    try:
        with beneath.translated(args.path):
            told = os.fstatvfs(descriptor)
    finally:
        os.close(descriptor)
    return DiskResult(
        total=told.f_blocks * told.f_frsize,
        used=(told.f_blocks - told.f_bfree) * told.f_frsize,
        free=told.f_bavail * told.f_frsize,
        inodes=told.f_files,
        inodes_free=told.f_favail,
    )


class GpuResult(Result, frozen=True):
    """Holds the GPUs; memory in bytes."""

    gpus: list[Gpu]


GPU_INFO: Final = meta(
    "gpu_info",
    NoArgs,
    GpuResult,
    risk="R2",
    timeout=10,
    description="List GPUs: name, memory, temperature.",
    examples=({},),
)


@GPU_INFO.tool
async def gpu_info(_: NoArgs) -> GpuResult:
    """Ask the drivers, in a process that can be killed: a driver may not answer."""
    return GpuResult(gpus=host_gpus.gpus())


class InterfaceResult(Result, frozen=True):
    """Holds interfaces."""

    interfaces: list[Interface]


NETWORK_INTERFACES: Final = meta(
    "network_interfaces",
    NoArgs,
    InterfaceResult,
    risk="R2",
    timeout=5,
    description="List the host's network interfaces with their addresses.",
    examples=({},),
)


@NETWORK_INTERFACES.tool
async def network_interfaces(_: NoArgs) -> InterfaceResult:
    """List them without their hardware addresses, by which a machine is known elsewhere."""
    kept, _more = output.cut_items(host_network.interfaces(), 1000)
    return InterfaceResult(interfaces=kept)


def _fields(path: str) -> dict[str, str]:
    """Return the first value of each name in a file of lines `name: value`."""
    found: dict[str, str] = {}
    with suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            name, _, value = line.partition(":")
            found.setdefault(name.strip(), value.strip())
    return found


def _kibibytes(text: str) -> int:
    number = text.removesuffix("kB").strip()
    return int(number) << 10 if number.isdecimal() else 0


def _release(path: str) -> str:
    return next(_pretty(path), "")


def _pretty(path: str) -> Iterator[str]:
    with suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("PRETTY_NAME="):
                yield line.partition("=")[2].strip().strip("\"'")


TOOLS: Final = (
    DISK_USAGE,
    ENV_VARS,
    GPU_INFO,
    NETWORK_INTERFACES,
    PORT_CHECK,
    PROCESS_LIST,
    SYSTEM_INFO,
)
